//! What only the memory cluster does, on command. What every backend promises is tested in `client/tests`.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use waterwheel_core::{Epoch, PartitionId};

use super::control::{Control, Lasts, Reach, Request};
use super::refusal::UNSUPPORTED_VERSION;
use crate::client::tests::{Kafka, assignment, outgoing, records, run_in_memory, send};
use crate::client::{
    AclFilter, Commit, ConfigResource, FetchFailure, FetchQueue, Fetched, Isolation, Membership, MembershipEvent,
    OffsetSpec, Position,
};
use crate::record::{Record, TopicPartition};

async fn cluster(kafka: &Kafka) -> (Control, TopicPartition) {
    let topic = kafka.topic(1).await;
    (kafka.memory.clone().unwrap(), TopicPartition::new(topic, 0))
}

async fn item(queue: &mut dyn FetchQueue) -> Fetched {
    poll_fn(|cx| queue.poll_fetch(cx)).await
}

fn offsets(records: &[Record]) -> Vec<i64> {
    records.iter().map(Record::offset).collect()
}

#[test]
fn offsets_are_found_by_the_isolation_that_was_asked_for() {
    run_in_memory(async |kafka: Kafka| {
        let (control, at) = cluster(&kafka).await;
        kafka.fill(&at.topic, 0, 2).await;
        control.write_in(control.begin(), &at, b"k", b"open");
        let admin = kafka.backend.admin(&kafka.properties(&[])).unwrap();
        for (isolation, end) in [(Isolation::ReadCommitted, 2), (Isolation::ReadUncommitted, 3)] {
            let found = admin.find_offsets(vec![(at.clone(), OffsetSpec::Latest)], Some(isolation)).await.unwrap();
            assert_eq!(found[0].as_ref().unwrap().offset, Some(end), "{isolation:?}");
        }
    });
}

#[test]
fn what_this_cluster_does_not_have_is_refused_as_unsupported() {
    run_in_memory(async |kafka: Kafka| {
        let admin = kafka.backend.admin(&kafka.properties(&[])).unwrap();
        assert_eq!(admin.acls(AclFilter::all()).await.unwrap_err().code(), UNSUPPORTED_VERSION);
        assert_eq!(admin.scram_users(None).await.unwrap_err().code(), UNSUPPORTED_VERSION);
        let broker = admin.configs(vec![ConfigResource::Broker(0)]).await.unwrap().remove(0);
        assert_eq!(broker.unwrap_err().code(), UNSUPPORTED_VERSION);
    });
}

#[test]
fn an_open_transaction_is_waited_for_and_an_aborted_one_is_never_seen() {
    run_in_memory(async |kafka: Kafka| {
        let (control, at) = cluster(&kafka).await;
        let committed = kafka.fetcher(&[]);
        let mut reader = committed.queue().unwrap();
        let fetcher = kafka.fetcher(&[("isolation.level", "read_uncommitted")]);
        let mut all = fetcher.queue().unwrap();
        for queue in [&mut reader, &mut all] {
            queue.add(assignment(0, 1, &at.topic, 0), Position::Offset(0)).unwrap();
        }
        let (one, two) = (control.begin(), control.begin());
        control.write_in(one, &at, b"k", b"aborted");
        control.write_in(two, &at, b"k", b"committed");
        kafka.fill(&at.topic, 0, 1).await;
        assert_eq!(offsets(&records(&mut *all, 3).await), [0, 1, 2]);
        assert!(poll_fn(|cx| Poll::Ready(reader.poll_fetch(cx).is_pending())).await);
        control.end(one, false);
        assert!(matches!(item(&mut *reader).await, Fetched::SkippedTo { next: 1, .. }));
        control.end(two, true);
        assert_eq!(offsets(&records(&mut *reader, 2).await), [1, 2]);
        // The two markers.
        assert!(matches!(item(&mut *reader).await, Fetched::SkippedTo { next: 5, .. }));
        assert_eq!(control.ends(&at), Some((0, 5)));
    });
}

#[test]
fn a_compacted_log_has_gaps_and_single_records_of_it_are_missing() {
    run_in_memory(async |kafka: Kafka| {
        let (control, at) = cluster(&kafka).await;
        let producer = kafka.producer(&[]);
        let keys = ["a", "b", "a", "c", "b"];
        send(&*producer, keys.iter().map(|key| outgoing(&at.topic, 0, key, "v")).collect()).await;
        control.compact(&at);
        let fetcher = kafka.fetcher(&[]);
        let mut queue = fetcher.queue().unwrap();
        queue.add(assignment(0, 1, &at.topic, 0), Position::Beginning).unwrap();
        assert_eq!(offsets(&records(&mut *queue, 3).await), [2, 3, 4]);
        queue.reread(PartitionId(0), &[0, 3]).unwrap();
        let Fetched::Reread { batch: Some(batch), .. } = item(&mut *queue).await else { panic!("no batch") };
        assert_eq!(batch.record(0).offset(), 3);
        assert!(matches!(item(&mut *queue).await, Fetched::Reread { missing, .. } if missing == [0]));
    });
}

#[test]
fn deleted_records_and_a_log_cut_off_stop_a_partition() {
    run_in_memory(async |kafka: Kafka| {
        let (control, at) = cluster(&kafka).await;
        kafka.fill(&at.topic, 0, 10).await;
        let fetcher = kafka.fetcher(&[]);
        let mut queue = fetcher.queue().unwrap();
        let mut stops_at = async |from: i64| {
            queue.add(assignment(0, 1, &at.topic, 0), Position::Offset(from)).unwrap();
            match item(&mut *queue).await {
                Fetched::Stopped { id: PartitionId(0), epoch: Epoch(1), failure } => Some(failure),
                _ => None,
            }
        };
        control.delete_below(&at, 4);
        let failure = stops_at(3).await;
        assert!(matches!(failure, Some(FetchFailure::OutOfRange { position: Some(3) })), "{failure:?}");
        assert!(stops_at(4).await.is_none());
        control.delete_topic(&at.topic);
        assert!(matches!(stops_at(4).await, Some(FetchFailure::Failed(error)) if error.is_unknown_topic()));
    });
}

/// By its leader epochs, although the log is as long again by then.
#[test]
fn a_log_that_was_cut_off_below_a_reader_is_noticed() {
    run_in_memory(async |kafka: Kafka| {
        let (control, at) = cluster(&kafka).await;
        kafka.fill(&at.topic, 0, 10).await;
        let fetcher = kafka.fetcher(&[]);
        let mut queue = fetcher.queue().unwrap();
        queue.add(assignment(0, 1, &at.topic, 0), Position::Offset(0)).unwrap();
        assert_eq!(records(&mut *queue, 10).await[9].assignment().epoch, Epoch(1));
        // A change that loses nothing is nothing.
        control.new_leader(&at, i64::MAX);
        kafka.fill(&at.topic, 0, 1).await;
        assert_eq!(offsets(&records(&mut *queue, 1).await), [10]);
        control.new_leader(&at, 5);
        kafka.fill(&at.topic, 0, 20).await;
        let stopped = item(&mut *queue).await;
        let is_cut_off = |failure: &FetchFailure| matches!(failure, FetchFailure::OutOfRange { position: Some(11) });
        assert!(matches!(&stopped, Fetched::Stopped { failure, .. } if is_cut_off(failure)), "{stopped:?}");
    });
}

/// The next event about partitions.
async fn event(member: &dyn Membership) -> MembershipEvent {
    loop {
        match poll_fn(|cx| member.poll_event(cx)).await {
            MembershipEvent::CoordinatorAnswered { .. } => {}
            event => return event,
        }
    }
}

const NAME: (&str, &str) = ("group.id", "g");

fn commit_of(partition: &TopicPartition) -> Commit {
    Commit { partition: partition.clone(), offset: 7, leader_epoch: None, metadata: String::new() }
}

#[test]
fn a_member_that_is_cut_off_hears_nothing_until_it_is_back() {
    run_in_memory(async |kafka: Kafka| {
        let (control, at) = cluster(&kafka).await;
        let member = kafka.membership(&[NAME, ("session.timeout.ms", "6000")], &at.topic);
        assert!(matches!(event(&*member).await, MembershipEvent::Assigned(got) if got == [at.clone()]));
        let silent = async |time: u64| tokio::time::timeout(Duration::from_secs(time), event(&*member)).await.is_err();
        control.cut_off(1, Reach::Leaders);
        assert!(silent(5).await && !control.group("g").unwrap().owners.is_empty());
        assert!(silent(2).await && control.group("g").unwrap().owners.is_empty());
        assert!(member.commit(Vec::new()).await.unwrap_err().is_unreachable());
        control.heal(1);
        assert!(matches!(event(&*member).await, MembershipEvent::Lost(lost) if lost == [at.clone()]));
        assert!(matches!(event(&*member).await, MembershipEvent::Assigned(got) if got == [at.clone()]));
        // For a shorter time: nothing has happened, and what was sent last comes through.
        control.cut_off(1, Reach::Nobody);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let late = member.commit(vec![commit_of(&at)]);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(control.committed("g", &at), None);
        control.heal(1);
        assert!(late.await.unwrap()[0].result.is_ok());
        assert_eq!(control.committed("g", &at).unwrap().offset, 7);
        assert!(silent(60).await);
    });
}

#[test]
fn a_revocation_that_is_not_answered_in_time_costs_all() {
    run_in_memory(async |kafka: Kafka| {
        let topic = kafka.topic(2).await;
        let properties = [NAME, ("max.poll.interval.ms", "20000")];
        let one = kafka.membership(&properties, &topic);
        assert!(matches!(event(&*one).await, MembershipEvent::Assigned(got) if got.len() == 2));
        let two = kafka.membership(&properties, &topic);
        assert!(matches!(event(&*two).await, MembershipEvent::Assigned(got) if got.is_empty()));
        assert!(matches!(event(&*one).await, MembershipEvent::Revoking(going) if going.len() == 1));
        let begun = tokio::time::Instant::now();
        assert!(matches!(event(&*one).await, MembershipEvent::Lost(lost) if lost.len() == 2));
        assert_eq!(begun.elapsed().as_secs(), 20);
        // What was released too late is not released.
        one.release();
        assert!(matches!(event(&*two).await, MembershipEvent::Assigned(got) if got.len() == 2));
    });
}

#[test]
fn a_static_member_that_comes_back_in_time_costs_no_rebalance() {
    run_in_memory(async |kafka: Kafka| {
        let (control, at) = cluster(&kafka).await;
        let join = || kafka.membership(&[NAME, ("group.instance.id", "one")], &at.topic);
        let first = join();
        assert!(matches!(event(&*first).await, MembershipEvent::Assigned(got) if got.len() == 1));
        let generation = control.group("g").unwrap().generation;
        first.close().await.unwrap();
        tokio::time::sleep(Duration::from_secs(40)).await;
        let second = join();
        assert!(matches!(event(&*second).await, MembershipEvent::Assigned(got) if got.len() == 1));
        assert_eq!(control.group("g").unwrap().generation, generation);
        second.close().await.unwrap();
        tokio::time::sleep(Duration::from_secs(46)).await;
        assert!(control.group("g").unwrap().owners.is_empty());
    });
}

#[test]
fn faults_last_as_long_as_they_were_told_to() {
    run_in_memory(async |kafka: Kafka| {
        let (control, at) = cluster(&kafka).await;
        let admin = kafka.backend.admin(&kafka.properties(&[])).unwrap();
        let mut codes = Vec::new();
        control.fail(Request::Describe, 29, Lasts::Times(2));
        control.fail(Request::Describe, 31, Lasts::For(Duration::from_secs(1)));
        for _ in 0..4 {
            codes.push(admin.describe_topics(vec![at.topic.to_string()]).await.map_or_else(|e| e.code(), |_| 0));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        codes.push(admin.describe_topics(vec![at.topic.to_string()]).await.map_or_else(|e| e.code(), |_| 0));
        assert_eq!(codes, [29, 29, 31, 31, 0]);
        // A failure that may pass is repeated by the producer itself.
        control.fail(Request::Produce, 6, Lasts::Times(3));
        assert_eq!(
            send(&*kafka.producer(&[]), vec![outgoing(&at.topic, 0, "k", "v")]).await[0].clone().unwrap(),
            (0, 0)
        );
    });
}
