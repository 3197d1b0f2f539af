//! The command line of `flatmin`.

mod answer;
mod arguments;
mod commands;
mod notes;

use clap::Parser;
use commands::Cli;
use std::io::IsTerminal;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before parsing: what clap refuses is an error as well.
    let json = std::env::args_os().any(|argument| argument == "--json");
    let cli = match Cli::try_parse_from(notes::after_the_command(std::env::args_os())) {
        Err(refusal) if json && refusal.use_stderr() => {
            let message = plain(&refusal.render().to_string());
            eprintln!("{}", refusal_document(message.trim(), &[]));
            return ExitCode::from(2);
        }
        Err(refusal) if refusal.use_stderr() => {
            let rendered = refusal.render();
            let styled = std::io::stderr().is_terminal();
            let text = if styled { rendered.ansi().to_string() } else { rendered.to_string() };
            eprint!("{}", plain(&text));
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

/// A refusal in which Rust's own words for what is no number are everybody's.
fn plain(refusal: &str) -> String {
    let words = [
        ("invalid digit found in string", "expected a whole number"),
        ("cannot parse integer from empty string", "expected a whole number"),
        ("invalid float literal", "expected a number"),
        ("cannot parse float from empty string", "expected a number"),
    ];
    words.iter().fold(refusal.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Why there is no answer, on one line.
fn refusal_document(error: &str, causes: &[String]) -> String {
    let content = serde_json::json!({ "error": error, "causes": causes });
    flatmin_model::json::line(&content).unwrap_or_else(|_| content.to_string())
}
