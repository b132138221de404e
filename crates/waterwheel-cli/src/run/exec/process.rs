//! One process of a handler: its pipes, its lines, its end.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};

use super::protocol::{MAX_LINE, SHUTDOWN};

/// How long a process may take to end after `{"shutdown":1}`.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);
/// How long it may then take after SIGTERM.
const TERM_LIMIT: Duration = Duration::from_secs(1);
/// How long what it wrote last may take to arrive once it has ended; a child of its own may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What is wanted of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wanted {
    Work,
    /// To end in order.
    End,
    /// To be killed.
    Kill,
}

/// A process that runs.
pub(super) struct Process {
    child: Child,
    group: Option<Pid>,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts it in a process group of its own, so that Ctrl-C at a terminal does not end it before the drain, and so
    /// that what it starts ends with it.
    pub(super) fn start(command: &[String]) -> io::Result<Self> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        Ok(Self { child, group, stdin, stdout: BufReader::with_capacity(1 << 16, stdout) })
    }

    /// Serves it until it has ended; `hear` gets each line that it writes, and whatever is wrong with one.
    pub(super) async fn serve(
        self,
        lines: mpsc::Receiver<Vec<u8>>,
        mut wanted: watch::Receiver<Wanted>,
        mut hear: impl FnMut(Result<&[u8], String>),
    ) -> io::Result<ExitStatus> {
        let Self { mut child, group, stdin, mut stdout } = self;
        let mut ears = Ears::default();
        let ended = {
            let talk = talk(stdin, lines, wanted.clone());
            let listen = async {
                // After its last line it can only end.
                while ears.line(&mut stdout, &mut hear).await {}
                std::future::pending::<()>().await
            };
            let last = wait_or_end(&mut child, group, &mut wanted);
            tokio::pin!(talk, listen, last);
            let mut talking = true;
            loop {
                tokio::select! {
                    ended = &mut last => break ended,
                    () = &mut listen => {}
                    () = &mut talk, if talking => talking = false,
                }
            }
        };
        // Too late is no answer.
        let _ = tokio::time::timeout(LAST_WORDS, async { while ears.line(&mut stdout, &mut hear).await {} }).await;
        ended
    }
}

/// Waits until the process has ended, and ends it when that is wanted.
async fn wait_or_end(
    child: &mut Child,
    group: Option<Pid>,
    wanted: &mut watch::Receiver<Wanted>,
) -> io::Result<ExitStatus> {
    let is = |least| move |wanted: &Wanted| *wanted >= least;
    tokio::select! {
        ended = child.wait() => return ended,
        // Without a sender nobody wants it any more.
        _ = wanted.wait_for(is(Wanted::End)) => {}
    }
    tokio::select! {
        ended = child.wait() => return ended,
        _ = wanted.wait_for(is(Wanted::Kill)) => {}
        () = tokio::time::sleep(SHUTDOWN_LIMIT) => signal(group, Signal::TERM),
    }
    tokio::select! {
        ended = child.wait() => return ended,
        _ = wanted.wait_for(is(Wanted::Kill)) => {}
        () = tokio::time::sleep(TERM_LIMIT) => {}
    }
    signal(group, Signal::KILL);
    child.wait().await
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // It may have ended.
        let _ = kill_process_group(group, signal);
    }
}

/// Writes lines until the process is to end; then tells it, and closes its stdin.
async fn talk(mut stdin: ChildStdin, mut lines: mpsc::Receiver<Vec<u8>>, mut wanted: watch::Receiver<Wanted>) {
    let write = async {
        while let Some(line) = lines.recv().await {
            // Broken: it has closed its stdin or ended; its end is seen elsewhere.
            if stdin.write_all(&line).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        // No more lines can come: it is to end.
    };
    tokio::select! {
        () = write => {}
        _ = wanted.wait_for(|wanted| *wanted >= Wanted::End) => {}
    }
    // It need not listen.
    let _ = tokio::time::timeout(SHUTDOWN_LIMIT, stdin.write_all(SHUTDOWN)).await;
}

/// Reads lines of bounded length.
#[derive(Default)]
struct Ears {
    line: Vec<u8>,
    /// The line under way is too long already: the rest of it is passed over.
    deaf: bool,
}

impl Ears {
    /// Reads on, and gives every line that has come to `hear`; `false` at the end. Dropping the future loses nothing.
    async fn line(
        &mut self,
        stdout: &mut BufReader<ChildStdout>,
        hear: &mut impl FnMut(Result<&[u8], String>),
    ) -> bool {
        let Ok(mut read) = stdout.fill_buf().await else { return false };
        let taken = read.len();
        while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            self.take(&read[..end], hear);
            if !std::mem::take(&mut self.deaf) {
                hear(Ok(&self.line));
            }
            self.line.clear();
            read = &read[end + 1..];
        }
        self.take(read, hear);
        stdout.consume(taken);
        taken > 0
    }

    fn take(&mut self, part: &[u8], hear: &mut impl FnMut(Result<&[u8], String>)) {
        if self.deaf {
            return;
        }
        if self.line.len() + part.len() > MAX_LINE {
            self.deaf = true;
            self.line = Vec::new();
            hear(Err(format!("a line of its stdout is longer than {MAX_LINE} bytes")));
            return;
        }
        self.line.extend_from_slice(part);
    }
}
