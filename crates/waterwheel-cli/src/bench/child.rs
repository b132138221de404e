//! A program that is measured: started in a process group of its own, so that Ctrl-C does not end it before its time, and
//! ended in order (SIGTERM, then SIGKILL) in every way out.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::figures::Told;
use crate::exit::{Exit, Failure};
use crate::program::is_program;

/// How long it may take to end after SIGTERM: it drains and commits.
const TERM_LIMIT: Duration = Duration::from_secs(15);
/// How long what it wrote last may take to arrive once it has ended; a child of its own may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// What is kept of its stdout: the line stands at its end.
const KEPT: usize = 1 << 16;

/// What is started: a program and its first arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arm {
    words: Vec<OsString>,
    /// Behind the options of the protocol.
    more: Vec<OsString>,
}

impl Arm {
    /// This very program, with the same connection settings.
    pub(super) fn own(connection_options: Vec<OsString>) -> io::Result<Self> {
        Ok(Self { words: vec![std::env::current_exe()?.into(), "bench".into()], more: connection_options })
    }

    /// A command of words parted by spaces.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.first() {
            None => Err("names no program".to_owned()),
            Some(program) if is_program(program) => {
                Ok(Self { words: words.into_iter().map(OsString::from).collect(), more: Vec::new() })
            }
            Some(program) => Err(format!("the program {program:?} is not there, or not executable")),
        }
    }

    fn program(&self) -> &OsStr {
        self.words.first().map_or(OsStr::new(""), |word| word)
    }

    /// The program's file name.
    pub(super) fn name(&self) -> String {
        let path = std::path::Path::new(self.program());
        path.file_name().unwrap_or(self.program()).to_string_lossy().into_owned()
    }

    /// Starts it with `consume`, those options and those that take no value.
    pub(super) fn consume(&self, options: &[(&str, String)], flags: &[&str]) -> Result<Child, Failure> {
        let mut command = Command::new(self.program());
        command.args(&self.words[1..]).arg("consume");
        for (name, value) in options {
            command.arg(name).arg(value);
        }
        command
            .args(flags)
            .args(&self.more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| {
            Failure::new(Exit::Failed, format!("{} cannot be started: {error}", self.program().display()))
        })?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let mut reader = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            reader.spawn(last_line(stdout));
        }
        Ok(Child { child, group, reader })
    }
}

/// It runs.
pub(super) struct Child {
    child: tokio::process::Child,
    /// `None` once it has ended: its number may be another's then.
    group: Option<Pid>,
    reader: JoinSet<Option<Told>>,
}

impl Child {
    /// Waits until it has ended by itself. Dropping the future changes nothing.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        // What it started and left behind ends with it.
        self.signal(Signal::KILL);
        self.group = None;
        status
    }

    /// Ends it in order, and by force where that takes too long.
    pub(super) async fn end(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM);
        if let Ok(status) = timeout(TERM_LIMIT, self.ended()).await {
            return status;
        }
        self.signal(Signal::KILL);
        self.ended().await
    }

    /// The last line that it printed, once it has ended; `None` where it is not one of the protocol.
    pub(super) async fn told(&mut self) -> Option<Told> {
        match timeout(LAST_WORDS, self.reader.join_next()).await {
            Ok(Some(Ok(told))) => told,
            _ => None,
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It may have ended.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Reads to the end: a full pipe would hold the program up.
async fn last_line(mut stdout: ChildStdout) -> Option<Told> {
    let mut kept = Vec::with_capacity(KEPT);
    while stdout.read_buf(&mut kept).await.is_ok_and(|read| read > 0) {
        if kept.len() > KEPT {
            kept.drain(..kept.len() - KEPT / 2);
        }
    }
    let text = String::from_utf8_lossy(&kept);
    text.lines().rev().find(|line| line.starts_with('{')).and_then(Told::parse)
}

/// How a program that should not have ended did, in words.
pub(super) fn ending(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_program_and_words() {
        let arm = Arm::parse("  /bin/sh --x  1 ").unwrap();
        assert_eq!((arm.words.len(), arm.name().as_str()), (3, "sh"));
        assert_eq!(Arm::parse("sh").unwrap().name(), "sh");
        assert_eq!(Arm::parse(" \t").unwrap_err(), "names no program");
        assert_eq!(Arm::parse("/no/arm -x").unwrap_err(), "the program \"/no/arm\" is not there, or not executable");
    }

    fn shell(script: &str) -> Child {
        let words = ["sh", "-c", script].map(OsString::from).to_vec();
        Arm { words, more: Vec::new() }.consume(&[], &[]).unwrap()
    }

    #[tokio::test]
    async fn the_last_line_of_json_is_its_answer() {
        let mut child = shell("echo '{\"rate\":1}'; yes not json | head -n 100000; echo '{\"rate\":2.5}'; echo bye");
        assert!(child.ended().await.unwrap().success());
        assert_eq!(child.told().await.unwrap().rate, 2.5);
        let mut child = shell("exit 7");
        assert_eq!(ending(child.ended().await), "exit status: 7");
        assert_eq!(child.told().await, None);
    }

    #[tokio::test]
    async fn a_child_is_ended_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let up = dir.path().join("up");
        let script = "trap 'echo \"{\\\"rate\\\":3}\"; exit 0' TERM; touch UP; while :; do sleep 0.01; done";
        let mut child = shell(&script.replace("UP", up.to_str().unwrap()));
        while !up.exists() {
            tokio::task::yield_now().await;
        }
        assert_eq!(ending(child.end().await), "exit status: 0");
        assert_eq!(child.told().await.unwrap().rate, 3.0);
    }
}
