//! Files that are whole or not there.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Writes a file beside `path` and renames it, so that nobody ever finds half of it there. What is no regular
/// file (a device, a pipe) is written to as it is; of a link, the file that it leads to is replaced.
///
/// # Errors
/// A folder that is not there, by name, and those of the file system; a file at `path` is then as it was.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = match fs::metadata(path) {
        Ok(found) if !found.is_file() => return fs::write(path, bytes),
        Ok(_) => fs::canonicalize(path)?,
        Err(_) => path.to_owned(),
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let missing = format!("there is no folder {}", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, missing));
    }
    let mut file = beside(folder)?;
    file.write_all(bytes)?;
    if let Ok(found) = fs::metadata(&path) {
        file.as_file().set_permissions(found.permissions())?;
    }
    file.persist(&path)?;
    Ok(())
}

/// Refuses to write over what a command reads.
///
/// # Errors
/// A file of `inputs` at `path`, by name.
pub fn ensure_apart<'a>(path: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> anyhow::Result<()> {
    let Ok(own) = fs::canonicalize(path) else { return Ok(()) };
    for input in inputs {
        let same = fs::canonicalize(input).is_ok_and(|input| input == own);
        anyhow::ensure!(
            !same || !own.is_file(),
            "{}: is read, and would be overwritten; choose another name",
            path.display()
        );
    }
    Ok(())
}

/// A new file with the permissions that new files have here, not a temporary one's.
fn beside(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".flatmin-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    // The crate's error names the temporary file, which means nothing to the user.
    builder.tempfile_in(folder).map_err(|error| error.kind().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_as_a_whole_and_nothing_is_left_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.bin");
        write_file(&path, b"first").unwrap();
        write_file(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);

        let nowhere = write_file(&folder.path().join("none/out.bin"), b"").unwrap_err();
        assert_eq!(nowhere.kind(), io::ErrorKind::NotFound);
        let missing = folder.path().join("none").display().to_string();
        assert!(nowhere.to_string().contains(&missing), "{nowhere}");
        // A folder in its place: neither is touched.
        fs::create_dir(folder.path().join("folder")).unwrap();
        assert!(write_file(&folder.path().join("folder"), b"x").is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_stay_and_devices_are_not_replaced() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("out.bin"), folder.path().join("link"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&path, &link).unwrap();
        write_file(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);

        let plain = folder.path().join("plain");
        fs::write(&plain, "").unwrap();
        let fresh = folder.path().join("fresh");
        write_file(&fresh, b"").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&fresh), mode(&plain));

        write_file(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
