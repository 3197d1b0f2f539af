//! The command line of `flatmin`.

mod answer;
mod arguments;
mod commands;
mod notes;

use clap::Parser;
use commands::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before parsing: what clap refuses is an error as well.
    let json = std::env::args_os().any(|argument| argument == "--json");
    let cli = match Cli::try_parse_from(notes::after_the_command(std::env::args_os())) {
        Err(refusal) if json && refusal.use_stderr() => {
            let message = refusal.render().to_string();
            eprintln!("{}", refusal_document(message.trim(), &[]));
            return ExitCode::from(2);
        }
        Err(refusal) => refusal.exit(),
        Ok(cli) => cli,
    };
    match cli.run() {
        Ok(code) => code,
        Err(error) if error.is::<clap::Error>() => {
            // Found after parsing, in a recipe's file.
            let text = error.to_string();
            if json {
                eprintln!("{}", refusal_document(text.trim(), &[]));
            } else {
                eprint!("{text}");
            }
            ExitCode::from(2)
        }
        Err(error) if json => {
            let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
            eprintln!("{}", refusal_document(&format!("{error:#}"), &causes));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("flatmin: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Why there is no answer, on one line.
fn refusal_document(error: &str, causes: &[String]) -> String {
    let content = serde_json::json!({ "error": error, "causes": causes });
    flatmin_model::json::line(&content).unwrap_or_else(|_| content.to_string())
}
