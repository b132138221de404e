//! The offline checker: judges what workers did by their journals, not by their own counters.
//!
//! Its input is the list of records that the brokers acknowledged to the producer, and one journal of each member (a
//! worker that joined the group). It knows nothing of Kafka, of the worker or of the core, and shares no code with them.
//! It holds under 20 bytes a record of the list, and for each journal, one after the other, its records in work and the
//! last offset of each key.
//!
//! # Files
//! Lines end with `\n`; a last line without one is *torn*: the process died while it wrote, and the line is passed over.
//! Any other line that breaks these rules is an error that names it.
//!
//! The produced list has a line `partition offset key` a record; the key may be missing.
//!
//! A journal has, in the order of time, each written with one `write(2)` to a file opened with `O_APPEND`:
//!
//! | line | written |
//! |---|---|
//! | `S partition offset key` | before a handler starts |
//! | `E partition offset key` | after it ended, before anything is made of its result |
//! | `# failed partition offset` | before the `E` of an attempt that did not succeed |
//! | `# cut partition offset` | instead of an `E`: the handler was dropped unfinished |
//! | `# finished partition offset dead-letter` | when the dead-letter topic acknowledged the record |
//! | `# finished partition offset skip` | when the record was skipped by policy |
//! | `# assigned partition epoch start ns` | before the first start under an assignment; `start`: the offset it was assigned from |
//! | `# revoked partition epoch ns` | after the last end and commit, before the partition is given back |
//! | `# lost partition epoch ns` | when the member learned that it no longer owned the partition |
//! | `# commit partition offset ns` | before a commit is sent |
//! | `# ` and anything else | a remark, passed over |
//!
//! `ns` is `CLOCK_MONOTONIC` in nanoseconds, which all processes of a machine share. The key is the rest of the line, as
//! it is but for line feeds, which are written `\n`; a record without a key and one with an empty key look the same, and
//! have no order. A journal may lack all `#` lines (other systems' journals do): then every `E` is a success, and what
//! only such lines tell is not judged.
//!
//! An explicit reset is a `revoked` and an `assigned` with a new epoch. One file is of one member: of two members in one
//! file, the second `assigned` of a partition would be an error.

mod auditor;
mod line;
mod records;
mod verdict;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use auditor::Auditor;
pub use line::{Finish, Line};
pub use records::Records;
pub use verdict::{Finding, Verdict};

/// Which records must run one at a time, in the order of their offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Order {
    /// Those of one key in one partition.
    #[default]
    Key,
    /// Those of one partition.
    Partition,
    /// None.
    None,
}

/// Why journals cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file cannot be read.
    #[error("cannot read {file}: {cause}")]
    Read {
        /// Its name.
        file: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A line breaks the rules of the format.
    #[error("{file}:{line}: {fault}")]
    Line {
        /// The file's name.
        file: String,
        /// The line's number, from 1.
        line: u64,
        /// What is wrong with it; never the line itself, which may hold a key.
        fault: &'static str,
    },
}

/// Judge workers by their journals: what was lost, run twice, run out of order or committed too early.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The records that the brokers acknowledged: lines `partition offset key`.
    #[arg(long, value_name = "FILE")]
    produced: PathBuf,
    /// A member's journal; once for each member.
    #[arg(long = "journal", value_name = "FILE", required = true, num_args = 1..)]
    journals: Vec<PathBuf>,
    /// Which records must run one at a time, in order.
    #[arg(long, value_enum, default_value_t)]
    order: Order,
    /// Fail if more records than this were handled more than once.
    #[arg(long, value_name = "N")]
    max_duplicates: Option<u64>,
}

/// The verb `audit`: prints the verdict as one JSON object. Ends with 0 if it holds, 1 if not, 2 if there is none.
pub fn run(args: &Args) -> ExitCode {
    let verdict = match judge(args) {
        Ok(verdict) => verdict,
        Err(error) => {
            eprintln!("waterwheel audit: {error}");
            return ExitCode::from(2);
        }
    };
    let holds = verdict.holds() && args.max_duplicates.is_none_or(|most| verdict.duplicates.count <= most);
    let mut json = serde_json::json!(verdict);
    json["holds"] = holds.into();
    match writeln!(io::stdout(), "{json}") {
        Ok(()) if holds => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn judge(args: &Args) -> Result<Verdict, AuditError> {
    let open = |path: &Path| {
        let file = path.display().to_string();
        match File::open(path) {
            Ok(opened) => Ok((BufReader::with_capacity(1 << 18, opened), file)),
            Err(cause) => Err(AuditError::Read { file, cause }),
        }
    };
    let (produced, name) = open(&args.produced)?;
    let mut auditor = Auditor::new(Records::read(produced, &name)?, args.order);
    for path in &args.journals {
        let (journal, name) = open(path)?;
        auditor.read_journal(journal, &name)?;
    }
    Ok(auditor.verdict())
}
