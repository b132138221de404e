//! The command's readers of foreign bytes, for the fuzz targets. Not for use otherwise: it changes and goes without notice.

use std::collections::BTreeMap;

use waterwheel::config::ConfigError;

use crate::file::WorkerFile;
use crate::records::parse_record;
use crate::run::exec::protocol;

/// Reads a text as a worker file, in an environment without variables; its mistakes if it has any.
pub fn worker_file(text: &str) -> Result<(), Vec<ConfigError>> {
    WorkerFile::parse(text, "w.toml", &BTreeMap::new(), &|_| None).map(drop)
}

/// Reads what a handler's process wrote in a line; what is wrong with it otherwise.
pub fn exec_line(line: &[u8]) -> Result<(), String> {
    protocol::parse(line).map(drop)
}

/// Reads a record as `consume -J` writes it; what is wrong with it otherwise.
pub fn record_line(line: &[u8]) -> Result<(), String> {
    parse_record(line).map(drop)
}
