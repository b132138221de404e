//! Flags and events, compared with those of Kafka's own programs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::topic;
use crate::support::{Kafka, PATIENCE, Process};

fn flags(help: &str) -> BTreeSet<String> {
    let words = help.split(|c: char| !(c.is_alphanumeric() || "-.".contains(c)));
    let flags = words.map(|word| word.trim_end_matches('.')).filter(|word| word.starts_with("--") && word.len() > 2);
    flags.map(str::to_owned).collect()
}

#[test]
fn every_flag_of_javas_programs_is_ours() {
    if !Kafka::has_tools() {
        return;
    }
    let Some(kafka) = Kafka::shared() else { return };
    for name in ["verifiable-producer", "verifiable-consumer"] {
        let mut java = kafka.tool_process(name, &["--help"]);
        java.wait(PATIENCE);
        let mut ours = Process::waterwheel(&[name, "--help"]);
        assert_eq!(ours.wait(PATIENCE).code(), Some(0), "{}", ours.stderr());
        let (java, ours) = (flags(&java.stdout()), flags(&ours.stdout()));
        assert!(java.len() >= 9, "void: its help was not read: {java:?}");
        let missing: Vec<&String> = java.difference(&ours).collect();
        assert!(missing.is_empty(), "{name} lacks {missing:?}");
    }
}

/// Each event's fields and their kinds, and whether the time and the name are what begins it.
fn fields(process: &mut Process) -> BTreeMap<String, BTreeSet<String>> {
    process.wait(PATIENCE);
    let mut events: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in process.stdout().lines().filter(|line| line.starts_with('{')) {
        assert!(line.starts_with("{\"timestamp\":"), "{line}");
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let name = event["name"].as_str().unwrap_or_else(|| panic!("no name: {line}"));
        shape(name, &event, events.entry(name.to_owned()).or_default());
    }
    events
}

fn shape(path: &str, value: &Value, shapes: &mut BTreeSet<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "fraction",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(items) => {
            items.iter().for_each(|item| shape(&format!("{path}[]"), item, shapes));
            "list"
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(field, value)| shape(&format!("{path}.{field}"), value, shapes));
            "object"
        }
    };
    shapes.insert(format!("{path}: {kind}"));
}

#[test]
#[ignore = "was not seen to pass yet: the events of refused records and of consumers were not compared to the end"]
fn every_event_has_the_fields_of_javas() {
    let Some((kafka, topic)) = topic("verifiable-fields", 1, true) else { return };
    // Nothing is acknowledged: all is too old. What is too large will not do, Java sends that again without end.
    let young = format!("{topic}-young");
    kafka.create_topic(&young, 1, &[("message.timestamp.before.max.ms", "1000")]);
    let ours = |verb: &str, arguments: &[&str]| {
        fields(&mut Process::waterwheel(&[&[verb, "--bootstrap-server", kafka.bootstrap()], arguments].concat()))
    };
    let java = |verb: &str, arguments: &[&str]| fields(&mut kafka.tool_process(verb, arguments));

    let keys = ["--topic", &topic, "--max-messages", "20", "--repeating-keys", "2", "--value-prefix", "3"];
    let refused = ["--topic", &young, "--max-messages", "2", "--message-create-time", "1"];
    for (arguments, wanted) in [(&keys[..], "producer_send_success"), (&refused, "producer_send_error")] {
        let (ours, java) = (ours("verifiable-producer", arguments), java("verifiable-producer", arguments));
        assert!(java.contains_key(wanted), "void: {java:?}");
        assert_eq!(ours, java);
    }
    for protocol in ["classic", "consumer"] {
        let [one, other] = ["ours", "java"].map(|half| format!("{half}-{topic}-{protocol}"));
        let all = ["--topic", &topic, "--verbose", "--max-messages", "20", "--group-protocol", protocol, "--group-id"];
        let ours = ours("verifiable-consumer", &[&all[..], &[&one]].concat());
        let java = java("verifiable-consumer", &[&all[..], &[&other]].concat());
        assert_eq!(java.len(), 7, "void: {java:?}");
        assert_eq!(ours, java);
    }
}
