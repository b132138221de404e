//! The membership port, in three protocols.

use std::collections::BTreeSet;
use std::task::Poll;

use super::*;
use crate::client::{Commit, CommitOutcome, GroupProtocol, MembershipEvent};
use crate::error::{KafkaError, code};

/// Properties that choose a protocol.
type Protocol = &'static [(&'static str, &'static str)];
const RANGE: Protocol =
    &[("partition.assignment.strategy", "range"), ("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500")];
const COOPERATIVE: Protocol = &[
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("session.timeout.ms", "6000"),
    ("heartbeat.interval.ms", "500"),
];
const CONSUMER: Protocol = &[("group.protocol", "consumer")];

macro_rules! in_every_protocol {
    ($($test:ident)*) => {
        mod range {
            use super::*;
            $(async fn $test(kafka: Kafka) { super::$test(kafka, RANGE).await; })*
            on_every_cluster! { $($test)* }
        }
        mod cooperative {
            use super::*;
            $(async fn $test(kafka: Kafka) { super::$test(kafka, COOPERATIVE).await; })*
            on_every_cluster! { $($test)* }
        }
        mod consumer {
            use super::*;
            $(async fn $test(kafka: Kafka) { super::$test(kafka, CONSUMER).await; })*
            on_every_cluster! { $($test)* }
        }
    };
}

in_every_protocol! {
    a_commit_is_read_back_with_its_metadata
    two_hundred_full_maps_are_committed_and_read_back
    a_second_member_gets_partitions_when_the_first_releases_them
    a_fenced_member_hears_what_it_lost
    a_member_that_is_dropped_does_not_block
}

/// A member and what it knows.
struct One {
    member: Arc<dyn Membership>,
    owned: BTreeSet<TopicPartition>,
}

impl One {
    fn join(kafka: &Kafka, group: &str, topic: &str, protocol: Protocol, more: &[(&str, &str)]) -> Self {
        let mut properties = vec![("group.id", group)];
        properties.extend(protocol.iter().chain(more));
        let member = kafka.membership(&properties, topic);
        Self { member, owned: BTreeSet::new() }
    }

    /// The next event that says something about partitions.
    async fn next(&mut self) -> MembershipEvent {
        loop {
            let event = poll_fn(|cx| self.member.poll_event(cx)).await;
            match &event {
                MembershipEvent::Assigned(more) => {
                    assert!(more.iter().all(|p| self.owned.insert(p.clone())), "assigned twice: {more:?}");
                }
                MembershipEvent::Revoking(less) | MembershipEvent::Lost(less) => {
                    assert!(!less.is_empty());
                    assert!(less.iter().all(|p| self.owned.remove(p)), "not owned: {less:?}");
                }
                MembershipEvent::Fatal(_) => {}
                MembershipEvent::CoordinatorAnswered { .. } => continue,
                MembershipEvent::Trouble(error) => {
                    println!("trouble: {error}");
                    continue;
                }
            }
            println!("{event:?}");
            return event;
        }
    }

    /// Commits, again for as long as the group says to.
    async fn commit(&self, commits: Vec<Commit>) -> Result<Vec<CommitOutcome>, KafkaError> {
        loop {
            match self.member.commit(commits.clone()).await {
                Err(e) if e.is_retriable() && e.code() != code::REBALANCE_IN_PROGRESS => println!("again: {e}"),
                answer => return answer,
            }
        }
    }

    /// Goes on, giving back at once what is wanted back, until it has `count` partitions.
    async fn until(&mut self, count: usize) {
        while self.owned.len() != count {
            if let MembershipEvent::Revoking(_) = self.next().await {
                self.member.release();
            }
        }
    }
}

/// Both go on, giving back at once what is wanted back, until each has `count` partitions. A member that were no longer
/// served once it has its share would hold up a rebalance that follows.
async fn halve(one: &mut One, two: &mut One, count: usize) {
    while (one.owned.len(), two.owned.len()) != (count, count) {
        tokio::select! {
            event = one.next() => if let MembershipEvent::Revoking(_) = event { one.member.release() },
            event = two.next() => if let MembershipEvent::Revoking(_) = event { two.member.release() },
        }
    }
}

/// 85 of them in one request made the whole commit fail with -1: they go in several.
async fn two_hundred_full_maps_are_committed_and_read_back(kafka: Kafka, protocol: Protocol) {
    const PARTITIONS: usize = 200;
    let (topic, group) = (kafka.topic(PARTITIONS).await, unique("group"));
    let mut one = One::join(&kafka, &group, &topic, protocol, &[]);
    one.until(PARTITIONS).await;
    // 4,096 characters of three bytes, the longest that a broker takes.
    let commits: Vec<Commit> = (0..PARTITIONS as i32)
        .map(|n| Commit {
            partition: TopicPartition::new(&*topic, n),
            offset: 7,
            leader_epoch: None,
            metadata: "\u{754c}".repeat(4096),
        })
        .collect();
    let outcomes = one.commit(commits.clone()).await.unwrap();
    assert_eq!(outcomes.len(), PARTITIONS);
    assert!(outcomes.iter().all(|o| o.result.is_ok()), "{outcomes:?}");
    let partitions = commits.iter().map(|c| c.partition.clone()).collect();
    let committed = one.member.committed(partitions).await.unwrap();
    assert!(committed.iter().zip(&commits).all(|(c, sent)| (c.offset, &c.metadata) == (Some(7), &sent.metadata)));
    one.member.close().await.unwrap();
}

async fn a_commit_is_read_back_with_its_metadata(kafka: Kafka, protocol: Protocol) {
    let (topic, group) = (kafka.topic(2).await, unique("group"));
    kafka.fill(&topic, 0, 10).await;
    let mut one = One::join(&kafka, &group, &topic, protocol, &[]);
    one.until(2).await;
    let cooperative = if protocol == RANGE { GroupProtocol::Eager } else { GroupProtocol::Incremental };
    assert_eq!(one.member.protocol(), cooperative);

    let partitions: Vec<_> = one.owned.iter().cloned().collect();
    let none = one.member.committed(partitions.clone()).await.unwrap();
    assert!(none.iter().all(|c| c.offset.is_none() && c.metadata.is_empty()), "{none:?}");

    let commit = |i: usize, metadata: &str| Commit {
        partition: partitions[i].clone(),
        offset: 7,
        leader_epoch: (kafka.mock.is_none()).then_some(0),
        metadata: metadata.to_owned(),
    };
    let outcomes = one.commit(vec![commit(0, "wm=界1"), commit(1, "")]).await.unwrap();
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.iter().all(|o| o.result.is_ok()), "{outcomes:?}");
    let read = one.member.committed(partitions.clone()).await.unwrap();
    assert_eq!((read[0].offset, &*read[0].metadata), (Some(7), "wm=界1"));
    assert_eq!((read[1].offset, &*read[1].metadata), (Some(7), ""));
    if kafka.mock.is_none() {
        assert_eq!(read[0].leader_epoch, Some(0));
        // One is refused, the other is not.
        let outcomes = one.commit(vec![commit(0, &"x".repeat(5_000)), commit(1, "m")]).await.unwrap();
        let results: Vec<_> = outcomes.iter().map(|o| o.result.as_ref().map_err(|e| e.code()).copied()).collect();
        assert_eq!(results, [Err(code::OFFSET_METADATA_TOO_LARGE), Ok(())]);
    }
    let answered = poll_fn(|cx| match one.member.poll_event(cx) {
        Poll::Ready(MembershipEvent::CoordinatorAnswered { ago }) => Poll::Ready(ago),
        Poll::Ready(_) => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Poll::Pending => Poll::Pending,
    });
    assert!(answered.await < Duration::from_secs(6));
    one.member.close().await.unwrap();
    assert_eq!(one.member.commit(vec![commit(0, "")]).await.unwrap_err().code(), code::LOCAL_DESTROYED);
}

async fn a_second_member_gets_partitions_when_the_first_releases_them(kafka: Kafka, protocol: Protocol) {
    let (topic, group) = (kafka.topic(4).await, unique("group"));
    let mut one = One::join(&kafka, &group, &topic, protocol, &[]);
    one.until(4).await;
    let mut two = One::join(&kafka, &group, &topic, protocol, &[]);
    let revoked = loop {
        match one.next().await {
            MembershipEvent::Revoking(partitions) => break partitions,
            other => println!("before the revocation: {other:?}"),
        }
    };
    assert_eq!(revoked.len(), if protocol == RANGE { 4 } else { 2 });
    // The drain: work ends and is committed, while nobody else has these partitions.
    let commits = revoked
        .iter()
        .map(|p| Commit { partition: p.clone(), offset: 5, leader_epoch: None, metadata: "map".into() })
        .collect();
    let committed = one.commit(commits).await;
    // The mock cluster refuses commits while a classic group rebalances, a real one does not.
    let expected = kafka.mock.is_none() || protocol == CONSUMER;
    if expected {
        assert!(committed.unwrap().iter().all(|o| o.result.is_ok()));
    }
    assert!(two.owned.is_empty());
    one.member.release();
    // A second time does nothing.
    one.member.release();
    halve(&mut one, &mut two, 2).await;
    assert!(one.owned.is_disjoint(&two.owned));
    if expected {
        for c in two.member.committed(two.owned.iter().cloned().collect()).await.unwrap() {
            assert_eq!((c.offset, &*c.metadata), (Some(5), "map"));
        }
    }
    // The one that leaves gives back what it has.
    two.member.close().await.unwrap();
    one.until(4).await;
    one.member.close().await.unwrap();
}

async fn a_fenced_member_hears_what_it_lost(kafka: Kafka, protocol: Protocol) {
    use rdkafka::bindings::rd_kafka_resp_err_t as E;
    let (topic, group) = (kafka.topic(3).await, unique("group"));
    // A real Kafka fences by a second member of the same name.
    let name: &[_] = &[("group.instance.id", "same")];
    let mut one = One::join(&kafka, &group, &topic, protocol, if kafka.mock.is_some() { &[] } else { name });
    one.until(3).await;
    if let Some(mock) = &kafka.mock {
        let (heartbeat, error) = if protocol == CONSUMER {
            (68, E::RD_KAFKA_RESP_ERR_FENCED_MEMBER_EPOCH)
        } else {
            (12, E::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID)
        };
        mock.fail_requests(heartbeat, &[error]);
        let MembershipEvent::Lost(lost) = one.next().await else { panic!("not lost") };
        assert_eq!(lost.len(), 3);
        one.until(3).await;
    } else {
        let mut two = One::join(&kafka, &group, &topic, protocol, name);
        if protocol == CONSUMER {
            // Here the second one is refused.
            assert!(matches!(two.next().await, MembershipEvent::Fatal(_)));
        } else {
            let MembershipEvent::Lost(lost) = one.next().await else { panic!("not lost") };
            assert_eq!(lost.len(), 3);
            let MembershipEvent::Fatal(error) = one.next().await else { panic!("not fatal") };
            assert_eq!(error.code(), code::FENCED_INSTANCE_ID);
            two.until(3).await;
        }
        two.member.close().await.unwrap();
    }
    one.member.close().await.unwrap();
}

#[expect(clippy::disallowed_methods, reason = "how long a drop blocks is what is tested")]
async fn a_member_that_is_dropped_does_not_block(kafka: Kafka, protocol: Protocol) {
    let (topic, group) = (kafka.topic(2).await, unique("group"));
    let mut one = One::join(&kafka, &group, &topic, protocol, &[]);
    one.until(2).await;
    let _two = One::join(&kafka, &group, &topic, protocol, &[]);
    while !matches!(one.next().await, MembershipEvent::Revoking(_)) {}
    let start = std::time::Instant::now();
    drop(one);
    assert!(start.elapsed() < Duration::from_millis(500));
}
