//! `flatmin completions`, `man` and `schema`: what shells, `man` and programs are told of the commands.

use super::Cli;
use crate::answer::print;
use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  flatmin completions bash > ~/.local/share/bash-completion/completions/flatmin\n  \
    flatmin completions zsh > ~/.zfunc/_flatmin\n  flatmin completions fish > ~/.config/fish/completions/flatmin.fish"
)]
pub struct Completions {
    shell: Shell,
}

/// Print the manual page, of all of flatmin or of one command
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  flatmin man > ~/.local/share/man/man1/flatmin.1\n  flatmin man tune | man -l -"
)]
pub struct Man {
    /// Command, and a command of it
    #[arg(value_name = "COMMAND")]
    path: Vec<String>,
}

/// Print the JSON Schema of what --json prints
#[derive(Debug, Args)]
#[command(after_help = "Example: flatmin schema > flatmin.schema.json")]
pub struct Schema {}

impl Schema {
    pub fn run(&self) -> Result<()> {
        print(include_str!("../schema.json").trim_end())
    }
}

impl Completions {
    pub fn run(&self) -> Result<()> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "flatmin", &mut text);
        print(String::from_utf8(text)?.trim_end())
    }
}

impl Man {
    pub fn run(&self) -> Result<()> {
        let mut command = Cli::command();
        command.build();
        for name in &self.path {
            let Some(own) = command.find_subcommand(name) else {
                let names: Vec<_> = command.get_subcommands().map(|own| own.get_name().to_owned()).collect();
                anyhow::bail!("no command `{name}`; there are {}", names.join(", "));
            };
            command = own.clone();
        }
        let mut text = Vec::new();
        clap_mangen::Man::new(command).render(&mut text)?;
        print(String::from_utf8(text)?.trim_end())
    }
}
