//! `bench` where no brokers are named, and what it refuses.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "the helpers of a test fail it")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const EMBEDDED: &str = "mock cluster in this process, without disk and replication: figures of it mean little; --brokers \
    names a Kafka\n";

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    command.arg("bench").args(args).current_dir(dir).env_clear().env("TMPDIR", dir).env("PATH", "/usr/bin:/bin");
    command.stdin(Stdio::null());
    command
}

fn bench(dir: &TempDir, args: &[&str]) -> Ended {
    let output = command(dir.path(), args).output().expect("the command runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A program that ignores what it is told.
fn program(dir: &TempDir, name: &str, script: &str) -> String {
    let path = dir.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("the folder can be written to");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("the file is ours");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn records_are_copied_one_by_one_and_exactly_once() {
    let dir = folder();
    for how in [&["--forward", "copies"][..], &["--forward", "copies", "--exactly-once"]] {
        let ended = bench(&dir, &[&["consume", "--count", "2000"], how].concat());
        let figures: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
        assert_eq!((ended.code, figures["records"].as_u64()), (Some(0), Some(2000)), "{how:?}: {}", ended.stderr);
    }
    let ended = bench(&dir, &["consume", "--exactly-once"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
}

#[test]
fn bad_input_is_refused_and_the_remedy_named() {
    let dir = folder();
    let rate = "'--rate <N>': must be a whole number from 1 to 1000000";
    let duration = "'--duration <TIME>': must be a time from 1s to 1h, as 30s";
    let table: [(&[&str], String); 19] = [
        (&["latency", "--rate", "0"], format!("invalid value '0' for {rate}")),
        (&["latency", "--rate", "-5"], format!("invalid value '-5' for {rate}")),
        (&["latency", "--duration", "0"], format!("invalid value '0' for {duration}")),
        (&["latency", "--duration", "-1s"], format!("invalid value '-1s' for {duration}")),
        (&["latency", "--arm", ""], "invalid value '' for '--arm <COMMAND>': names no program".to_owned()),
        (&["latency", "--arm", "/no/arm"], "the program \"/no/arm\" is not there, or not executable".to_owned()),
        (&["latency", "--mode", "raw"], "is one of key, partition, unordered".to_owned()),
        (&["latency", "--partitions", "0"], "must be a whole number from 1 to 1000".to_owned()),
        (&["latency", "--topic", "t", "--partitions", "3"], "cannot be used with".to_owned()),
        (&["latency", "--timeout", "0s"], "must be a time from 100ms to 1h, as 30s".to_owned()),
        (&["worker", "--workloads", "key7"], "no workload is called \"key7\"".to_owned()),
        (&["worker", "--rounds", "0"], "must be a whole number from 1 to 100".to_owned()),
        (&["worker", "--scale", "-1"], "must be a number from 0.001 to 100".to_owned()),
        (&["consume", "--count", "0"], "0 is not in 1..".to_owned()),
        (&["consume", "-b", "h:1"], "error: --topic is needed where brokers are named\n".to_owned()),
        (&["produce", "-b", "h:1", "--topic", "t"], "error: --count is needed where brokers are named\n".to_owned()),
        (
            &["consume", "-b", "h:1", "--topic", "t", "--count", "1", "--keys", "3"],
            "error: --keys is for the topic that is made where no brokers are named\n\
             hint: on brokers, consume reads a topic as it is\n"
                .to_owned(),
        ),
        (
            &["consume", "--count", "5000000"],
            "error: 5,000,000 records of 100 bytes do not fit in the cluster in this process, which keeps 5 MiB a \
             partition: 254,200 do\n\
             hint: lower --count or --size, raise --partitions or --keys, or name brokers\n"
                .to_owned(),
        ),
        (&["consume", "--topic", "a b"], "error: topic: \"a b\" holds ' '".to_owned()),
    ];
    for (args, expected) in table {
        let ended = bench(&dir, args);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(&expected), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{args:?}");
    }
}

#[test]
fn without_brokers_consume_fills_a_topic_and_reads_it() {
    let dir = folder();
    for mode in ["key", "raw"] {
        let ended = bench(&dir, &["consume", "--count", "3000", "--partitions", "3", "--size", "9", "--mode", mode]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), EMBEDDED));
        let line: Value = serde_json::from_str(&ended.stdout).expect("one JSON line");
        assert_eq!((&line["mode"], &line["embedded"]), (&mode.into(), &true.into()), "{line}");
        assert!(line["records"].as_u64() >= Some(3000) && line["rate"].as_f64() > Some(0.0), "{line}");
    }
    let ended = bench(&dir, &["consume", "--count", "3000", "-q", "-o", "table", "--work-us", "10"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let names: Vec<&str> = ended.stdout.lines().map(|line| line.split("  ").next().unwrap_or_default()).collect();
    let first = format!("waterwheel-{}, mode key", env!("CARGO_PKG_VERSION"));
    let rows = ["records", "a second", "join", "steady", "CPU", "peak resident", "peak in work", "handlers waited"];
    assert_eq!(names, [&[first.as_str(), ""][..], &rows].concat(), "{}", ended.stdout);
}

#[test]
fn without_brokers_produce_makes_a_topic() {
    let dir = folder();
    for (mode, count) in [("batch", 3_000), ("futures", 25_000), ("each", 3_000), ("await", 20)] {
        let ended = bench(&dir, &["produce", "--mode", mode, "--count", &count.to_string()]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), EMBEDDED));
        let line: Value = serde_json::from_str(&ended.stdout).expect("one JSON line");
        assert_eq!((&line["records"], &line["embedded"]), (&count.into(), &true.into()), "{line}");
        // Longer than it lingers.
        assert_eq!(line["p50_us"].as_u64().is_some_and(|time| time >= 5_000), mode == "await", "{line}");
    }
}

#[test]
fn without_brokers_a_latency_is_measured() {
    let dir = folder();
    let args = ["latency", "-q", "--rate", "200", "--duration", "1s", "--warm-up", "0s", "-o", "json"];
    let ended = bench(&dir, &args);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    let line: Value = serde_json::from_str(&ended.stdout).expect("one JSON line");
    let figures = ["records", "unseen", "rate"].map(|name| line[name].as_u64());
    assert_eq!((figures, &line["embedded"]), ([Some(200), Some(0), Some(200)], &true.into()), "{line}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("the folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_consumer_that_ends_or_never_reads_is_told() {
    let dir = folder();
    let arms = [
        ("false", Some(1), "error: the consumer ended before it was told to: exit status: 1\n"),
        (
            &program(&dir, "idle", "exec sleep 100"),
            Some(3),
            "error: the consumer has not read 2 of the topic's partitions within 300ms\nhint: its journal must have",
        ),
        (
            &program(&dir, "other", "echo '{\"arm\":\"other-1\",\"unsupported\":\"no order of keys\"}'; exit 2"),
            Some(2),
            "error: other cannot do that: no order of keys\n",
        ),
    ];
    for (arm, code, expected) in arms {
        let ended = bench(&dir, &["latency", "-q", "--arm", arm, "--timeout", "300ms", "--partitions", "2"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{arm}: {}", ended.stderr);
        assert!(ended.stderr.starts_with(expected), "{arm}: {}", ended.stderr);
    }
}

#[test]
fn a_consumer_that_loses_records_fails_the_measurement() {
    let dir = folder();
    // It ends the first record of each partition, and no other.
    let script = "while [ \"$1\" != --journal ]; do shift; done\n\
                  printf 'E 0 0 \\nE 1 0 \\ngarbage\\n' >> \"$2\"\n\
                  exec sleep 100";
    let arm = program(&dir, "loses", script);
    let args = ["--timeout", "300ms", "--partitions", "2", "--rate", "50", "--duration", "1s", "--warm-up", "0s"];
    let ended = bench(&dir, &[&["latency", "-q", "-o", "json", "--arm", &arm][..], &args].concat());
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(
        ended.stderr.starts_with(
            "warning: lines of the consumer's journal that are none of its format, or of no record of this run: 1\n\
             error: 50 records were not handled within 300ms of the last one's sending, the first of them at offset 1 of \
             partition 0\n"
        ),
        "{}",
        ended.stderr
    );
    let line: Value = serde_json::from_str(&ended.stdout).expect("one JSON line");
    assert_eq!((&line["records"], &line["unseen"], &line["arm"]), (&0.into(), &50.into(), &"loses".into()), "{line}");
}

#[test]
fn an_interrupted_measurement_ends_its_consumer_and_tells_what_it_has() {
    let dir = folder();
    let mut child =
        command(dir.path(), &["latency", "--rate", "100", "--warm-up", "0s", "--duration", "1h", "-o", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
    let begun =
        stderr.by_ref().map_while(Result::ok).any(|line| line.starts_with("the consumer reads; sending for 3600 s"));
    assert!(begun, "it ended at once");
    let folder = std::fs::read_dir(dir.path()).expect("the folder").flatten().next().expect("the pipe's folder").path();
    assert_eq!(folder.metadata().expect("it is there").permissions().mode() & 0o777, 0o700);
    kill_process(Pid::from_child(&child), Signal::INT).expect("the command runs");
    let told: Vec<String> = stderr.map_while(Result::ok).collect();
    let mut stdout = String::new();
    child.stdout.take().expect("stdout is piped").read_to_string(&mut stdout).expect("stdout is text");
    // Nobody holds its stderr any more, so its consumer has ended, too.
    assert_eq!(child.wait().expect("the command ends").code(), Some(4), "{told:?} {stdout}");
    match serde_json::from_str::<Value>(&stdout) {
        Ok(line) => {
            assert_eq!((&line["interrupted"], &line["unseen"]), (&true.into(), &0.into()), "{line}");
            assert_eq!(told, ["interrupted: the figures are of what was sent until then"]);
        }
        Err(_) => assert_eq!(told, ["error: interrupted before anything was measured"]),
    }
    assert!(!folder.exists());
}

/// The names of a process's threads, and whether it catches SIGTERM and SIGINT, in this order; `None` once it has ended.
/// SIGINT is caught last: by then whoever counts SIGTERM hears of it.
fn threads_and_catches(pid: u32) -> Option<(Vec<String>, bool)> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let threads = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok()).collect();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
    let both = 1 << (Signal::TERM.as_raw() - 1) | 1 << (Signal::INT.as_raw() - 1);
    Some((threads, u64::from_str_radix(caught.trim(), 16).ok()? & both == both))
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_comes_before_any_client_is_made_ends_a_program_in_order() {
    let dir = folder();
    let file = dir.path().join("worker.toml");
    let worker = "kafka.\"bootstrap.servers\" = \"127.0.0.1:1\"\n[[worker]]\nname = \"w\"\ntopics = [\"t\"]\ngroup = \"g\"\n\
        handler.kind = \"print\"\n";
    std::fs::write(&file, worker).expect("the folder can be written to");
    let file = file.to_string_lossy();
    // A producer waits for the answers to what it has sent by then.
    let hasty = dir.path().join("hasty.properties");
    std::fs::write(&hasty, "delivery.timeout.ms=1000\nlinger.ms=0\n").expect("the folder can be written to");
    let hasty = hasty.to_string_lossy();
    for args in [
        &["bench", "consume", "--brokers", "127.0.0.1:1", "--topic", "t", "--count", "9"][..],
        &["bench", "consume", "--brokers", "127.0.0.1:1", "--topic", "t", "--count", "9", "--mode", "raw"],
        &["bench", "consume"],
        &["run", &file],
        &["verifiable-consumer", "--bootstrap-server", "127.0.0.1:1", "--topic", "t", "--group-id", "g"],
        &["verifiable-producer", "--bootstrap-server", "127.0.0.1:1", "--topic", "t", "--producer.config", &hasty],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
        command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command runs");
        loop {
            let (threads, catches) = threads_and_catches(child.id()).expect("it does not end by itself");
            if catches {
                break;
            }
            assert!(
                !threads.iter().any(|name| name.starts_with("rdk:")),
                "{args:?}: {threads:?} and no signal is caught"
            );
            assert!(child.try_wait().expect("it is a child").is_none(), "{args:?}: it ended by itself");
        }
        kill_process(Pid::from_child(&child), Signal::TERM).expect("the command runs");
        let ended = child.wait_with_output().expect("the command ends");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(0), "{args:?}: {}: {stderr}", ended.status);
    }
}

#[test]
fn without_brokers_workloads_are_cut_to_what_can_be_kept() {
    let dir = folder();
    let ended = bench(&dir, &["worker", "-q", "--workloads", "part0,key1ms", "--scale", "0.1"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let words = |line: &str| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines.len(), 3, "{}", ended.stdout);
    assert_eq!(words(lines[0]), ["workload", "records"]);
    assert_eq!(words(lines[1]), ["part0", "254,200"]);
    assert_eq!(words(lines[2]), ["key1ms", "2,500"]);
}
