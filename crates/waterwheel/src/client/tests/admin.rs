//! The admin port.

use super::*;
use crate::client::{Commit, CommitOutcome, GroupState, GroupType, MembershipEvent, OffsetSpec, Operation};
use crate::error::{KafkaError, code};

on_every_cluster! {
    topics_are_described_in_the_order_asked
    offsets_are_listed_in_the_order_asked
    topics_and_brokers_are_listed
    a_commit_from_outside_is_read_back_with_its_metadata
    a_group_is_described_with_its_members_and_is_deleted_only_without
}

async fn topics_are_described_in_the_order_asked(kafka: Kafka) {
    let (one, two) = (kafka.topic(1).await, kafka.topic(3).await);
    let admin = kafka.admin();
    let asked = vec![two.clone(), unique("missing"), one.clone(), two.clone()];
    let answers = admin.describe_topics(asked).await.unwrap();
    let partitions: Vec<_> =
        answers.iter().map(|a| a.as_ref().map(|d| d.partitions.len()).map_err(|e| e.code())).collect();
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

async fn topics_and_brokers_are_listed(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let admin = kafka.admin();
    let topics = admin.list_topics().await.unwrap();
    assert!(topics.is_sorted() && topics.contains(&topic), "{topics:?}");
    let cluster = admin.describe_cluster().await.unwrap();
    assert!(cluster.brokers.is_sorted_by_key(|broker| broker.id) && cluster.brokers[0].port > 0, "{cluster:?}");
    let description = admin.describe_topics(vec![topic.clone()]).await.unwrap().remove(0).unwrap();
    let leaders = cluster.brokers.iter().map(|broker| Some(broker.id)).collect::<Vec<_>>();
    for partition in &description.partitions {
        assert!(leaders.contains(&partition.leader) && !partition.in_sync.is_empty(), "{description:?}");
        assert!(partition.replicas.len() >= partition.in_sync.len(), "{description:?}");
    }
    let allowed = admin.allowed_on_topics(vec![topic]).await.unwrap().remove(0).unwrap();
    if kafka.mock.is_none() {
        let allowed = allowed.unwrap();
        assert!([Operation::Read, Operation::Write, Operation::Describe].iter().all(|of| allowed.contains(of)));
        for broker in cluster.brokers {
            admin.ask_broker(broker.id).await.unwrap();
        }
    }
}

async fn a_commit_from_outside_is_read_back_with_its_metadata(kafka: Kafka) {
    let topic = kafka.topic(3).await;
    let (admin, group) = (kafka.admin(), unique("group"));
    let of = |partition| TopicPartition::new(topic.as_str(), partition);
    let commit =
        |n, metadata: &str| Commit { partition: of(n), offset: 0, leader_epoch: None, metadata: metadata.into() };
    // A coordinator that is new to the group reads its log first.
    let loads = |outcome: &CommitOutcome| outcome.result.as_ref().is_err_and(KafkaError::is_retriable);
    let outcomes = loop {
        let outcomes = admin.commit(group.clone(), vec![commit(2, "a mark"), commit(0, "")]).await.unwrap();
        if !outcomes.iter().any(loads) {
            break outcomes;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    outcomes.into_iter().for_each(|outcome| outcome.result.unwrap());
    let asked = vec![of(2), of(1), of(0), of(2)];
    let told: Vec<_> = admin.committed(group.clone(), Some(asked.clone())).await.unwrap();
    let told: Vec<_> = told.into_iter().map(Result::unwrap).collect();
    assert_eq!(told.iter().map(|c| c.partition.clone()).collect::<Vec<_>>(), asked);
    assert_eq!(told.iter().map(|c| c.offset).collect::<Vec<_>>(), [Some(0), None, Some(0), Some(0)]);
    assert_eq!((told[0].metadata.as_str(), told[2].metadata.as_str()), ("a mark", ""));
    if kafka.mock.is_none() {
        let all = admin.committed(group, None).await.unwrap();
        assert_eq!(all.into_iter().map(|c| c.unwrap().partition).collect::<Vec<_>>(), [of(0), of(2)]);
        assert_eq!(admin.committed(unique("nobody"), None).await.unwrap(), []);
    }
}

async fn a_group_is_described_with_its_members_and_is_deleted_only_without(kafka: Kafka) {
    // The mock cluster answers no questions about groups.
    if kafka.mock.is_some() {
        return;
    }
    let (topic, group) = (kafka.topic(2).await, unique("group"));
    let own = [
        ("group.id", group.as_str()),
        ("client.id", "someone"),
        ("group.instance.id", "one"),
        ("session.timeout.ms", "6000"),
    ];
    let member = kafka.membership(&own, &topic);
    while !matches!(poll_fn(|cx| member.poll_event(cx)).await, MembershipEvent::Assigned(_)) {}
    let admin = kafka.admin();
    // The member has its partitions a moment before its group is stable.
    let described = loop {
        let group = admin.describe_groups(vec![unique("nobody"), group.clone()]).await.unwrap().remove(1).unwrap();
        if group.state == GroupState::Stable {
            break group;
        }
    };
    assert_eq!((described.name.as_str(), described.protocol), (group.as_str(), Some(GroupType::Classic)));
    assert!(described.assignor.is_some() && described.coordinator.is_some(), "{described:?}");
    assert!(described.allowed.as_ref().unwrap().contains(&Operation::Read), "{described:?}");
    let [one] = &described.members[..] else { panic!("{described:?}") };
    assert_eq!((one.client_id.as_str(), one.instance_id.as_deref()), ("someone", Some("one")));
    assert_eq!(one.partitions, [0, 1].map(|n| TopicPartition::new(topic.as_str(), n)));
    assert!(!one.host.is_empty() && !one.host.starts_with('/') && !one.id.is_empty(), "{one:?}");

    let listed = admin.list_groups().await.unwrap();
    let listed = listed.groups.iter().find(|g| g.name == group).unwrap();
    assert_eq!((listed.protocol, listed.state), (Some(GroupType::Classic), GroupState::Stable));

    let commit =
        Commit { partition: TopicPartition::new(topic, 0), offset: 0, leader_epoch: None, metadata: String::new() };
    let refused = admin.commit(group.clone(), vec![commit]).await.unwrap().remove(0).result.unwrap_err();
    assert!(refused.is_active_group(), "{refused}");
    let asked = vec![group.clone(), unique("nobody")];
    let refused = admin.delete_groups(asked.clone()).await.unwrap();
    assert!(refused[0].as_ref().unwrap_err().is_active_group(), "{refused:?}");
    assert!(refused[1].as_ref().unwrap_err().is_unknown_group(), "{refused:?}");
    member.close().await.unwrap();
    // A static member stays in its group until its session ends: the broker refuses until then.
    while admin.delete_groups(asked.clone()).await.unwrap()[0].is_err() {}
    let gone = admin.describe_groups(vec![group]).await.unwrap().remove(0);
    assert!(gone.map_or_else(|e| e.is_unknown_group(), |g| g.state == GroupState::Dead));
}
