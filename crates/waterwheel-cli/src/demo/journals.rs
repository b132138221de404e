//! Where the journals of a run are: in a folder of their own that goes with the run, or where they are to be kept.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::exit::{Exit, Failure};
use crate::folder::temporary;
use crate::journal::Journal;

/// The folder of one run's journals.
pub(super) struct Journals {
    folder: PathBuf,
    keep: bool,
    members: Vec<(PathBuf, Arc<Journal>)>,
}

impl Journals {
    pub(super) fn new(keep: Option<&Path>) -> Result<Self, Failure> {
        let about =
            |folder: &Path, error: io::Error| Failure::new(Exit::Failed, format!("{}: {error}", folder.display()));
        let (folder, keep) = match keep {
            Some(folder) => {
                fs::create_dir_all(folder).map_err(|e| about(folder, e))?;
                (folder.to_owned(), true)
            }
            None => (temporary("demo").map_err(|e| about(&std::env::temp_dir(), e))?, false),
        };
        let journals = Self { folder, keep, members: Vec::new() };
        if journals.produced().exists() {
            let message = format!("{} holds the journals of another run", journals.folder.display());
            return Err(Failure::new(Exit::Refused, message).hint("name another folder"));
        }
        Ok(journals)
    }

    /// The list of records that were acknowledged.
    pub(super) fn produced(&self) -> PathBuf {
        self.folder.join("produced")
    }

    /// The journal of a new member.
    pub(super) fn member(&mut self, name: char) -> io::Result<Arc<Journal>> {
        let path = self.folder.join(format!("{name}.journal"));
        let journal = Arc::new(Journal::open(&path)?);
        self.members.push((path, journal.clone()));
        Ok(journal)
    }

    /// The members' journals.
    pub(super) fn members(&self) -> impl Iterator<Item = &Path> {
        self.members.iter().map(|(path, _)| path.as_path())
    }

    /// Whether a journal ends before its run did.
    pub(super) fn are_broken(&self) -> bool {
        self.members.iter().any(|(_, journal)| journal.broken().is_some())
    }

    /// Adds records to the list of those produced.
    pub(super) fn add_produced(&self, places: &[(i32, i64)]) -> io::Result<()> {
        let mut lines = Vec::new();
        for (partition, offset) in places {
            writeln!(lines, "{partition} {offset}")?;
        }
        fs::File::options().append(true).open(self.produced())?.write_all(&lines)
    }

    /// The folder, where it stays.
    pub(super) fn kept(&self) -> Option<&Path> {
        self.keep.then_some(&*self.folder)
    }
}

impl Drop for Journals {
    fn drop(&mut self) {
        if !self.keep {
            // It lies among the temporary files, which the system clears anyway.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
