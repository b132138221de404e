//! Child processes whose output is kept in files, so that no full pipe ever blocks them.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::wait_for;

/// A child process; killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    dir: TempDir,
}

impl Process {
    /// Starts the built command `waterwheel`.
    pub(crate) fn waterwheel(arguments: &[&str]) -> Self {
        Self::start(env!("CARGO_BIN_EXE_waterwheel"), arguments)
    }

    /// The same, with that to be read from its standard input, a file.
    pub(crate) fn waterwheel_fed(arguments: &[&str], input: &[u8]) -> Self {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(input).expect("the temporary file can be written to");
        file.seek(SeekFrom::Start(0)).expect("a file can be read from any place");
        Self::start_on(env!("CARGO_BIN_EXE_waterwheel"), arguments, file.into())
    }

    /// The same, with a pipe to its standard input, which is closed when what is returned is dropped.
    pub(crate) fn waterwheel_piped(arguments: &[&str]) -> (Self, ChildStdin) {
        let mut process = Self::start_on(env!("CARGO_BIN_EXE_waterwheel"), arguments, Stdio::piped());
        let pipe = process.child.stdin.take().expect("it was asked for");
        (process, pipe)
    }

    /// Starts any program.
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        Self::start_on(program, arguments, Stdio::null())
    }

    fn start_on(program: &str, arguments: &[&str], stdin: Stdio) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = |name| File::create(dir.path().join(name)).expect("the temporary directory can be written to");
        let child = Command::new(program)
            .args(arguments)
            .stdin(stdin)
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        Self { child, dir }
    }

    /// What the system says of its size now; `None` once it has ended.
    pub(crate) fn size(&self) -> Option<Size> {
        Size::of(self.pid())
    }

    /// Its number.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// What it has written to its standard output.
    pub(crate) fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// What it has written to its standard output from that byte on.
    pub(crate) fn stdout_since(&self, at: u64) -> Vec<u8> {
        let mut file = File::open(self.dir.path().join("stdout")).expect("the file was made at the start");
        file.seek(SeekFrom::Start(at)).expect("a file can be read from any place");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("a file can be read");
        bytes
    }

    /// What it has written to its standard error.
    pub(crate) fn stderr(&self) -> String {
        self.read("stderr")
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.dir.path().join(name)).expect("the file was made at the start");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends it a signal. After a SIGSTOP it has stopped: what it writes last, it has written.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot signal process {pid:?}: {error}"));
        if signal == Signal::STOP {
            wait_for(Duration::from_secs(10), "a process to stop", || self.is_stopped().then_some(()));
        }
    }

    /// Whether none of its threads runs.
    fn is_stopped(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it is this process's child");
        threads.flatten().all(|thread| {
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("State:\tT"))
        })
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is this process's child").is_some()
    }

    /// Waits until it ends; fails the test if it does not within `limit`.
    #[track_caller]
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        wait_for(limit, "a process to end", || self.child.try_wait().expect("it is this process's child"))
    }
}

/// How large a process is, as `/proc` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Memory that it has now, and the most that it ever had, in KiB.
    pub(crate) rss: u64,
    pub(crate) most_rss: u64,
    pub(crate) threads: u64,
    /// Open files.
    pub(crate) files: u64,
}

impl Size {
    pub(crate) fn of(pid: Pid) -> Option<Self> {
        let pid = pid.as_raw_nonzero();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Some(Self {
            rss: of("VmRSS:")?,
            most_rss: of("VmHWM:")?,
            threads: of("Threads:")?,
            files: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            for name in ["stdout", "stderr"] {
                let text = self.read(name);
                let tail = text.lines().rev().take(40).collect::<Vec<_>>();
                eprintln!("--- {name} of process {}:", self.child.id());
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}
