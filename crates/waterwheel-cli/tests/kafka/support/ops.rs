//! `waterwheel run` with its probes, asked as a scraper asks them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use tempfile::TempDir;

use super::{PATIENCE, Process, wait_for};

/// What has a run listen on a free port.
pub(crate) const OPS: [&str; 2] = ["--ops", "127.0.0.1:0"];

/// A run of one worker file.
pub(crate) struct Probed {
    pub(crate) process: Process,
    pub(crate) address: String,
    /// Has the worker file.
    _dir: TempDir,
}

impl Probed {
    /// Starts it and waits for its listener, which the file or the arguments ask for.
    pub(crate) fn run(file: &str, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("worker.toml");
        std::fs::write(&path, file).expect("the temporary directory can be written to");
        let mut process = Process::waterwheel(&[&["run", &*path.to_string_lossy()], arguments].concat());
        let address = wait_for(PATIENCE, "the listener", || {
            assert!(!process.has_ended(), "it ended: {}", process.stderr());
            process.stderr().lines().find_map(|line| Some(line.strip_prefix("ops: http://")?.to_owned()))
        });
        Self { process, address, _dir: dir }
    }

    /// Status and body of a probe.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(&self.address, path, Duration::from_secs(20)).unwrap_or_else(|| panic!("{path} does not answer"))
    }

    /// The status of a probe.
    #[track_caller]
    pub(crate) fn status(&self, path: &str) -> u16 {
        self.get(path).0
    }

    /// The largest value of a metric, of all its labels; `None` while it is not there.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        let of_name = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
        of_name.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).reduce(f64::max)
    }

    /// Whether nobody answers there in time.
    pub(crate) fn is_silent(&self, time: Duration) -> bool {
        get(&self.address, "/livez", time).is_none()
    }
}

/// Status and body of a request; `None` if there is none in that time.
pub(crate) fn get(address: &str, path: &str, time: Duration) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).expect("the listener is there");
    stream.set_read_timeout(Some(time)).expect("a socket takes a time-out");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n").expect("a request is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Some((status, body.to_owned()))
}
