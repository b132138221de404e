//! The admin port: changes of topics, their configurations, offsets by time.

use super::*;
use crate::client::memory::refusal;
use crate::client::{
    ConfigChanges, ConfigEntry, ConfigResource, ConfigSource, DeleteBelow, Isolation, Mode, NewPartitions, NewTopic,
    OffsetSpec,
};
use crate::error::{KafkaError, code};

on_every_cluster! {
    topics_are_made_judged_and_deleted_one_by_one
    configurations_change_by_name_and_the_others_stay
    partitions_are_added
    records_are_deleted_up_to_an_offset
    the_record_with_the_latest_time_is_found
}

const SOON: Duration = Duration::from_secs(20);

fn codes<T>(outcomes: Vec<Result<T, KafkaError>>) -> Vec<Result<T, i32>> {
    outcomes.into_iter().map(|outcome| outcome.map_err(|error| error.code())).collect()
}

/// Made and deleted topics are known to a broker a moment later.
async fn until_described(admin: &dyn Admin, topic: &str, partitions: Option<usize>) {
    loop {
        let told = admin.describe_topics(vec![topic.to_owned()]).await.unwrap().remove(0);
        if told.as_ref().ok().map(|topic| topic.partitions.len()) == partitions {
            return;
        }
    }
}

async fn topics_are_made_judged_and_deleted_one_by_one(kafka: Kafka) {
    // The mock cluster takes no changes.
    if kafka.mock.is_some() {
        return;
    }
    let admin = kafka.admin();
    let (one, two, three) = (unique("one"), unique("two"), unique("three"));
    let wanted = vec![
        NewTopic::new(two.clone()).partitions(2).config("retention.ms", "60000"),
        NewTopic::new("a/b"),
        NewTopic::new(one.clone()),
        NewTopic::new(unique("many")).replication(99),
        NewTopic::new(unique("no-config")).config("retention.mz", "1"),
    ];
    let expected = vec![
        Ok(()),
        Err(code::INVALID_TOPIC),
        Ok(()),
        Err(refusal::INVALID_REPLICATION_FACTOR),
        Err(refusal::INVALID_CONFIG),
    ];
    let judged = admin.create_topics(wanted.clone(), Mode::DryRun, SOON).await.unwrap();
    assert_eq!(codes(judged), expected);
    assert!(admin.describe_topics(vec![one.clone()]).await.unwrap()[0].is_err(), "a dry run made a topic");
    let made = admin.create_topics(wanted, Mode::Execute, SOON).await.unwrap();
    assert_eq!(codes(made), expected);
    until_described(&*admin, &one, Some(1)).await;
    until_described(&*admin, &two, Some(2)).await;
    let again = admin.create_topics(vec![NewTopic::new(one.clone())], Mode::DryRun, SOON).await.unwrap().remove(0);
    assert!(again.unwrap_err().is_existing_topic());

    let broker = admin.describe_cluster().await.unwrap().brokers[0].id;
    let assigned = NewTopic::new(three.clone()).replicas(vec![vec![broker], vec![broker]]);
    assert_eq!(codes(admin.create_topics(vec![assigned], Mode::Execute, SOON).await.unwrap()), [Ok(())]);
    until_described(&*admin, &three, Some(2)).await;
    let described = admin.describe_topics(vec![three.clone()]).await.unwrap().remove(0).unwrap();
    assert!(described.partitions.iter().all(|partition| partition.replicas == [broker]), "{described:?}");

    let deleted = admin.delete_topics(vec![two.clone(), unique("nothing"), three]).await.unwrap();
    assert_eq!(codes(deleted), [Ok(()), Err(code::UNKNOWN_TOPIC_OR_PARTITION), Ok(())]);
    until_described(&*admin, &two, None).await;
    until_described(&*admin, &one, Some(1)).await;
}

async fn configurations_change_by_name_and_the_others_stay(kafka: Kafka) {
    if kafka.mock.is_some() {
        return;
    }
    let (admin, topic) = (kafka.admin(), kafka.topic(1).await);
    let resource = ConfigResource::Topic(topic.clone());
    let asked = vec![resource.clone(), ConfigResource::Topic(unique("missing"))];
    let entry = async |name: &str| -> ConfigEntry {
        let entries = admin.configs(asked.clone()).await.unwrap().remove(0).unwrap();
        entries.into_iter().find(|entry| entry.name == name).unwrap()
    };
    let before = admin.configs(asked.clone()).await.unwrap();
    let entries = before[0].as_ref().unwrap();
    assert!(entries.is_sorted_by_key(|entry| &entry.name) && entries.len() > 20, "{entries:?}");
    assert!(entries.iter().all(|entry| entry.source != ConfigSource::Topic), "{entries:?}");
    assert!(before[1].as_ref().unwrap_err().is_unknown_topic(), "{before:?}");

    let change = ConfigChanges::of(resource.clone()).set("retention.ms", "60000").append("cleanup.policy", "compact");
    let wrong = ConfigChanges::of(resource.clone()).set("retention.ms", "1").set("segment.bytes", "many");
    let judged = admin.alter_configs(vec![change.clone()], Mode::DryRun).await.unwrap();
    assert_eq!(codes(judged), [Ok(())]);
    assert_eq!(entry("retention.ms").await.value.as_deref(), Some("604800000"), "a dry run changed something");
    assert_eq!(codes(admin.alter_configs(vec![change], Mode::Execute).await.unwrap()), [Ok(())]);
    // A broker goes by a change a moment after it was made.
    while entry("retention.ms").await.value.as_deref() != Some("60000") {}
    let policy = entry("cleanup.policy").await;
    assert_eq!((policy.value.as_deref(), policy.source), (Some("delete,compact"), ConfigSource::Topic));
    let refused = admin.alter_configs(vec![wrong], Mode::Execute).await.unwrap();
    assert_eq!(codes(refused), [Err(refusal::INVALID_CONFIG)]);
    assert_eq!(entry("retention.ms").await.value.as_deref(), Some("60000"), "half of a change was made");

    let back = ConfigChanges::of(resource).unset("retention.ms").subtract("cleanup.policy", "delete");
    assert_eq!(codes(admin.alter_configs(vec![back], Mode::Execute).await.unwrap()), [Ok(())]);
    while entry("retention.ms").await.source == ConfigSource::Topic {}
    assert_eq!(entry("retention.ms").await.value.as_deref(), Some("604800000"));
    assert_eq!(entry("cleanup.policy").await.value.as_deref(), Some("compact"));
}

async fn partitions_are_added(kafka: Kafka) {
    if kafka.mock.is_some() {
        return;
    }
    let (admin, topic) = (kafka.admin(), kafka.topic(2).await);
    let broker = admin.describe_cluster().await.unwrap().brokers[0].id;
    let to = |total| NewPartitions::up_to(topic.clone(), total);
    let judged = admin.create_partitions(vec![to(3)], Mode::DryRun).await.unwrap();
    assert_eq!(codes(judged), [Ok(())]);
    until_described(&*admin, &topic, Some(2)).await;
    let wanted = vec![NewPartitions::up_to(unique("missing"), 2), to(4).replicas(vec![vec![broker], vec![broker]])];
    let made = admin.create_partitions(wanted, Mode::Execute).await.unwrap();
    assert_eq!(codes(made), [Err(code::UNKNOWN_TOPIC_OR_PARTITION), Ok(())]);
    until_described(&*admin, &topic, Some(4)).await;
    let fewer = admin.create_partitions(vec![to(3)], Mode::Execute).await.unwrap();
    assert_eq!(codes(fewer), [Err(refusal::INVALID_PARTITIONS)]);
}

async fn records_are_deleted_up_to_an_offset(kafka: Kafka) {
    if kafka.mock.is_some() {
        return;
    }
    let (admin, topic) = (kafka.admin(), kafka.topic(2).await);
    let of = |partition| TopicPartition::new(topic.as_str(), partition);
    kafka.fill(&topic, 0, 5).await;
    kafka.fill(&topic, 1, 5).await;
    let asked = vec![
        (of(1), DeleteBelow::End),
        (TopicPartition::new(unique("missing"), 0), DeleteBelow::End),
        (of(0), DeleteBelow::Offset(3)),
    ];
    let deleted = admin.delete_records(asked).await.unwrap();
    assert_eq!((deleted[0].as_ref().ok(), deleted[2].as_ref().ok()), (Some(&5), Some(&3)), "{deleted:?}");
    assert!(deleted[1].as_ref().unwrap_err().is_unknown_topic() || deleted[1].as_ref().unwrap_err().code() == -190);
    let starts = vec![(of(0), OffsetSpec::Earliest), (of(1), OffsetSpec::Earliest)];
    assert_eq!(codes(admin.list_offsets(starts).await.unwrap()), [Ok(3), Ok(5)]);
    let beyond = admin.delete_records(vec![(of(0), DeleteBelow::Offset(9))]).await.unwrap();
    assert_eq!(codes(beyond), [Err(code::OFFSET_OUT_OF_RANGE)]);
}

#[expect(clippy::disallowed_methods, reason = "a real Kafka deletes records with old times")]
async fn the_record_with_the_latest_time_is_found(kafka: Kafka) {
    // The mock cluster knows no times.
    if kafka.mock.is_some() {
        return;
    }
    let topic = kafka.topic(2).await;
    let producer = kafka.producer(&[]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let base = now - 1_000_000;
    let record = |time| Outgoing { timestamp: Some(base + time), ..outgoing(&topic, 1, "k", "v") };
    send(&*producer, [0, 9, 4, 6].map(record).into()).await;
    let of = |partition, spec| (TopicPartition::new(topic.as_str(), partition), spec);
    let asked = vec![
        of(1, OffsetSpec::MaxTimestamp),
        of(0, OffsetSpec::MaxTimestamp),
        of(1, OffsetSpec::Timestamp(base + 1)),
        of(1, OffsetSpec::Timestamp(base + 10)),
        of(1, OffsetSpec::Latest),
    ];
    let told = kafka.admin().find_offsets(asked, Some(Isolation::ReadUncommitted)).await.unwrap();
    let told: Vec<_> = told.into_iter().map(|found| found.map(|found| (found.offset, found.timestamp))).collect();
    let at = |offset, time: i64| Ok((Some(offset), Some(base + time)));
    assert_eq!(told, [at(1, 9), Ok((None, None)), at(1, 9), Ok((None, None)), Ok((Some(4), None))]);
}
