//! The pipe that the measured program writes its journal to, and the thread that reads it.
//!
//! The reader must see no end before the program has opened the pipe, and must see one when the program has ended: so this
//! process holds a writing end of its own until then.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tokio::sync::oneshot;

use super::lines::Lines;
use super::{Clock, Shared, lock};
use crate::folder::temporary;

/// Bytes read at once at most.
const READ: usize = 1 << 18;
/// How long the last lines may take once the program has ended; a child of its own may hold the pipe open.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The pipe, while it is read.
pub(super) struct Pipe {
    folder: PathBuf,
    path: PathBuf,
    /// Keeps the end of the pipe from the reader.
    hold: Option<File>,
    read: oneshot::Receiver<Readout>,
}

/// How reading ended.
#[derive(Default)]
pub(super) struct Readout {
    pub(super) garbage: u64,
    pub(super) broken: Option<io::Error>,
}

impl Pipe {
    /// Makes it, in a folder that only this user can look into, and begins to read.
    pub(super) fn open(shared: Shared, clock: Clock) -> io::Result<Self> {
        let folder = temporary("bench")?;
        let path = folder.join("journal");
        let (tell, read) = oneshot::channel();
        let mut pipe = Self { folder, path, hold: None, read };
        make(&pipe.path)?;
        // A reading end alone would wait for a writer.
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(&pipe.path)?;
        pipe.hold = Some(OpenOptions::new().write(true).open(&pipe.path)?);
        fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
        widen(&file);
        std::thread::Builder::new().name("bench-journal".to_owned()).spawn(move || {
            // Nobody listens where the run was given up.
            let _ = tell.send(read_all(file, &shared, clock));
        })?;
        Ok(pipe)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what is left, once the program has ended.
    pub(super) async fn end(mut self) -> Readout {
        self.hold = None;
        match tokio::time::timeout(LAST_LINES, &mut self.read).await {
            Ok(Ok(read)) => read,
            _ => Readout::default(),
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // It lies among the temporary files, which the system clears anyway.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[cfg(not(target_vendor = "apple"))]
fn make(path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, Mode, mkfifoat};
    Ok(mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR)?)
}

/// There the call is not in `rustix`.
#[cfg(target_vendor = "apple")]
fn make(path: &Path) -> io::Result<()> {
    let made = std::process::Command::new("mkfifo").arg("-m").arg("600").arg(path).status()?;
    if made.success() { Ok(()) } else { Err(io::Error::other("mkfifo failed")) }
}

/// Room for a second of 10,000 records, where the system lets it have that much, so that a reader that has to wait for a
/// processor holds nobody up. (64 KiB otherwise.)
fn widen(pipe: &File) {
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, 1 << 20);
    #[cfg(not(target_os = "linux"))]
    let _ = pipe;
}

/// Reads until all writing ends are closed. What a read brings was seen when it returned.
fn read_all(mut file: File, shared: &Shared, clock: Clock) -> Readout {
    let mut lines = Lines::default();
    let mut bytes = vec![0; READ];
    let broken = loop {
        match file.read(&mut bytes) {
            Ok(0) => break None,
            Ok(read) => {
                let now = clock.now();
                let mut pairs = lock(shared);
                lines.take(&bytes[..read], |partition, offset| pairs.seen(partition, offset, now));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Some(error),
        }
    };
    Readout { garbage: lines.garbage, broken }
}
