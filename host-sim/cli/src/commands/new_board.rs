//! `flatmin new-board`: a further board's crate.

use crate::answer::{print, print_json};
use anyhow::Result;
use clap::Args;
use flatmin_link::new_board::{Memory, NewBoard};
use std::path::PathBuf;

/// Begin a further board: a crate that builds and runs, with TO DO where the chip's drivers go
#[derive(Debug, Args)]
#[command(
    after_help = "Example: flatmin new-board nucleo-f429zi --chip STM32F429ZITx --flash 0x08000000:2M \
    --ram 0x20000000:192K"
)]
pub struct Arguments {
    /// The crate's name and the board's: small letters, digits, hyphens
    name: String,
    /// The chip, as probe-rs calls it
    #[arg(long)]
    chip: String,
    /// The chip's flash, as far as the firmware may have it: address and size
    #[arg(long, value_name = "ADDRESS:SIZE")]
    flash: Memory,
    /// The chip's RAM, in one piece
    #[arg(long, value_name = "ADDRESS:SIZE")]
    ram: Memory,
    /// rustc's target (default: that of the chip, if it is known)
    #[arg(long)]
    target: Option<String>,
    /// The model, as `flatmin pack` wrote it (default: the bundled one, two layers of which take 131 KiB)
    #[arg(long)]
    pack: Option<PathBuf>,
    /// Make it in this folder (default: this checkout's boards)
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { name, chip, flash, ram, target, pack, folder, json } = arguments;
    let board = NewBoard::new(name, chip, target.as_deref(), [*flash, *ram], pack.as_deref())?;
    let written = board.write(folder.as_deref())?;
    let (target, capacity) = (board.target(), board.capacity());
    if *json {
        let object = serde_json::json!({ "folder": written, "target": target, "replay_capacity": capacity });
        return print_json(object);
    }
    print(format_args!(
        "{}: {target}, room for {capacity} samples; what is left says TO DO\n\
         there, `cargo run --release` builds and flashes it",
        written.display()
    ))
}
