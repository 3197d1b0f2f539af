//! The file with a device's key: 64 hexadecimal digits, readable by its owner alone.

use anyhow::{Context, Result, ensure};
use flatmin::wire::signed::{KEY_BYTES, Key};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// The key in the file.
///
/// # Errors
/// No such file, or one with no key in it.
pub fn read(path: &Path) -> Result<Key> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the key {}", path.display()))?;
    let digits = text.trim();
    let bytes =
        (0..KEY_BYTES).map(|i| digits.get(2 * i..2 * i + 2).and_then(|two| u8::from_str_radix(two, 16).ok()));
    let bytes: Option<Vec<u8>> = bytes.collect();
    let key = bytes.filter(|_| digits.len() == 2 * KEY_BYTES && !digits.contains('+'));
    let key = key.and_then(|bytes| bytes.try_into().ok()).map(Key::new);
    key.with_context(|| format!("{}: a key is 64 hexadecimal digits", path.display()))
}

/// Makes a random key, in a new file.
///
/// # Errors
/// A file that is there already, or a system without random bytes.
pub fn make(path: &Path) -> Result<Key> {
    let mut bytes = [0; KEY_BYTES];
    ensure!(getrandom::fill(&mut bytes).is_ok(), "the system gives no random bytes");
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).with_context(|| format!("cannot make the key {}", path.display()))?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(file, "{digits}").and_then(|()| file.sync_all()).with_context(|| path.display().to_string())?;
    Ok(Key::new(bytes))
}
