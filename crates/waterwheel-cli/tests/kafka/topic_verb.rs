//! The verb `topic`: what it says and does is so by Kafka's own tools, and a change is made only when asked for.

use serde_json::Value;

use crate::support::{Kafka, PATIENCE, Process, topic_name, wait_until};

/// Its JSON, after it ended with that code; and what it said on stderr.
#[track_caller]
fn verb(kafka: &Kafka, arguments: &[&str], code: i32) -> (Vec<Value>, String) {
    let mut process = Process::waterwheel(&[&["-b", kafka.bootstrap(), "-o", "json", "topic"], arguments].concat());
    let ended = process.wait(PATIENCE).code();
    assert_eq!(ended, Some(code), "{arguments:?}: {}", process.stderr());
    (serde_json::from_str(&process.stdout()).unwrap_or_default(), process.stderr())
}

/// Names that Kafka's own tool lists.
fn listed(kafka: &Kafka, topic: &str) -> bool {
    kafka.tool("topics", &["--list"]).lines().any(|line| line == topic)
}

#[test]
fn topics_are_made_described_configured_and_deleted_as_kafkas_own_tools_see_it() {
    let Some(kafka) = Kafka::shared() else { return };
    if !Kafka::has_tools() {
        return;
    }
    let topic = topic_name("topic-verb");
    let create = ["create", &topic, "-p", "3", "-r", "1", "--config", "retention.ms=3600000"];
    let (plan, stderr) = verb(kafka, &create, 0);
    assert_eq!((&plan[0]["topic"], &plan[0]["done"]), (&topic.as_str().into(), &false.into()));
    assert!(stderr.contains("nothing was changed: --execute does it") && !listed(kafka, &topic), "{stderr}");
    let (made, _) = verb(kafka, &[&create[..], &["--execute"]].concat(), 0);
    assert_eq!(made[0]["done"], true);
    wait_until(PATIENCE, "the topic to be there", || listed(kafka, &topic));
    let told = kafka.tool("topics", &["--describe", "--topic", &topic]);
    assert!(told.contains("PartitionCount: 3") && told.contains("retention.ms=3600000"), "{told}");

    kafka.produce(&topic, (0..30).map(|n| (Some(format!("k{n}")), "v".to_owned())));
    let described = verb(kafka, &["describe", &topic], 0).0.remove(0);
    let partitions = described["partitions"].as_array().expect("a list");
    assert_eq!(partitions.len(), 3);
    for (partition, end) in partitions.iter().zip(kafka.ends(&topic, 3)) {
        assert_eq!((&partition["leader"], &partition["in_sync"]), (&1.into(), &vec![1].into()), "{partition}");
        assert_eq!((partition["begin"].as_i64(), partition["end"].as_i64()), (Some(0), Some(end)), "{partition}");
    }
    assert_eq!(described["set"], serde_json::json!({"retention.ms": "3600000"}));
    let (all, _) = verb(kafka, &["ls"], 0);
    assert!(all.iter().any(|one| one["topic"] == topic.as_str() && one["partitions"] == 3), "{all:?}");
    assert!(all.iter().all(|one| one["internal"] == false), "{all:?}");

    let change = [
        "config",
        &topic,
        "--set",
        "segment.ms=60000",
        "--unset",
        "retention.ms",
        "--append",
        "cleanup.policy=compact",
    ];
    let (plan, stderr) = verb(kafka, &change, 0);
    assert_eq!((&plan[1]["name"], &plan[1]["from"]), (&"retention.ms".into(), &"3600000".into()));
    assert!(stderr.contains("nothing was changed"), "{stderr}");
    let configured = || kafka.tool("configs", &["--describe", "--entity-type", "topics", "--entity-name", &topic]);
    assert!(configured().contains("retention.ms=3600000"), "a plan changes nothing");
    verb(kafka, &[&change[..], &["--execute"]].concat(), 0);
    wait_until(PATIENCE, "the change to be known", || configured().contains("segment.ms=60000"));
    let told = configured();
    assert!(!told.contains("retention.ms=") && told.contains("cleanup.policy=delete,compact"), "{told}");
    let (set, _) = verb(kafka, &["config", &topic], 0);
    assert_eq!(set.len(), 2, "{set:?}");
    assert!(verb(kafka, &["config", &topic, "--all"], 0).0.len() > 10);

    let (plan, _) = verb(kafka, &["delete", &topic], 0);
    assert_eq!((&plan[0]["offsets"], &plan[0]["done"]), (&30.into(), &false.into()));
    assert!(listed(kafka, &topic), "a plan changes nothing");
    let (gone, _) = verb(kafka, &["delete", &topic, "--execute"], 0);
    assert_eq!(gone[0]["done"], true);
    wait_until(PATIENCE, "the topic to be gone", || !listed(kafka, &topic));
}

#[test]
fn what_the_brokers_refuse_is_told_and_nothing_is_changed() {
    let Some(kafka) = Kafka::shared() else { return };
    if !Kafka::has_tools() {
        return;
    }
    let (there, other) = (topic_name("topic-there"), topic_name("topic-other"));
    kafka.create_topic(&there, 1, &[]);
    let refused = |arguments: &[&str], code: i32, told: &str| {
        let (_, stderr) = verb(kafka, &[arguments, &["--execute"]].concat(), code);
        assert!(stderr.contains(told) && stderr.contains("nothing was changed"), "{arguments:?}: {stderr}");
        assert!(listed(kafka, &there) && !listed(kafka, &other), "{arguments:?}");
    };
    refused(&["create", &there, &other], 8, "is there already");
    refused(&["create", &other, "--config", "retention.msx=1"], 8, "retention.msx");
    refused(&["create", &other, "-r", "77"], 8, "replication factor");
    refused(&["delete", &there, &other], 5, "there is no topic");
    refused(&["config", &there, "--set", "retention.ms=long"], 8, "retention.ms");
    let (_, stderr) = verb(kafka, &["describe", &other], 5);
    assert!(stderr.contains(&format!("there is no topic {other}")), "{stderr}");
    let (left, _) = verb(kafka, &["create", &there, &other, "--if-missing"], 0);
    assert_eq!(left.len(), 1, "{left:?}");
    let (_, stderr) = verb(kafka, &["delete", "__consumer_offsets", "--execute"], 8);
    assert!(stderr.contains("Kafka's own"), "{stderr}");
}
