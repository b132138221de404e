//! Folders among the temporary files that only this user can look into.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// A new folder that nobody else has; whoever asks for it removes it.
pub(crate) fn temporary(purpose: &str) -> io::Result<PathBuf> {
    let id = std::process::id();
    for number in 0..100 {
        let folder = std::env::temp_dir().join(format!("waterwheel-{purpose}-{id}-{number}"));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| folder),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
