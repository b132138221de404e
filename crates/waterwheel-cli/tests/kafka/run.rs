//! `waterwheel run` on a real Kafka.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Bytes, Cluster, Kafka, PATIENCE, Process, topic_name, wait_until};

/// A handler: `{"crash"…}` ends the process, `{"log"…}` is noted in the file named by its first argument.
const HANDLER: &str = r#"
import json, sys, os
log = open(sys.argv[1], "a")
concurrency = int(sys.argv[2]) if len(sys.argv) > 2 else 1
pending = []
for line in sys.stdin:
    m = json.loads(line)
    if "hello" in m:
        print(json.dumps({"ready": 1, "concurrency": concurrency}), flush=True)
    elif "shutdown" in m:
        break
    else:
        v = m["value"]
        if v.get("crash"):
            log.write("crash %s %d\n" % (m["id"], m["attempt"])); log.flush()
            os._exit(3)
        log.write("%s %s\n" % (m["id"], m["key"])); log.flush()
        print(json.dumps({"id": m["id"], "status": v.get("status", "ok"), "after": "10ms"}), flush=True)
log.write("shutdown\n"); log.flush()
"#;

struct Worker {
    dir: tempfile::TempDir,
    topic: String,
    group: String,
}

impl Worker {
    fn new(kafka: &Kafka, purpose: &str) -> Self {
        let topic = topic_name(purpose);
        kafka.create_topic(&topic, 3, &[]);
        Self { dir: tempfile::tempdir().expect("a temporary directory"), group: format!("g-{topic}"), topic }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Starts the worker; `rest` is the end of its table and what comes after.
    fn start(&self, bootstrap: &str, rest: &str, arguments: &[&str]) -> Process {
        let text = format!(
            "[kafka]\n\"bootstrap.servers\" = \"{bootstrap}\"\n[[worker]]\nname = \"w\"\ntopics = [\"{}\"]\ngroup = \"{}\"\n\
             drain_timeout = \"10s\"\n{rest}\n",
            self.topic, self.group
        );
        let file = self.path("worker.toml");
        std::fs::write(&file, text).expect("the temporary directory can be written to");
        let mut all = vec!["run", file.to_str().expect("a UTF-8 path")];
        all.extend(arguments);
        Process::waterwheel(&all)
    }

    fn exec(&self, concurrency: usize, more: &str) -> String {
        std::fs::write(self.path("handler.py"), HANDLER).expect("the temporary directory can be written to");
        let (script, log) = (self.path("handler.py"), self.path("log"));
        format!(
            "value = \"json\"\n{more}\n[worker.handler]\nkind = \"exec\"\nprocesses = 2\n\
             command = [\"python3\", {script:?}, {log:?}, \"{concurrency}\"]\n"
        )
    }
}

fn ended_by_term(process: &mut Process) -> Option<i32> {
    process.signal(Signal::TERM);
    process.wait(PATIENCE).code()
}

fn audit(produced: &Path, journal: &Path) -> Value {
    let (produced, journal) = (produced.to_str().expect("UTF-8"), journal.to_str().expect("UTF-8"));
    use waterwheel_cli::audit::{Auditor, Order, Records};
    let open = |path: &str| std::io::BufReader::new(std::fs::File::open(path).expect("the file is there"));
    let records = Records::read(open(produced), produced).expect("the list is sound");
    let mut auditor = Auditor::new(records, Order::Key);
    auditor.read_journal(open(journal), journal).expect("the journal is sound");
    let verdict = auditor.verdict();
    let mut json = serde_json::json!(verdict);
    json["holds"] = verdict.holds().into();
    json
}

#[test]
fn an_exec_handler_gets_every_record_once_and_sigterm_ends_with_0() {
    let Some(kafka) = Kafka::shared() else { return };
    let worker = Worker::new(kafka, "exec");
    let records = (0..3_000).map(|n| (Some(format!("k{}", n % 50)), format!("{{\n \"n\": {n} }}")));
    let produced = kafka.produce(&worker.topic, records);
    let journal = worker.path("journal");
    let arguments = ["--journal", journal.to_str().expect("UTF-8")];
    let mut process = worker.start(kafka.bootstrap(), &worker.exec(4, ""), &arguments);
    wait_until(PATIENCE, "all records to be handled", || worker.read("log").lines().count() >= 3_000);
    assert_eq!(ended_by_term(&mut process), Some(0));
    assert!(process.stderr().contains("draining for at most 10s"), "{}", process.stderr());

    let log = worker.read("log");
    let mut ids: Vec<&str> = log.lines().filter(|line| *line != "shutdown").collect();
    assert_eq!(log.lines().count() - ids.len(), 2, "both processes were told to end");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3_000);
    let verdict = audit(&produced.write(worker.dir.path()), &journal);
    assert_eq!(verdict["holds"], true, "{verdict:#}");
    assert_eq!((&verdict["handled"], &verdict["duplicates"]["count"]), (&3_000.into(), &0.into()), "{verdict:#}");
}

#[test]
fn a_record_that_crashes_its_process_goes_to_the_dead_letters_alone() {
    let Some(kafka) = Kafka::shared() else { return };
    let worker = Worker::new(kafka, "crash");
    let letters = format!("{}.dlt", worker.topic);
    kafka.create_topic(&letters, 1, &[]);
    let value = |n: usize| if n == 77 { "{\"crash\":true}".to_owned() } else { format!("{{\"n\":{n}}}") };
    let produced = kafka.produce(&worker.topic, (0..200).map(|n| (Some(format!("k{n}")), value(n))));
    let more =
        "[worker.retry]\nattempts = 2\nbackoff = { initial = \"10ms\" }\n[worker.dead_letter]\ntopic = \"{topic}.dlt\"";
    let journal = worker.path("journal");
    let arguments = ["--journal", journal.to_str().expect("UTF-8")];
    let mut process = worker.start(kafka.bootstrap(), &worker.exec(16, more), &arguments);
    wait_until(PATIENCE, "all to be finished", || {
        let done = worker
            .read("log")
            .lines()
            .filter(|line| line.contains(" k"))
            .collect::<std::collections::HashSet<_>>()
            .len();
        done == 199 && worker.read("journal").contains("dead-letter")
    });
    assert_eq!(ended_by_term(&mut process), Some(0));
    let verdict = audit(&produced.write(worker.dir.path()), &journal);
    assert_eq!(verdict["holds"], true, "{verdict:#}");
    assert_eq!((&verdict["handled"], &verdict["dead_lettered"]), (&199.into(), &1.into()), "{verdict:#}");
    // Two attempts were counted; at most one more was in company.
    let crashes = worker.read("log").lines().filter(|line| line.starts_with("crash")).count();
    assert!((2..=3).contains(&crashes), "{}", worker.read("log"));
}

/// It is followed by what the commit says of it: the member that saw the dead letter is gone without a word.
#[test]
fn a_key_that_follows_its_dead_letter_does_not_start_again_after_a_kill() {
    let Some(kafka) = Kafka::shared() else { return };
    let worker = Worker::new(kafka, "follow");
    let letters = format!("{}.dlt", worker.topic);
    kafka.create_topic(&letters, 1, &[]);
    let more = "after_dead_letter = \"follow\"\n[worker.dead_letter]\ntopic = \"{topic}.dlt\"";
    let properties = worker.path("client.properties");
    std::fs::write(&properties, "session.timeout.ms=6000\nheartbeat.interval.ms=1000\n").expect("it can be written");
    let arguments = ["--command-config", properties.to_str().expect("UTF-8")];
    let start = || worker.start(kafka.bootstrap(), &worker.exec(4, more), &arguments);
    let produce = |status: &str| {
        let key = |n: usize| if n.is_multiple_of(3) { "bad".to_owned() } else { format!("k{}", n % 7) };
        let value = |n: usize| format!("{{\"status\": \"{}\"}}", if n == 0 { status } else { "ok" });
        kafka.produce(&worker.topic, (0..60).map(|n| (Some(key(n)), value(n))));
        let ends = kafka.ends(&worker.topic, 3);
        wait_until(PATIENCE, "everything to be committed", || kafka.has_committed(&worker.group, &worker.topic, &ends));
    };
    let mut first = start();
    produce("dead_letter");
    first.signal(Signal::KILL);
    first.wait(PATIENCE);
    let mut second = start();
    produce("ok");
    assert_eq!(ended_by_term(&mut second), Some(0));

    let tried = worker.read("log").lines().filter(|line| line.ends_with(" bad")).count();
    assert_eq!(tried, 1, "the first one of its key, and no other");
    let letters = kafka.read_all(&letters, 1);
    let header = |letter: &Bytes, name: &str| {
        let of_name = letter.headers.iter().find(|(key, _)| key == name);
        of_name.and_then(|(_, value)| String::from_utf8(value.clone()?).ok()).unwrap_or_default()
    };
    let offset = |letter: &Bytes| header(letter, "waterwheel-original-offset").parse::<i64>().expect("a number");
    let offsets: Vec<i64> = letters.iter().map(offset).collect();
    assert!(offsets.len() == 40 && offsets.is_sorted_by(|a, b| a < b), "each once and in order: {offsets:?}");
    let follow = |letter: &Bytes| header(letter, "waterwheel-follows-offset") == offsets[0].to_string();
    assert!(letters[1..].iter().all(follow), "{letters:?}");
}

#[test]
fn records_are_forwarded_as_they_are() {
    let Some(kafka) = Kafka::shared() else { return };
    let worker = Worker::new(kafka, "forward");
    let copy = format!("{}-copy", worker.topic);
    kafka.create_topic(&copy, 2, &[]);
    kafka.produce(&worker.topic, (0..500).map(|n| (Some(format!("k{}", n % 7)), format!("v{n}"))));
    let handler = format!("[worker.handler]\nkind = \"forward\"\ntopic = \"{copy}\"");
    let mut process = worker.start(kafka.bootstrap(), &handler, &[]);
    let ends = || {
        let offsets = kafka.tool("get-offsets", &["--topic", &copy]);
        offsets.lines().filter_map(|line| line.rsplit(':').next()?.parse::<i64>().ok()).sum::<i64>()
    };
    wait_until(PATIENCE, "all copies", || ends() >= 500);
    assert_eq!(ended_by_term(&mut process), Some(0));
    assert_eq!(ends(), 500);

    // The copies, printed by another worker.
    let reader = Worker { dir: tempfile::tempdir().expect("a directory"), topic: copy, group: topic_name("printer") };
    let mut process = reader.start(kafka.bootstrap(), "[worker.handler]\nkind = \"print\"", &[]);
    wait_until(PATIENCE, "all records to be printed", || process.stdout().lines().count() >= 500);
    assert_eq!(ended_by_term(&mut process), Some(0));
    let mut seen = std::collections::HashMap::<String, u64>::new();
    for line in process.stdout().lines() {
        let record: Value = serde_json::from_str(line).expect("a line is JSON");
        let (key, value) = (record["key"].as_str().expect("a key"), record["value"].as_str().expect("a value"));
        let n: u64 = value[1..].parse().expect("the value's number");
        assert_eq!(key, format!("k{}", n % 7));
        let before = seen.insert(key.to_owned(), n);
        assert!(before.is_none_or(|before| before < n), "{key} out of order");
    }
    assert_eq!(seen.len(), 7);
}

#[test]
fn a_reader_that_goes_away_ends_the_run_with_0() {
    let Some(kafka) = Kafka::shared() else { return };
    let worker = Worker::new(kafka, "pipe");
    kafka.produce(&worker.topic, (0..50_000).map(|n| (None, format!("value {n}"))));
    drop(worker.start(kafka.bootstrap(), "[worker.handler]\nkind = \"print\"", &[]));
    let file = worker.path("worker.toml");
    let line = format!(
        "{} run {} | head -n 3; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_waterwheel"),
        file.to_str().expect("UTF-8")
    );
    let mut process = Process::start("bash", &["-c", &line]);
    assert_eq!(process.wait(PATIENCE).code(), Some(0), "{}", process.stderr());
    assert_eq!(process.stdout().lines().count(), 3);
}

#[test]
fn the_template_runs() {
    let Some(kafka) = Kafka::shared() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("worker.toml");
    let file = file.to_str().expect("UTF-8");
    for verb in ["init", "check"] {
        assert!(Process::waterwheel(&[verb, file]).wait(PATIENCE).success(), "{verb}");
    }
    let mut process = Process::waterwheel(&["-b", kafka.bootstrap(), "run", file]);
    wait_until(PATIENCE, "the worker to be told of", || process.stderr().contains("orders: "));
    assert_eq!(ended_by_term(&mut process), Some(0));
}

#[test]
fn without_a_broker_it_says_why_and_sigterm_ends_it_at_once() {
    let worker = Worker {
        dir: tempfile::tempdir().expect("a temporary directory"),
        topic: "orders".to_owned(),
        group: "g".to_owned(),
    };
    let mut process = worker.start("127.0.0.1:1", "[worker.handler]\nkind = \"print\"", &[]);
    wait_until(PATIENCE, "the reason", || process.stderr().contains("critical: "));
    process.signal(Signal::TERM);
    assert_eq!(process.wait(Duration::from_secs(8)).code(), Some(0), "{}", process.stderr());
}

#[test]
fn a_wrong_password_is_told_without_showing_it() {
    let Some(kafka) = Cluster::of(1).secure().start() else { return };
    let worker = Worker::new(&kafka, "password");
    let properties = worker.path("client.properties");
    let text = format!(
        "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=alice\nsasl.password=canary\nssl.ca.location={}\n",
        kafka.tls_file("ca.pem").display()
    );
    std::fs::write(&properties, text).expect("the temporary directory can be written to");
    let arguments = ["--command-config", properties.to_str().expect("UTF-8")];
    let handler = "[worker.handler]\nkind = \"print\"";
    let mut process = worker.start(&kafka.bootstrap_sasl(), handler, &arguments);
    assert_eq!(process.wait(PATIENCE).code(), Some(6), "{}", process.stderr());
    assert!(!process.stderr().contains("canary"), "{}", process.stderr());
}

#[test]
fn a_handler_whose_program_is_missing_is_a_mistake_of_the_file() {
    let worker = Worker {
        dir: tempfile::tempdir().expect("a temporary directory"),
        topic: "orders".to_owned(),
        group: "g".to_owned(),
    };
    let handler = "[worker.handler]\nkind = \"exec\"\ncommand = [\"no-such-program\"]";
    let mut process = worker.start("127.0.0.1:1", handler, &[]);
    assert_eq!(process.wait(PATIENCE).code(), Some(2));
    assert!(process.stderr().contains("no-such-program"), "{}", process.stderr());
}
