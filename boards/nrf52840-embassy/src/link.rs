//! The link's task: letters in, lines out.

use crate::tuning::News;
use crate::{COMMANDS, NEWS};
use core::fmt::Write as _;
use embassy_futures::join::join;
use embassy_nrf::uarte::Uarte;
use heapless::String;

/// What the link asks for.
#[derive(Clone, Copy)]
pub enum Command {
    /// What is seen from now on is of this class, or of none that is known.
    Label(Option<usize>),
    /// A tuning run.
    Tune,
}

/// Serves the line for ever.
#[embassy_executor::task]
pub async fn serve(uart: Uarte<'static>) {
    let (mut out, mut incoming) = uart.split();
    let reading = async {
        loop {
            let mut letter = [0];
            // A byte that came damaged is not asked for again: whoever typed it sees no answer.
            if incoming.read(&mut letter).await.is_err() {
                continue;
            }
            let command = match letter[0] {
                digit @ b'0'..=b'9' => Command::Label(Some(usize::from(digit - b'0'))),
                b'-' => Command::Label(None),
                b't' => Command::Tune,
                _ => continue,
            };
            COMMANDS.send(command).await;
        }
    };
    let writing = async {
        loop {
            let mut line = String::<80>::new();
            // What is too long for a line is cut off.
            let _ = match NEWS.receive().await {
                News::Class { label, tuned } => {
                    write!(line, "class {label}{}", if tuned { ", tuned" } else { "" })
                }
                News::Kept { samples } => write!(line, "{samples} samples kept"),
                News::Tuned { accepted, crc32 } => {
                    write!(line, "tuned, accepted: {accepted}, CRC-32 {crc32:#010x}")
                }
                News::Refused(why) => write!(line, "{why}"),
            };
            let _ = line.push_str("\r\n");
            // The line is in RAM, where DMA reaches it; one that is not listened to is no reason to stop.
            let _ = out.write(line.as_bytes()).await;
        }
    };
    join(reading, writing).await;
}
