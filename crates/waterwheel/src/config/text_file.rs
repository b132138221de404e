//! Reading a small text file without being led astray: regular files only, bounded, UTF-8.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::error::ConfigError;

/// The text of a regular file of at most `max_bytes`; a directory, FIFO or device is refused before it is opened.
pub fn read_text_file(path: &Path, max_bytes: u64) -> Result<String, ConfigError> {
    let file = path.display().to_string();
    let refuse = |problem: String| ConfigError::new("", problem).in_file(file.clone());
    let bytes = read_bounded(path, max_bytes).map_err(refuse)?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        ConfigError::new("", "the file is not UTF-8")
            .at(file.clone(), line, column)
            .remedy("save it as UTF-8 (from latin-1: iconv -f latin1 -t utf8)")
    })
}

fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| reason(&error))?;
    if metadata.is_dir() {
        return Err("is a directory".into());
    }
    if !metadata.is_file() {
        return Err("is not a regular file".into());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| reason(&error))?;
    // One more than allowed, so that a file that grows or lies about its size is noticed.
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(|error| reason(&error))?;
    if bytes.len() as u64 > max_bytes {
        return Err(format!("is larger than {} KiB", max_bytes / 1024));
    }
    Ok(bytes)
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file".into(),
        ErrorKind::PermissionDenied => "may not be read: permission denied".into(),
        kind => format!("cannot be read: {kind}"),
    }
}
