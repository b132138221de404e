//! The verbs `consume` and `history`: what they write, when they end, and with which code.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Bytes, Kafka, PATIENCE, Process, topic_name, wait_until};

/// What the command writes until it ends in order.
#[track_caller]
pub(crate) fn written(kafka: &Kafka, arguments: &[&str]) -> Vec<u8> {
    let mut process = Process::waterwheel(&[&["--brokers", kafka.bootstrap()][..], arguments].concat());
    let status = process.wait(PATIENCE);
    assert!(status.success(), "{arguments:?}: {status}\n{}", process.stderr());
    process.stdout_since(0)
}

fn text(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(bytes.to_vec())
}

/// Records of every kind: nulls, empty ones, what is not UTF-8, line ends, headers twice and without a value.
pub(crate) fn of_every_kind() -> Vec<Bytes> {
    let plain = |key: Option<Vec<u8>>, value: Option<Vec<u8>>| Bytes { key, value, ..Bytes::default() };
    let headers = vec![
        ("n".to_owned(), text(b"1")),
        ("n".to_owned(), None),
        ("m".to_owned(), text(b"")),
        ("n".to_owned(), text(b"\xff\x00")),
    ];
    vec![
        plain(text(b"k"), text(b"v")),
        plain(None, text(b"no key")),
        plain(text(b"no value"), None),
        plain(None, None),
        plain(text(b""), text(b"")),
        plain(text(b"\xfe\xff"), text(b"\x00\x1b[31m\xc3\x28")),
        plain(text(b"lines"), text(b"a\nb\r\n\tc\"\\")),
        Bytes { headers, ..plain(text("é".as_bytes()), text("ü".as_bytes())) },
    ]
}

pub(crate) fn topic_of_every_kind(kafka: &Kafka) -> String {
    let topic = topic_name("reading-kinds");
    kafka.create_topic(&topic, 1, &[]);
    assert_eq!(kafka.produce_bytes(&topic, &of_every_kind()).len(), of_every_kind().len());
    topic
}

#[test]
fn consume_writes_byte_for_byte_what_kafkas_console_consumer_writes() {
    let Some(kafka) = Kafka::shared() else { return };
    if !Kafka::has_tools() {
        return;
    }
    let topic = topic_of_every_kind(kafka);
    let count = of_every_kind().len().to_string();
    let mut theirs = vec!["--topic", &topic, "--from-beginning", "--max-messages", &count];
    for property in ["print.timestamp=true", "print.partition=true", "print.offset=true", "print.key=true"] {
        theirs.extend(["--property", property]);
    }
    let mut process = kafka.tool_process("consumer", &theirs);
    assert!(process.wait(PATIENCE).success(), "{}", process.stderr());
    let format = r"CreateTime:%T\tPartition:%p\tOffset:%o\t%k\t%s\n";
    let ours = written(kafka, &["consume", &topic, "-e", "-f", format, "-Z=null"]);
    let theirs = process.stdout_since(0);
    assert!(ours == theirs, "{}\n{}", ours.escape_ascii(), theirs.escape_ascii());
}

/// Bytes of a field of our envelope.
fn bytes(object: &Value, name: &str) -> Option<Vec<u8>> {
    match &object[format!("{name}_b64")] {
        Value::String(base64) => Some(STANDARD.decode(base64).expect("it is base64")),
        _ => object[name].as_str().map(|text| text.as_bytes().to_vec()),
    }
}

#[test]
fn the_envelope_loses_neither_nulls_nor_duplicates_nor_bytes() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_of_every_kind(kafka);
    for verb in [&["consume", "-e"][..], &["history"]] {
        let lines = written(kafka, &[verb, &[&topic, "-J"]].concat());
        let read: Vec<Bytes> = serde_json::Deserializer::from_slice(&lines)
            .into_iter::<Value>()
            .map(|object| {
                let object = object.expect("each line is JSON");
                let header = |header: &Value| {
                    let value = match &header[2] {
                        Value::String(base64) => Some(STANDARD.decode(base64).expect("it is base64")),
                        _ => header[1].as_str().map(|text| text.as_bytes().to_vec()),
                    };
                    (header[0].as_str().expect("a name").to_owned(), value)
                };
                Bytes {
                    partition: 0,
                    offset: 0,
                    key: bytes(&object, "key"),
                    value: bytes(&object, "value"),
                    headers: object["headers"].as_array().expect("headers").iter().map(header).collect(),
                }
            })
            .collect();
        assert_eq!(read, of_every_kind(), "{verb:?}");
    }
    let kcat = written(kafka, &["consume", &topic, "-e", "-J", "--envelope", "kcat", "-o", "7"]);
    let line: Value = serde_json::from_slice(&kcat).expect("one line of JSON");
    assert_eq!(
        (line["offset"].as_i64(), line["key"].as_str(), line["payload"].as_str()),
        (Some(7), Some("é"), Some("ü"))
    );
    assert_eq!(line["headers"].as_array().map(Vec::len), Some(8), "names and values by turns");
}

#[test]
fn consume_reads_the_range_that_is_asked_for_and_what_passes_its_filters() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("reading-ranges");
    kafka.create_topic(&topic, 2, &[]);
    let record = |n: usize| Bytes {
        partition: n as i32 % 2,
        key: Some(format!("k{}", n / 2 % 3).into_bytes()),
        value: Some(format!("v{}", n / 2).into_bytes()),
        headers: vec![("n".to_owned(), Some((n / 2).to_string().into_bytes()))],
        ..Bytes::default()
    };
    kafka.produce_bytes(&topic, &(0..40).map(record).collect::<Vec<_>>());
    let places = |options: &[&str]| -> Vec<String> {
        let lines = written(kafka, &[&["consume", &topic, "-f", r"%p@%o\n"][..], options].concat());
        let mut places: Vec<_> = String::from_utf8(lines).expect("text").lines().map(str::to_owned).collect();
        places.sort();
        places
    };
    let of = |all: &[(i32, i64)]| -> Vec<String> { all.iter().map(|(p, o)| format!("{p}@{o}")).collect() };
    assert_eq!(places(&["-e"]).len(), 40);
    assert_eq!(places(&["-o", "5:7"]), of(&[(0, 5), (0, 6), (1, 5), (1, 6)]));
    assert_eq!(places(&["-o", "-1", "-e"]), of(&[(0, 19), (1, 19)]));
    assert_eq!(places(&["--tail", "2", "-p", "1"]), of(&[(1, 18), (1, 19)]));
    assert_eq!(places(&["-p", "0", "-c", "3"]), of(&[(0, 0), (0, 1), (0, 2)]), "it goes on, but for the count");
    assert_eq!(places(&["-o", "end", "-e"]), of(&[]));
    assert_eq!(places(&["-o", "@-1h:end"]).len(), 40);
    assert_eq!(
        places(&["-e", "-p", "0", "--key", "k1", "--grep", "v1"]),
        of(&[(0, 1), (0, 10), (0, 13), (0, 16), (0, 19)])
    );
    assert_eq!(places(&["-e", "--header", "n=4"]), of(&[(0, 4), (1, 4)]));
    assert_eq!(places(&["-e", "--header", "n", "--header", "m"]), of(&[]));
}

#[test]
fn consume_goes_on_until_it_is_asked_to_stop() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("reading-follow");
    kafka.create_topic(&topic, 1, &[]);
    let record = |value: &str| (Some("k".to_owned()), value.to_owned());
    kafka.produce(&topic, [record("before")]);
    let mut process = Process::waterwheel(&["-b", kafka.bootstrap(), "consume", "-t", &topic, "-K", ": "]);
    wait_until(PATIENCE, "what there is", || process.stdout() == "k: before\n");
    kafka.produce(&topic, [record("later")]);
    wait_until(PATIENCE, "what is written later", || process.stdout() == "k: before\nk: later\n");
    process.signal(Signal::INT);
    assert_eq!(process.wait(PATIENCE).code(), Some(0), "{}", process.stderr());
}

#[test]
fn a_history_ends_when_it_is_caught_up_and_goes_on_if_told() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("reading-history");
    kafka.create_topic(&topic, 3, &[]);
    let batch = |n: usize| (0..50).map(|m| (format!("k{m}"), format!("v{n}-{m}"))).collect();
    kafka.produce_transactions(&topic, &[(true, batch(0)), (true, batch(1)), (false, batch(2))]);
    let lines = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().count();
    for run in 0..2 {
        assert_eq!(lines(&written(kafka, &["history", &topic])), 100, "run {run} reads it all");
    }
    let table = written(kafka, &["history", &topic, "--latest-per-key", "-f", r"%k=%s\n"]);
    let table: BTreeMap<String, String> = String::from_utf8_lossy(&table)
        .lines()
        .map(|line| line.split_once('=').expect("key and value"))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(table, (0..50).map(|m| (format!("k{m}"), format!("v1-{m}"))).collect());
    let groups = kafka.tool("groups", &["--list"]);
    assert!(!groups.contains(&topic), "no group is made for it");

    let mut follow = Process::waterwheel(&["-b", kafka.bootstrap(), "history", &topic, "--follow"]);
    wait_until(PATIENCE, "to be caught up", || follow.stderr().contains("caught up"));
    assert_eq!(follow.stdout().lines().count(), 100);
    kafka.produce(&topic, [(Some("k".to_owned()), "later".to_owned())]);
    wait_until(PATIENCE, "what is written later", || follow.stdout().ends_with("later\n"));
    follow.signal(Signal::TERM);
    assert_eq!(follow.wait(PATIENCE).code(), Some(0), "{}", follow.stderr());
}

#[test]
fn a_missing_topic_is_code_5_and_is_not_made() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("reading-missing");
    for verb in [&["consume", "-e"][..], &["history"], &["consume", "-p", "0"]] {
        let arguments = [&["-b", kafka.bootstrap()][..], verb, &[&topic]].concat();
        let mut process = Process::waterwheel(&arguments);
        assert_eq!(process.wait(PATIENCE).code(), Some(5), "{verb:?}: {}", process.stderr());
        assert!(process.stderr().contains(&topic) && process.stdout().is_empty(), "{}", process.stderr());
    }
    assert!(!kafka.tool("topics", &["--list"]).contains(&topic), "asking does not make it");
}

/// What a reader leaves unread is nobody's error.
#[test]
fn a_reader_that_goes_away_is_not_an_error() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("reading-pipe");
    kafka.create_topic(&topic, 1, &[]);
    kafka.produce(&topic, (0..20_000).map(|n| (None, format!("{n:0100}"))));
    for verb in ["consume", "history", "history --follow"] {
        let program = env!("CARGO_BIN_EXE_waterwheel");
        let script = format!("{program} -b {} {verb} {topic} | head -n 1; echo ${{PIPESTATUS[0]}}", kafka.bootstrap());
        let mut process = Process::start("bash", &["-c", &script]);
        process.wait(PATIENCE);
        let stdout = process.stdout();
        assert!(stdout.ends_with("\n0\n") && stdout.lines().count() == 2, "{verb}: {stdout}{}", process.stderr());
        assert!(!process.stderr().contains("error"), "{verb}: {}", process.stderr());
    }
}
