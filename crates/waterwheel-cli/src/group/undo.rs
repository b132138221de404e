//! Undo files: what a group had committed before it was changed, commit maps included.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use waterwheel::TopicPartition;
use waterwheel::admin::Committed;
use waterwheel::config::read_text_file;

use crate::exit::{Exit, Failure};
use crate::words::now_ms;

/// 100,000 partitions with full commit maps, three bytes a character.
const MAX_BYTES: u64 = 2 * 1024 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Of the format.
    version: u32,
    group: String,
    /// Milliseconds since the Unix epoch.
    written: u64,
    offsets: Vec<Offset>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Offset {
    topic: String,
    partition: i32,
    /// `null`: nothing was committed.
    offset: Option<i64>,
    leader_epoch: Option<i32>,
    metadata: String,
}

/// Where the undo file of a group goes if nothing is said.
pub(super) fn default_path(group: &str) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let group: String = group.chars().take(100).map(plain).collect();
    PathBuf::from(format!("waterwheel-undo-{group}-{}.json", now_ms()))
}

/// Writes what a group has committed. No file is written over.
pub(super) fn write(path: &Path, group: &str, before: &[Committed]) -> Result<(), Failure> {
    let offset = |one: &Committed| Offset {
        topic: one.partition.topic.to_string(),
        partition: one.partition.partition,
        offset: one.offset,
        leader_epoch: one.leader_epoch,
        metadata: one.metadata.clone(),
    };
    let offsets = before.iter().map(offset).collect();
    let file = File { version: 1, group: group.to_owned(), written: now_ms(), offsets };
    let write = || {
        let mut out = OpenOptions::new().write(true).create_new(true).open(path)?;
        serde_json::to_writer(&mut out, &file)?;
        writeln!(out)?;
        out.sync_all()
    };
    write().map_err(|error: std::io::Error| {
        Failure::new(Exit::Refused, format!("undo file {}: {error}", path.display()))
            .hint("nothing was changed; name another file by --undo")
    })
}

/// Reads an undo file, which has to be that group's.
pub(super) fn read(path: &Path, group: &str) -> Result<Vec<Committed>, Failure> {
    let wrong = |problem: String| Failure::new(Exit::Usage, format!("{}: {problem}", path.display()));
    let text = read_text_file(path, MAX_BYTES).map_err(|error| {
        wrong(error.to_string())
            .hint("--to takes earliest, latest, @TIME, -1h, OFFSET, shift:N, group:G, or an undo file")
    })?;
    let file: File = serde_json::from_str(&text)
        .map_err(|error| wrong(format!("is no undo file (line {}, column {})", error.line(), error.column())))?;
    if file.version != 1 {
        return Err(wrong(format!("is of version {}, of which this release knows nothing", file.version)));
    }
    if file.group != group {
        return Err(wrong(format!("is of group {}, not of {group}", file.group)).hint("--to group:G copies a group"));
    }
    let committed = |one: Offset| Committed {
        partition: TopicPartition::new(one.topic, one.partition),
        offset: one.offset.filter(|offset| *offset >= 0),
        leader_epoch: one.leader_epoch,
        metadata: one.metadata,
    };
    Ok(file.offsets.into_iter().map(committed).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_by_its_group_alone_and_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("undo.json");
        let one = |n, offset, metadata: &str| Committed {
            partition: TopicPartition::new("orders", n),
            offset,
            leader_epoch: offset.map(|_| 3),
            metadata: metadata.to_owned(),
        };
        let before = vec![one(0, Some(7), "\u{5000} a map"), one(1, None, "")];
        write(&path, "billing", &before).unwrap();
        assert_eq!(read(&path, "billing").unwrap(), before);
        assert_eq!(read(&path, "other").unwrap_err().exit(), Exit::Usage);
        assert_eq!(write(&path, "billing", &[]).unwrap_err().exit(), Exit::Refused);
        assert_eq!(read(&path, "billing").unwrap(), before);
        std::fs::write(&path, r#"{"version":2,"group":"billing","written":0,"offsets":[]}"#).unwrap();
        assert_eq!(read(&path, "billing").unwrap_err().exit(), Exit::Usage);
        assert_eq!(read(&folder.path().join("earlist"), "billing").unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn a_files_name_has_no_character_that_means_something() {
        let name = default_path("a/../b c").display().to_string();
        assert!(name.starts_with("waterwheel-undo-a_.._b_c-") && name.ends_with(".json"), "{name}");
    }
}
