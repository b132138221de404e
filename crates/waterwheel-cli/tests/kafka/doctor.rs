//! `doctor`: finds what is wrong, and says by its code what kind of thing it is.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Cluster, Kafka, PATIENCE, Process, topic_name};

/// Its code, and what it found: check and level.
#[track_caller]
fn doctor(bootstrap: &str, arguments: &[&str]) -> (i32, Vec<(String, String)>) {
    let mut process = Process::waterwheel(&[&["doctor", "-b", bootstrap, "-o", "json"], arguments].concat());
    let code = process.wait(PATIENCE).code().expect("it ends by itself");
    let found: Vec<Value> = serde_json::from_str(&process.stdout())
        .unwrap_or_else(|error| panic!("{error}: {} {}", process.stdout(), process.stderr()));
    let text = |finding: &Value, name: &str| finding[name].as_str().expect("a text").to_owned();
    for finding in &found {
        assert_eq!(finding["level"] != "ok", finding["remedy"].is_string(), "what is wrong has a remedy: {finding}");
    }
    (code, found.iter().map(|finding| (text(finding, "check"), text(finding, "level"))).collect())
}

fn level<'a>(found: &'a [(String, String)], check: &str) -> Option<&'a str> {
    found.iter().find(|(name, _)| name == check).map(|(_, level)| level.as_str())
}

#[test]
fn what_is_missing_is_told_and_what_is_not_critical_ends_well() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("doctor");
    kafka.create_topic(&topic, 2, &[]);
    kafka.produce(&topic, [(None, "v".to_owned())]);
    let group = format!("g-{topic}");
    let arguments = ["--topic", &topic, "--group", &group, "--dead-letter", "{topic}.{group}.dlt"];
    let (code, found) = doctor(kafka.bootstrap(), &arguments);
    assert_eq!(code, 0, "{found:?}");
    let sound = ["connection".to_owned(), format!("topic {topic}"), format!("group {group}")];
    for check in sound {
        assert_eq!(level(&found, &check), Some("ok"), "{check} of {found:?}");
    }
    assert!(found.iter().any(|(check, level)| check.starts_with("broker ") && level == "ok"), "{found:?}");
    assert_eq!(level(&found, &format!("topic {topic}.{group}.dlt")), Some("warning"), "{found:?}");

    kafka.commit(&group, &topic, &[(0, 0, ""), (1, 0, "")]);
    let ends = kafka.ends(&topic, 2);
    kafka.delete_records(&topic, &[(0, ends[0]), (1, ends[1])]);
    let (code, found) = doctor(kafka.bootstrap(), &arguments);
    assert_eq!((code, level(&found, &format!("group {group}"))), (0, Some("warning")), "{found:?}");
}

#[test]
fn asking_for_a_topic_does_not_make_it() {
    let Some(kafka) = Kafka::shared() else { return };
    let missing = topic_name("doctor-missing");
    // Whatever the first one did, the second one would see.
    for look in ["first", "second"] {
        let (code, found) = doctor(kafka.bootstrap(), &["--topic", &missing]);
        assert_eq!((code, level(&found, &format!("topic {missing}"))), (5, Some("critical")), "{look}: {found:?}");
    }
}

#[test]
fn a_worker_files_connection_topics_and_groups_are_looked_at() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("doctor-file");
    kafka.create_topic(&topic, 1, &[]);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("worker.toml");
    let text = format!(
        "[kafka]\n\"bootstrap.servers\" = \"127.0.0.1:1\"\n[[worker]]\ntopics = [\"{topic}\", \"^none-[0-9]+$\"]\ngroup = \"g\"\n\
         [worker.dead_letter]\n[worker.handler]\nkind = \"forward\"\ntopic = \"{topic}-copies\"\n"
    );
    std::fs::write(&file, text).expect("a file");
    let (code, found) = doctor(kafka.bootstrap(), &[&file.to_string_lossy()]);
    assert_eq!((code, level(&found, &format!("topic {topic}"))), (0, Some("ok")), "{found:?}");
    assert_eq!(level(&found, "topics ^none-[0-9]+$"), Some("ok"), "{found:?}");
    for written in [format!("topic {topic}-copies"), format!("topic {topic}.g.dlt")] {
        assert_eq!(level(&found, &written), Some("warning"), "{written} of {found:?}");
    }
}

#[test]
fn a_delay_beyond_what_a_topic_keeps_is_a_warning() {
    let Some(kafka) = Kafka::shared() else { return };
    let names = ["short", "long", "compact"].map(|name| topic_name(&format!("doctor-delay-{name}")));
    let [short, long, compact] = &names;
    kafka.create_topic(short, 1, &[("retention.ms", "60000")]);
    kafka.create_topic(long, 1, &[("retention.ms", "3600000")]);
    kafka.create_topic(compact, 1, &[("cleanup.policy", "compact"), ("retention.ms", "60000")]);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("worker.toml");
    let text = format!(
        "[kafka]\n\"bootstrap.servers\" = \"127.0.0.1:1\"\n[[worker]]\ntopics = {names:?}\ngroup = \"g\"\n\
         process_delay = \"5m\"\nhandler = {{ kind = \"print\" }}\n"
    );
    std::fs::write(&file, text).expect("a file");
    let mut process = Process::waterwheel(&["doctor", "-b", kafka.bootstrap(), "-o", "json", &file.to_string_lossy()]);
    assert_eq!(process.wait(PATIENCE).code(), Some(0), "{}", process.stderr());
    let found: Vec<Value> = serde_json::from_str(&process.stdout()).expect("JSON");
    let warned: Vec<_> = found.iter().filter(|finding| finding["level"] == "warning").collect();
    let [warned] = warned[..] else { panic!("{found:#?}") };
    assert_eq!(warned["check"], format!("topic {short}"));
    assert_eq!(warned["said"], "keeps records for 1m, and they start after 5m");
    assert_eq!(warned["remedy"], "raise retention.ms, or make the delay shorter");
}

#[test]
fn brokers_that_cannot_be_reached_end_it_with_7() {
    let (code, found) = doctor("127.0.0.1:1", &["--timeout", "2s"]);
    assert_eq!((code, level(&found, "connection")), (7, Some("critical")), "{found:?}");
}

#[test]
fn credentials_that_are_refused_end_it_with_6_long_before_its_time_out() {
    let Some(kafka) = Cluster::of(1).secure().start() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, password: &str, ca: &str| {
        let path = dir.path().join(name);
        let text = format!(
            "security.protocol=sasl_ssl\nssl.ca.location={}\nsasl.mechanism=SCRAM-SHA-512\nsasl.username=alice\n\
             sasl.password={password}\n",
            kafka.tls_file(ca).display()
        );
        std::fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    };
    for (name, password, ca, code) in [
        ("right", "alice-secret", "ca.pem", 0),
        ("user", "wrong", "ca.pem", 6),
        ("tls", "alice-secret", "other-ca.pem", 6),
    ] {
        let config = file(name, password, ca);
        let (ended, found) = doctor(&kafka.bootstrap_sasl(), &["--command-config", &config, "--timeout", "30s"]);
        assert_eq!(
            (ended, level(&found, "connection").map(|l| l == "ok")),
            (code, Some(code == 0)),
            "{name}: {found:?}"
        );
        // Refused, not timed out.
        let limit = Duration::from_secs(20);
        let mut process = Process::waterwheel(&[
            "lag",
            "-b",
            &kafka.bootstrap_sasl(),
            "--command-config",
            &config,
            "--timeout",
            "30s",
        ]);
        assert_eq!(process.wait(limit).code(), Some(code), "{name}: {}", process.stderr());
    }
}
