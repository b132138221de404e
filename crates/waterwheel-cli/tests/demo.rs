//! `demo` and `broker`, as their users see them.
#![cfg(unix)]
#![expect(clippy::expect_used, clippy::panic, reason = "the helpers of a test fail it")]

use std::io::{BufRead, BufReader, Lines, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, config::FromClientConfig};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The command at work; killed if the test fails.
struct Running {
    child: Child,
    stderr: Lines<BufReader<ChildStderr>>,
    told: String,
}

impl Running {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
            .args(args)
            .current_dir(dir)
            .env("TMPDIR", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        Self { child, stderr, told: String::new() }
    }

    /// Reads stderr until a line is as wanted.
    fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) {
        loop {
            let Some(Ok(line)) = self.stderr.next() else { panic!("the command ended; it said:\n{}", self.told) };
            self.told.push_str(&line);
            self.told.push('\n');
            if wanted(&line) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the command runs");
    }

    /// Its exit code and stdout, once it has ended.
    fn end(mut self) -> (Option<i32>, String) {
        for line in self.stderr.by_ref().map_while(Result::ok) {
            self.told.push_str(&line);
            self.told.push('\n');
        }
        let mut stdout = String::new();
        self.child.stdout.take().expect("stdout is piped").read_to_string(&mut stdout).expect("stdout is text");
        let code = self.child.wait().expect("the command ends").code();
        println!("{}{stdout}", self.told);
        (code, stdout)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, but in a test that fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The n-th number of a line of figures, as `finished 1,234 (500/s)`.
fn figure(line: &str, name: &str) -> u64 {
    let rest = line.split_once(name).map_or("", |(_, rest)| rest).trim_start();
    rest.chars().filter(|c| *c != ',').take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}

fn something_is_finished(line: &str) -> bool {
    figure(line, "finished") > 0
}

#[test]
fn a_headless_demo_tells_numbers_that_add_up() {
    let dir = folder();
    let demo = Running::start(dir.path(), &["demo", "--headless", "--for", "6s", "--rate", "300", "-o", "json"]);
    let (code, stdout) = demo.end();
    assert_eq!((code, stdout.lines().count()), (Some(0), 1));
    let told: Value = serde_json::from_str(&stdout).expect("one JSON object");
    let number = |name: &str| told[name].as_u64().unwrap_or_else(|| panic!("{name} in {told}"));
    assert_eq!((&told["ok"], number("members"), number("duplicates")), (&Value::Bool(true), 2, 0));
    assert!(number("produced") > 1000, "{told}");
    assert_eq!(number("produced"), number("finished") + number("dead_lettered"));
    assert_eq!(number("attempts"), number("finished") + told["audit"]["failed_attempts"].as_u64().expect("a number"));
    assert!(number("retries") > 0, "{told}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("the folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_interrupted_demo_ends_in_order_with_its_audit() {
    let dir = folder();
    let mut demo = Running::start(dir.path(), &["demo", "--headless", "--for", "1h", "--keep-journals", "kept"]);
    demo.wait_for(|line| line.contains("drops the oldest beyond 5 MiB"));
    demo.wait_for(something_is_finished);
    demo.signal(Signal::INT);
    let (code, stdout) = demo.end();
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with("audit: "), "{stdout}");
    assert!(stdout.ends_with("the audit holds: nothing lost, every key in order\n"), "{stdout}");

    assert!(dir.path().join("kept/produced").is_file() && dir.path().join("kept/A.journal").is_file());
    let again = Running::start(dir.path(), &["demo", "--headless", "--keep-journals", "kept"]);
    assert_eq!(again.end().0, Some(8));
}

#[test]
fn a_second_signal_stops_at_once() {
    let dir = folder();
    // The first orders take ten seconds.
    let mut demo = Running::start(dir.path(), &["demo", "--headless", "--for", "1h", "--handler-ms", "10000"]);
    demo.wait_for(|line| figure(line, "in work") > 0);
    demo.signal(Signal::INT);
    demo.wait_for(|line| line.contains("no more orders"));
    demo.signal(Signal::TERM);
    demo.wait_for(|line| line == "stopped at once: no audit");
    assert_eq!(demo.end(), (Some(4), String::new()));
}

#[test]
fn a_demo_takes_no_brokers() {
    let dir = folder();
    assert_eq!(Running::start(dir.path(), &["demo", "-b", "localhost:9092"]).end().0, Some(2));
}

#[test]
fn a_broker_prints_where_it_is() {
    let dir = folder();
    let mut broker = Running::start(dir.path(), &["broker", "--brokers", "2", "--topic", "orders:3"]);
    broker.wait_for(|line| line.contains("5 MiB"));
    let mut stdout = BufReader::new(broker.child.stdout.take().expect("stdout is piped"));
    let mut servers = String::new();
    stdout.read_line(&mut servers).expect("stdout is text");
    let servers = servers.trim_end();
    assert_eq!(servers.split(',').count(), 2);
    for server in servers.split(',') {
        TcpStream::connect(server).expect("someone listens");
    }
    let client = BaseConsumer::from_config(ClientConfig::new().set("bootstrap.servers", servers)).expect("a client");
    let metadata = client.fetch_metadata(Some("orders"), Duration::from_secs(30)).expect("metadata");
    assert_eq!(metadata.topics()[0].partitions().len(), 3);
    broker.child.stdout = None;
    broker.signal(Signal::TERM);
    let status = broker.child.wait().expect("the command ends");
    assert_eq!(status.code(), Some(0));
}
