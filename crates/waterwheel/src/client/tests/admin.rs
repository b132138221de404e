//! The admin port.

use super::*;
use crate::client::OffsetSpec;
use crate::error::code;

on_every_cluster! {
    topics_are_described_in_the_order_asked
    offsets_are_listed_in_the_order_asked
}

async fn topics_are_described_in_the_order_asked(kafka: Kafka) {
    let (one, two) = (kafka.topic(1).await, kafka.topic(3).await);
    let admin = kafka.admin();
    let asked = vec![two.clone(), unique("missing"), one.clone(), two.clone()];
    let answers = admin.describe_topics(asked).await.unwrap();
    let partitions: Vec<_> = answers.iter().map(|a| a.as_ref().map(|d| d.partitions).map_err(|e| e.code())).collect();
    assert_eq!(partitions[0], Ok(3));
    assert_eq!(partitions[2..], [Ok(1), Ok(3)]);
    // The mock cluster makes a topic of any name.
    if kafka.mock.is_none() {
        assert_eq!(partitions[1], Err(code::UNKNOWN_TOPIC_OR_PARTITION));
        let ids: Vec<_> = [0, 2, 3].map(|i| answers[i].as_ref().unwrap().id.unwrap()).into();
        assert!(ids[0] == ids[2] && ids[0] != ids[1]);
        admin.create_topic(one, 1, Duration::from_secs(10)).await.unwrap();
        let refused = admin.create_topic("a/b".into(), 1, Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(refused.code(), 17, "{refused}");
    }
    assert_eq!(answers[0].as_ref().unwrap().name, two);
}

#[expect(clippy::disallowed_methods, reason = "a real Kafka deletes records with old times")]
async fn offsets_are_listed_in_the_order_asked(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let producer = kafka.producer(&[]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let base = now - 1_000_000;
    let record = |i: i64| Outgoing { timestamp: Some(base + 1_000 * i), ..outgoing(&topic, 1, "k", "v") };
    send(&*producer, (0..10).map(record).collect()).await;
    let of = |partition, spec| (TopicPartition::new(topic.as_str(), partition), spec);
    let asked = vec![
        of(1, OffsetSpec::Latest),
        of(0, OffsetSpec::Latest),
        of(1, OffsetSpec::Earliest),
        of(1, OffsetSpec::Timestamp(base + 4_500)),
        of(1, OffsetSpec::Timestamp(i64::MAX / 2)),
    ];
    let mut answers = kafka.admin().list_offsets(asked).await.unwrap();
    if kafka.mock.is_some() {
        // The mock cluster knows no times.
        answers[3] = Ok(5);
    }
    assert_eq!(answers, [Ok(10), Ok(0), Ok(0), Ok(5), Ok(10)]);
    let missing = kafka.admin().list_offsets(vec![of(7, OffsetSpec::Latest)]).await;
    assert!(missing.is_err() || missing.unwrap()[0].is_err());
}
