//! The command line of `flatmin`.

mod answer;
mod arguments;
mod commands;

use clap::Parser;
use commands::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before parsing: what clap refuses is an error as well.
    let json = std::env::args_os().any(|argument| argument == "--json");
    let cli = match Cli::try_parse() {
        Err(refusal) if json && refusal.use_stderr() => {
            let message = refusal.render().to_string();
            eprintln!("{}", serde_json::json!({ "error": message.trim(), "causes": [] }));
            return ExitCode::from(2);
        }
        Err(refusal) => refusal.exit(),
        Ok(cli) => cli,
    };
    match cli.run() {
        Ok(code) => code,
        Err(error) if json => {
            let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
            eprintln!("{}", serde_json::json!({ "error": format!("{error:#}"), "causes": causes }));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("flatmin: {error:#}");
            ExitCode::FAILURE
        }
    }
}
