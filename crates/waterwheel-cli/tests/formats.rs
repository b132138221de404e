//! Formats and a schema registry in `produce`, `consume` and `run`, on a cluster in this process.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test's support ends the test")]

#[path = "../../waterwheel/examples/registry/mod.rs"]
mod registry;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use waterwheel::embedded::Cluster;
use waterwheel::registry::{Registry, SchemaText};

use self::registry::TestRegistry;

const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
    {"name":"customer","type":"string"},{"name":"cents","type":"long"},
    {"name":"note","type":["null","string"],"default":null}]}"#;
const PAYMENT: &str = "syntax = \"proto3\"; package shop; message Payment { string customer = 1; int64 cents = 2; }";

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::start(1).unwrap())
}

/// A registry, and a topic with that schema of its values.
struct Place {
    /// On which the registry is.
    _runtime: tokio::runtime::Runtime,
    registry: TestRegistry,
    url: String,
    topic: &'static str,
}

impl Place {
    fn new(topic: &'static str, schema: &SchemaText) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (registry, url) = runtime.block_on(TestRegistry::start());
        let client = Registry::new(&url).unwrap();
        runtime.block_on(client.register(&format!("{topic}-value"), schema)).unwrap();
        cluster().create_topic(topic, 1).unwrap();
        Self { _runtime: runtime, registry, url, topic }
    }

    /// Runs the verb on that input, with the topic as the first argument.
    fn verb(&self, verb: &str, arguments: &[&str], input: &str) -> Ended {
        let brokers = cluster().bootstrap_servers();
        let mut child = start(&[&["-b", &brokers, verb, self.topic], arguments].concat(), &self.url);
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Ended::of(child)
    }

    /// The group of the topic's worker: its own, or the tests would wait for each other's rebalances.
    fn group(&self) -> String {
        format!("of-{}", self.topic)
    }

    fn create_dead_letter_topic(&self) -> String {
        let topic = format!("{}.{}.dlt", self.topic, self.group());
        cluster().create_topic(&topic, 1).unwrap();
        topic
    }

    fn read(&self, topic: &str, format: &str) -> String {
        let brokers = cluster().bootstrap_servers();
        Ended::of(start(&["-b", &brokers, "consume", topic, "-e", "-f", format], &self.url)).with(0).stdout
    }
}

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn of(child: Child) -> Self {
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        self
    }
}

fn start(arguments: &[&str], registry: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_waterwheel"))
        .args(arguments)
        .env("WATERWHEEL_REGISTRY", registry)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a worker file until it has printed so many lines, then stops it in order.
fn run(file: &str, lines: usize) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.toml");
    std::fs::write(&path, file).unwrap();
    let mut child = start(&["-q", "run", path.to_str().unwrap()], "http://127.0.0.1:1");
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut read = Vec::new();
    while read.len() < lines {
        let mut line = String::new();
        if out.read_line(&mut line).unwrap() == 0 {
            let mut told = String::new();
            child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
            panic!("the run ended:\n{told}");
        }
        read.push(serde_json::from_str(&line).unwrap());
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    Ended::of(child).with(0);
    read
}

fn worker_file(place: &Place, value: &str, more: &str) -> String {
    format!(
        "[kafka]\n\"bootstrap.servers\" = \"{}\"\n[registry]\nurl = \"{}\"\n[[worker]]\ntopics = [\"{}\"]\n\
         group = \"{}\"\nvalue = \"{value}\"\nhandler = {{ kind = \"print\" }}\n{more}",
        cluster().bootstrap_servers(),
        place.url,
        place.topic,
        place.group()
    )
}

fn values(lines: &[Value]) -> Vec<&Value> {
    lines.iter().map(|line| &line["value"]).collect()
}

#[test]
fn avro_goes_from_json_lines_through_a_topic_to_consume_and_a_worker() {
    let place = Place::new("avro", &SchemaText::avro(ORDER));
    let lines = "a:{\"customer\":\"anna\",\"cents\":120}\nb:{\"customer\":\"bo\",\"cents\":9007199254740993,\"note\":\"x\"}\nc:\n";
    place.verb("produce", &["--value-format", "avro", "-K:", "-Z"], lines).with(0);

    let text = place.verb("consume", &["-e", "-s", "value=avro", "-Z=~"], "").with(0).stdout;
    let anna = json!({ "customer": "anna", "cents": 120, "note": null });
    let bo = json!({ "customer": "bo", "cents": 9_007_199_254_740_993_i64, "note": "x" });
    let read: Vec<&str> = text.lines().collect();
    assert_eq!(serde_json::from_str::<Value>(read[0]).unwrap(), anna);
    assert_eq!(serde_json::from_str::<Value>(read[1]).unwrap(), bo);
    assert_eq!(read[2..], ["~"]);
    let raw = place.verb("consume", &["-e", "-c1", "-f", "%R"], "").with(0).stdout;
    assert_ne!(raw.as_bytes(), (read[0].len() as u32).to_be_bytes(), "it is not JSON in the topic");

    let printed = run(&worker_file(&place, "avro", ""), 3);
    let mut by_key: Vec<(&str, &Value)> = printed.iter().map(|l| (l["key"].as_str().unwrap(), &l["value"])).collect();
    by_key.sort_by_key(|(key, _)| *key);
    assert_eq!(by_key, [("a", &anna), ("b", &bo), ("c", &Value::Null)]);
}

#[test]
fn what_consume_decoded_is_written_back_byte_for_byte() {
    let place = Place::new("copy", &SchemaText::avro(ORDER));
    place.verb("produce", &["-s", "value=avro", "-k", "k"], "{\"customer\":\"anna\",\"cents\":1}\n").with(0);
    let lines = place.verb("consume", &["-e", "-J", "-s", "value=avro"], "").with(0).stdout;
    let line: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!((&line["value_json"]["cents"], line.get("value")), (&json!(1), None), "apart from a text");
    let refused = place.verb("produce", &["--from-ndjson", "--key-format", "utf8"], &lines).with(1);
    assert!(refused.stderr.contains("stdin:1: the value was decoded: --value-format"), "{}", refused.stderr);
    place.verb("produce", &["--from-ndjson", "--value-format", "avro"], &lines).with(0);
    let bytes = place.verb("consume", &["-e", "-J"], "").with(0).stdout;
    let raw: Vec<Value> = bytes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let body = |line: &Value| (line["value"].clone(), line["value_b64"].clone());
    assert_eq!(raw.len(), 2);
    assert_eq!(body(&raw[0]), body(&raw[1]));
}

#[test]
fn protobuf_and_json_schema_have_their_formats_and_no_other() {
    let place = Place::new("protobuf", &SchemaText::protobuf(PAYMENT));
    place.verb("produce", &["--value-format", "protobuf"], "{\"customer\":\"anna\",\"cents\":\"7\"}\n").with(0);
    let text = place.verb("consume", &["-e", "--value-format", "protobuf"], "").with(0).stdout;
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({ "customer": "anna", "cents": "7" }));
    let other = place.verb("consume", &["-e", "--value-format", "avro"], "").with(1);
    assert!(other.stderr.contains("protobuf-0@0: of another schema type than AVRO (decode)"), "{}", other.stderr);
    let other = place.verb("produce", &["--value-format", "avro"], "{\"customer\":\"anna\"}\n").with(1);
    assert!(other.stderr.contains("the subject's schema is of another type than AVRO"), "{}", other.stderr);
    let keys = place.verb("produce", &["--key-format", "avro", "-k", "1"], "x\n").with(1);
    assert!(
        keys.stderr.contains("; register the schema first") && keys.stderr.contains("protobuf-key"),
        "{}",
        keys.stderr
    );

    let place = Place::new("json", &SchemaText::json("{}"));
    place.verb("produce", &["--value-format", "json"], "{\"n\": 1.10}\n").with(0);
    place.verb("produce", &[], "{\"n\":2}\n").with(0);
    let text = place.verb("consume", &["-e", "--value-format", "json"], "").with(0).stdout;
    assert_eq!(text.lines().collect::<Vec<_>>(), ["{\"n\": 1.10}", "{\"n\":2}"], "behind an id, and plain");
}

#[test]
fn what_is_not_of_its_format_is_told_with_its_place_and_stops_or_is_left_out() {
    let place = Place::new("odd", &SchemaText::avro(ORDER));
    place.verb("produce", &[], "canary\n").with(0);
    place.verb("produce", &["--value-format", "avro"], "{\"customer\":\"anna\",\"cents\":1}\n").with(0);
    let stopped = place.verb("consume", &["-e", "--value-format", "avro"], "").with(1);
    assert!(stopped.stderr.contains("error: odd-0@0: ") && stopped.stderr.contains("(decode)"), "{}", stopped.stderr);
    assert!(stopped.stdout.is_empty() && !stopped.stderr.contains("canary"), "{}", stopped.stderr);
    let skipped = place.verb("consume", &["-e", "--value-format", "avro", "--on-error", "skip"], "").with(1);
    assert_eq!(skipped.stdout.lines().count(), 1);
    assert!(skipped.stderr.contains("left out, since they were not of their format: 1"), "{}", skipped.stderr);

    let refused = place.verb("produce", &["--value-format", "avro"], "{\"customer\":\"canary\"}\n").with(1);
    assert!(refused.stderr.contains("stdin:1: ") && !refused.stderr.contains("canary"), "{}", refused.stderr);

    // The worker has it as a failure of class decode, and goes on behind it.
    let letters = place.create_dead_letter_topic();
    let printed = run(&worker_file(&place, "avro", "[worker.dead_letter]\n"), 1);
    assert_eq!(values(&printed), [&json!({ "customer": "anna", "cents": 1, "note": null })]);
    let letters = place.read(&letters, "%s %h\n");
    assert!(letters.starts_with("canary ") && letters.contains("waterwheel-error-class=decode"), "{letters}");
}

#[test]
fn a_registry_that_is_down_dead_letters_nothing_and_ends_verbs_with_7() {
    let place = Place::new("down", &SchemaText::avro(ORDER));
    place.verb("produce", &["--value-format", "avro"], "{\"customer\":\"anna\",\"cents\":1}\n").with(0);
    place.registry.state().refusing = Some((usize::MAX, 503));
    let read = place.verb("consume", &["-e", "--value-format", "avro", "--on-error", "skip"], "").with(7);
    assert!(read.stderr.contains("down-0@0: schema registry: "), "{}", read.stderr);
    place.verb("produce", &["--value-format", "avro", "--on-error", "skip"], "{}\n{}\n").with(7);

    // More refusals than the worker has attempts: two, of three requests each.
    let letters = place.create_dead_letter_topic();
    place.registry.state().refusing = Some((9, 503));
    let printed = run(&worker_file(&place, "avro", "[worker.dead_letter]\n[worker.retry]\nattempts = 2\n"), 1);
    assert_eq!(printed[0]["value"]["customer"], json!("anna"));
    let refusals = place.registry.state().refusing;
    assert_eq!(refusals, Some((0, 503)), "void: it was not refused");
    assert_eq!(place.read(&letters, "%s\n"), "");
}

#[test]
fn a_signal_ends_produce_in_order_while_its_registry_is_silent() {
    let place = Place::new("silent", &SchemaText::avro(ORDER));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let brokers = cluster().bootstrap_servers();
    let mut child = start(&["-b", &brokers, "produce", place.topic, "--value-format", "avro"], &url);
    child.stdin.take().unwrap().write_all(b"{}\n").unwrap();
    let _asked = silent.accept().unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ended = Ended::of(child).with(4);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn credentials_come_from_a_file_and_not_in_clear_over_http() {
    let place = Place::new("secret", &SchemaText::avro(ORDER));
    place.registry.state().credentials = Some("Basic dTpwYXNz".to_owned());
    let dir = tempfile::tempdir().unwrap();
    let (secret, path) = (dir.path().join("password"), dir.path().join("registry.toml"));
    std::fs::write(&secret, "pass\n").unwrap();
    let file = |more: &str| {
        let url = &place.url;
        let secret = secret.display();
        let text = format!("[registry]\nurl = \"{url}\"\nuser = \"u\"\npassword = \"${{file:{secret}}}\"\n{more}");
        std::fs::write(&path, text).unwrap();
    };
    let arguments = ["--value-format", "avro", "--registry-config", path.to_str().unwrap()];
    let order = "{\"customer\":\"anna\",\"cents\":1}\n";
    file("");
    let clear = place.verb("produce", &arguments, order).with(2);
    assert!(clear.stderr.contains("credentials would go over an unencrypted connection"), "{}", clear.stderr);
    file("dangerously_allow_plaintext_auth = true\n");
    place.verb("produce", &arguments, order).with(0);
    for (verb, argument) in [("consume", "-e"), ("produce", "-Z")] {
        let refused = place.verb(verb, &[argument, "--on-error", "skip", "--value-format", "avro"], order).with(6);
        assert!(!refused.stderr.contains("pass"), "{}", refused.stderr);
    }
    let idle = place.verb("consume", &["-e", "--registry-config", path.to_str().unwrap()], "").with(2);
    assert!(idle.stderr.contains("no format that has schemas"), "{}", idle.stderr);
}
