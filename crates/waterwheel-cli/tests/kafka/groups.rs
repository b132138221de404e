//! `group` and `lag`: what they say is so by Kafka's own tool, too, and a change is made only when asked for, and undone.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Notify;
use waterwheel::{Failure, Message, Raw};

use crate::support::{Bytes, Kafka, PATIENCE, Process, Trial, topic_name, wait_until};

/// What a verb printed and how it ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// The code's own check, then the items of its JSON.
    #[track_caller]
    fn json(&self, code: i32) -> Vec<Value> {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

fn verb(kafka: &Kafka, arguments: &[&str]) -> Ended {
    let mut process = Process::waterwheel(&[&["-b", kafka.bootstrap(), "-o", "json"], arguments].concat());
    let code = process.wait(PATIENCE).code();
    Ended { code, stdout: process.stdout(), stderr: process.stderr() }
}

/// A partition's committed offset, end, lag and owner, by its number.
type Standing = BTreeMap<i64, (Option<i64>, Option<i64>, Option<i64>, Option<String>)>;

fn standing(item: &Value) -> Standing {
    let partitions = item["partitions"].as_array().expect("a list of partitions").iter();
    let standing = partitions.map(|p| {
        let number = p["partition"].as_i64().expect("a number");
        let owner = p["owner"].as_str().map(str::to_owned);
        (number, (p["committed"].as_i64(), p["end"].as_i64(), p["lag"].as_i64(), owner))
    });
    standing.collect()
}

/// The same by `kafka-consumer-groups`: GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID.
fn standing_by_tool(kafka: &Kafka, group: &str) -> Standing {
    let told = kafka.tool("groups", &["--describe", "--group", group]);
    let rows = told.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| row.first() == Some(&group)).map(|row| {
        let owner = Some(row[6]).filter(|id| *id != "-").map(str::to_owned);
        let number = |at: usize| row[at].parse().ok();
        (number(2).expect("a partition"), (number(3), number(4), number(5), owner))
    });
    rows.collect()
}

#[test]
fn kafkas_own_tool_agrees_with_describe_and_lag() {
    let Some(kafka) = Kafka::shared() else { return };
    if !Kafka::has_tools() {
        return;
    }
    for protocol in ["classic", "consumer"] {
        agrees(kafka, protocol);
    }
}

#[track_caller]
fn agrees(kafka: &Kafka, protocol: &str) {
    let mut trial = Trial::new(kafka, "ops-agrees", 3);
    trial.produce(300, 30);
    let group = trial.group.clone();
    kafka.commit(&group, &trial.topic, &[(0, 20, ""), (1, 0, "")]);
    let check = |name: &str| {
        let by_tool = standing_by_tool(kafka, &group);
        assert!(!by_tool.is_empty(), "{name}");
        assert_eq!(standing(&verb(kafka, &["group", "describe", &group]).json(0)[0]), by_tool, "{name}: describe");
        assert_eq!(standing(&verb(kafka, &["lag", &group]).json(0)[0]), by_tool, "{name}: lag");
    };
    check("without members");

    let handler = |_: Message<Raw>| async { Ok::<_, Failure>(()) };
    let member = trial.inside_unseen(&[("group.protocol", protocol)], |builder| builder, handler);
    let ends = kafka.ends(&trial.topic, 3);
    wait_until(PATIENCE, "all to be committed", || kafka.has_committed(&group, &trial.topic, &ends));
    check("with a member");
    let described = verb(kafka, &["group", "describe", &group]).json(0).remove(0);
    assert_eq!((described["state"].as_str(), described["protocol"].as_str()), (Some("stable"), Some(protocol)));
    let members = described["members"].as_array().expect("a list");
    assert_eq!((members.len(), members[0]["client_id"].as_str()), (1, Some("waterwheel")));
    let listed = verb(kafka, &["group", "ls"]).json(0);
    assert!(listed.iter().any(|one| one["group"] == group.as_str() && one["state"] == "stable"), "{listed:?}");
    member.stop();
}

#[test]
fn what_is_finished_above_the_committed_offset_is_not_unfinished() {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, "ops-unfinished", 1);
    // Each of a key of its own: none waits for the slow one.
    kafka.produce(&trial.topic, (0..100).map(|n| (Some(format!("k{n}")), "v".to_owned())));
    let released = Arc::new(Notify::new());
    let slow = released.clone();
    let handler = move |message: Message<Raw>| {
        let slow = slow.clone();
        async move {
            if message.offset() == 0 {
                slow.notified().await;
            }
            Ok::<_, Failure>(())
        }
    };
    let member = trial.inside_unseen(&[], |builder| builder, handler);
    wait_until(PATIENCE, "the group to be there", || kafka.settled_members(&trial.group) == Some(1));
    // Until the 99 others are in the commit map of offset 0.
    let lag = || verb(kafka, &["lag", &trial.group]).json(0).remove(0);
    wait_until(PATIENCE, "one unfinished record", || lag()["unfinished"] == 1);
    let told = lag();
    assert_eq!((&told["lag"], &told["partitions"][0]["committed"]), (&Value::from(100), &Value::from(0)));
    assert_eq!(
        verb(kafka, &["lag", &trial.group, "--max", "1"]).code,
        Some(0),
        "what is finished is not held against it"
    );
    assert_eq!(verb(kafka, &["lag", &trial.group, "--max", "0"]).code, Some(3));
    released.notify_one();
    wait_until(PATIENCE, "nothing to be unfinished", || lag()["lag"] == 0);
    member.stop();
}

#[test]
fn lag_in_time_is_the_age_of_the_first_record_that_is_not_committed() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("ops-time");
    kafka.create_topic(&topic, 3, &[]);
    let now = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_millis() as i64;
    let record = |partition| Bytes { partition, offset: 0, key: None, value: Some(b"v".to_vec()), headers: Vec::new() };
    let (one, two) = (record(0), record(1));
    let ages = [(&one, 3_000_000), (&one, 2_000_000), (&one, 1_000_000), (&two, 5_000_000)];
    kafka.produce_at(&topic, ages.iter().map(|(record, age)| (*record, Some(now - age))));
    let group = format!("g-{topic}");
    let place = |item: &Value, n: usize| item["partitions"][n]["time_lag_s"].as_f64();

    kafka.commit(&group, &topic, &[(0, 1, ""), (1, 1, ""), (2, 0, "")]);
    let told = verb(kafka, &["lag", &group]).json(0).remove(0);
    let age = told["time_lag_s"].as_f64().expect("an age");
    assert!((2_000.0..2_600.0).contains(&age), "{told}");
    assert_eq!((place(&told, 0), place(&told, 1), place(&told, 2)), (Some(age), Some(0.0), Some(0.0)));
    assert_eq!(verb(kafka, &["lag", &group, "--max-time", "1h"]).code, Some(0));
    let late = verb(kafka, &["lag", &group, "--max-time", "30m"]);
    assert!(late.code == Some(3) && late.stderr.contains("behind, more than 30m"), "{}", late.stderr);
    assert!(told["trend"].is_null() && told["eta_s"].is_null(), "{told}");

    kafka.delete_records(&topic, &[(0, 2)]);
    let told = verb(kafka, &["lag", &group]).json(0).remove(0);
    assert!(place(&told, 0).is_some_and(|age| age < 2_000.0), "what is deleted has no age: {told}");
    assert_eq!(told["partitions"][0]["reason"], "1 deleted before they were read");
}

#[test]
fn a_reset_is_made_only_when_asked_for_and_undone_with_its_commit_map() {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, "ops-reset", 3);
    trial.produce(300, 30);
    let (topic, group) = (trial.topic.clone(), trial.group.clone());
    kafka.commit(&group, &topic, &[(0, 20, "a map"), (1, 10, "")]);
    let before = kafka.committed(&group, &topic, 3);
    let ends = kafka.ends(&topic, 3);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let undo = dir.path().join("undo.json").to_string_lossy().into_owned();

    let all = format!("{topic}:0-2");
    let reset = ["group", "reset", &group, "--topic", &all, "--to", "latest"];
    let planned = verb(kafka, &reset);
    let to: Vec<_> = planned.json(0).iter().map(|step| step["to"].as_i64()).collect();
    assert_eq!(to, ends.iter().map(|end| Some(*end)).collect::<Vec<_>>());
    assert!(planned.stderr.contains("nothing was changed"), "{}", planned.stderr);
    assert_eq!(kafka.committed(&group, &topic, 3), before);

    let execute = [&reset[..], &["--execute", "--undo", &undo]].concat();
    assert!(verb(kafka, &execute).json(0).iter().all(|step| step["done"] == true));
    let after = kafka.committed(&group, &topic, 3);
    assert_eq!(after.iter().map(|c| c.offset).collect::<Vec<_>>(), to);
    assert!(after.iter().all(|committed| committed.metadata.is_empty()), "{after:?}");
    assert_eq!(verb(kafka, &execute).code, Some(8), "an undo file is not written over");

    assert_eq!(verb(kafka, &["group", "reset", "other", "--to", &undo]).code, Some(2));
    let back = dir.path().join("back.json").to_string_lossy().into_owned();
    verb(kafka, &["group", "reset", &group, "--to", &undo, "--execute", "--undo", &back]).json(0);
    assert_eq!(kafka.committed(&group, &topic, 3), before, "what had committed nothing has again committed nothing");
}

#[test]
fn a_reset_stays_within_the_log_and_follows_other_groups_and_times() {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, "ops-targets", 2);
    trial.produce(100, 10);
    let (topic, group) = (trial.topic.clone(), trial.group.clone());
    let ends = kafka.ends(&topic, 2);
    kafka.commit(&group, &topic, &[(0, 5, ""), (1, 5, "")]);
    let other = format!("{group}-other");
    kafka.commit(&other, &topic, &[(1, 3, "")]);
    let plan = |to: &str| -> Vec<(i64, i64)> {
        let steps = verb(kafka, &["group", "reset", &group, "--to", to]).json(0);
        let step =
            |step: &Value| (step["partition"].as_i64().expect("a number"), step["to"].as_i64().expect("a number"));
        steps.iter().map(step).collect()
    };
    assert_eq!(plan("earliest"), [(0, 0), (1, 0)]);
    assert_eq!(plan("shift:-2"), [(0, 3), (1, 3)]);
    assert_eq!(plan("shift:-100"), [(0, 0), (1, 0)]);
    assert_eq!(plan("1000000"), [(0, ends[0]), (1, ends[1])]);
    assert_eq!(plan(&format!("group:{other}")), [(1, 3)]);
    assert_eq!(plan("-1h"), [(0, 0), (1, 0)]);
    assert_eq!(plan("@2100-01-01T00:00:00Z"), [(0, ends[0]), (1, ends[1])]);
    for (topic, code) in [("ops-no-such-topic", 5), (&*format!("{topic}:7"), 5), ("a b", 2)] {
        assert_eq!(
            verb(kafka, &["group", "reset", &group, "--to", "latest", "--topic", topic]).code,
            Some(code),
            "{topic}"
        );
    }
}

#[test]
fn a_group_with_members_is_neither_reset_nor_deleted_and_one_without_is() {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, "ops-active", 2);
    trial.produce(100, 10);
    let (topic, group) = (trial.topic.clone(), trial.group.clone());
    let member = trial.inside_unseen(&[], |builder| builder, |_: Message<Raw>| async { Ok::<_, Failure>(()) });
    wait_until(PATIENCE, "the group to be stable", || kafka.settled_members(&group) == Some(1));
    for verbs in [&["reset", &group, "--to", "earliest", "--execute"][..], &["delete", &group, "--execute"]] {
        let refused = verb(kafka, &[&["group"], verbs].concat());
        assert_eq!(refused.code, Some(8), "{verbs:?}: {}", refused.stderr);
    }
    member.stop();
    wait_until(PATIENCE, "the group to be empty", || kafka.members(&group) == 0);
    let before = kafka.committed(&group, &topic, 2);

    let planned = verb(kafka, &["group", "delete", &group]);
    assert_eq!(planned.json(0)[0]["done"], false);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let folder = dir.path().to_string_lossy().into_owned();
    let deleted = verb(kafka, &["group", "delete", &group, "--execute", "--undo", &folder]);
    assert_eq!(deleted.json(0)[0]["done"], true);
    for verbs in [&["group", "describe", &group][..], &["group", "delete", &group], &["lag", &group]] {
        assert_eq!(verb(kafka, verbs).code, Some(5), "{verbs:?}");
    }
    let undo = std::fs::read_dir(dir.path()).expect("a folder").flatten().next().expect("an undo file").path();
    let again = dir.path().join("again.json");
    let (undo, again) = (undo.to_string_lossy(), again.to_string_lossy());
    verb(kafka, &["group", "reset", &group, "--to", &undo, "--execute", "--undo", &again]).json(0);
    assert_eq!(kafka.committed(&group, &topic, 2), before);
}
