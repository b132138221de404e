//! The transaction port.

use super::*;
use crate::client::{
    Commit, Committed, GroupMetadata, Membership, MembershipEvent, Position, TransactionError, TransactionErrorKind,
    Transactions,
};
use crate::error::code;

/// The mock cluster writes no markers: what is read committed is tested on the others.
macro_rules! with_markers {
    ($($test:ident)*) => {
        mod memory_only {
            $(#[test] fn $test() { crate::client::tests::run_in_memory(super::$test); })*
        }
        mod real_only {
            $(#[test] fn $test() {
                match crate::client::tests::Kafka::real() {
                    Some(kafka) => crate::client::tests::run(super::$test(kafka)),
                    None => println!("no WATERWHEEL_BOOTSTRAP: not run"),
                }
            })*
        }
    };
}

on_every_cluster! {
    calls_out_of_turn_are_refused_and_change_nothing
    an_abort_or_a_commit_that_was_made_is_made_again_as_nothing
    a_record_that_was_refused_makes_a_commit_fail_and_an_abort_mends_it
    a_call_whose_future_was_dropped_is_made_all_the_same
}

with_markers! {
    what_was_aborted_is_not_read_and_what_was_committed_is
    a_second_producer_of_the_id_fences_the_first_and_its_records_are_not_read
    a_transaction_that_takes_too_long_is_aborted_and_its_producer_is_over
    a_commit_sends_what_waits_for_room_first
    offsets_and_their_metadata_are_committed_with_the_transaction_and_not_before
    offsets_of_a_member_that_left_are_refused_and_the_transaction_is_aborted
    a_static_members_offsets_are_taken
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Kafka {
    fn transactions(&self, id: &str, more: &[(&str, &str)]) -> Arc<dyn Transactions> {
        let mut properties = vec![("transactional.id", id)];
        properties.extend(more);
        self.backend.transactions(&self.properties(&properties)).unwrap()
    }
}

/// A producer that has its id.
async fn made(kafka: &Kafka, id: &str, more: &[(&str, &str)]) -> Arc<dyn Transactions> {
    let transactions = kafka.transactions(id, more);
    transactions.init(PATIENCE).await.unwrap();
    transactions
}

async fn write(of: &dyn Transactions, topic: &str, value: &str) -> Result<(i32, i64), SendError> {
    send(&*of.producer(), vec![outgoing(topic, 0, "k", value)]).await.remove(0)
}

/// The values that a reader of partition 0 sees, but for those by which it notices the end: written in no transaction.
async fn read(kafka: &Kafka, topic: &str) -> Vec<String> {
    let producer = kafka.producer(&[]);
    let end = send(&*producer, vec![outgoing(topic, 0, "end", "")]).await.remove(0).unwrap().1;
    producer.close().await.unwrap();
    let fetcher = kafka.fetcher(&[("isolation.level", "read_committed")]);
    let mut queue = fetcher.queue().unwrap();
    queue.add(assignment(0, 1, topic, 0), Position::Beginning).unwrap();
    let mut values = Vec::new();
    loop {
        for record in records(&mut *queue, 1).await {
            match record.key() {
                Some(b"end") if record.offset() == end => return values,
                Some(b"end") => {}
                _ => values.push(std::str::from_utf8(record.value().unwrap()).unwrap().to_owned()),
            }
        }
    }
}

fn kind(of: Result<(), TransactionError>) -> Option<TransactionErrorKind> {
    println!("{of:?}");
    of.err().map(|e| e.kind)
}

async fn calls_out_of_turn_are_refused_and_change_nothing(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let transactions = kafka.transactions(&unique("id"), &[]);
    assert!(transactions.begin().is_err(), "without an id");
    transactions.init(PATIENCE).await.unwrap();
    assert!(write(&*transactions, &topic, "v").await.is_err(), "outside of a transaction");
    assert_eq!(kind(transactions.commit(PATIENCE).await), Some(TransactionErrorKind::Abortable));
    transactions.begin().unwrap();
    assert!(transactions.begin().is_err(), "two at once");
    write(&*transactions, &topic, "v").await.unwrap();
    transactions.commit(PATIENCE).await.unwrap();
    transactions.producer().close().await.unwrap();
    assert_eq!(kind(transactions.begin()), Some(TransactionErrorKind::Fatal));
    assert_eq!(kind(transactions.commit(PATIENCE).await), Some(TransactionErrorKind::Fatal));
}

async fn an_abort_or_a_commit_that_was_made_is_made_again_as_nothing(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let transactions = made(&kafka, &unique("id"), &[]).await;
    transactions.abort(PATIENCE).await.unwrap();
    for _ in 0..2 {
        transactions.begin().unwrap();
        write(&*transactions, &topic, "v").await.unwrap();
        transactions.commit(PATIENCE).await.unwrap();
        transactions.commit(PATIENCE).await.unwrap();
        transactions.abort(PATIENCE).await.unwrap();
        transactions.begin().unwrap();
        write(&*transactions, &topic, "v").await.unwrap();
        transactions.abort(PATIENCE).await.unwrap();
        transactions.abort(PATIENCE).await.unwrap();
        assert_eq!(kind(transactions.commit(PATIENCE).await), Some(TransactionErrorKind::Abortable));
    }
    // Empty ones.
    transactions.begin().unwrap();
    transactions.commit(PATIENCE).await.unwrap();
    transactions.begin().unwrap();
    transactions.abort(PATIENCE).await.unwrap();
}

async fn a_record_that_was_refused_makes_a_commit_fail_and_an_abort_mends_it(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let transactions = made(&kafka, &unique("id"), &[("message.max.bytes", "10000")]).await;
    transactions.begin().unwrap();
    write(&*transactions, &topic, "v").await.unwrap();
    let refused = write(&*transactions, &topic, &"v".repeat(20_000)).await.unwrap_err();
    assert_eq!(refused.error.code(), code::MESSAGE_TOO_LARGE);
    let error = transactions.commit(PATIENCE).await.unwrap_err();
    assert_eq!((error.kind, error.error.code()), (TransactionErrorKind::Abortable, code::MESSAGE_TOO_LARGE));
    transactions.abort(PATIENCE).await.unwrap();
    transactions.begin().unwrap();
    write(&*transactions, &topic, "v").await.unwrap();
    transactions.commit(PATIENCE).await.unwrap();
}

async fn a_call_whose_future_was_dropped_is_made_all_the_same(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let transactions = made(&kafka, &unique("id"), &[]).await;
    transactions.begin().unwrap();
    write(&*transactions, &topic, "v").await.unwrap();
    drop(transactions.abort(PATIENCE));
    // Comes after it, so a transaction may begin.
    transactions.abort(PATIENCE).await.unwrap();
    transactions.begin().unwrap();
    write(&*transactions, &topic, "v").await.unwrap();
    drop(transactions.commit(PATIENCE));
    transactions.commit(PATIENCE).await.unwrap();
    transactions.begin().unwrap();
}

async fn what_was_aborted_is_not_read_and_what_was_committed_is(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let transactions = made(&kafka, &unique("id"), &[]).await;
    for (value, commits) in [("one", true), ("two", false), ("three", true), ("four", false)] {
        transactions.begin().unwrap();
        write(&*transactions, &topic, value).await.unwrap();
        match commits {
            true => transactions.commit(PATIENCE).await.unwrap(),
            false => transactions.abort(PATIENCE).await.unwrap(),
        }
    }
    assert_eq!(read(&kafka, &topic).await, ["one", "three"]);
}

async fn a_second_producer_of_the_id_fences_the_first_and_its_records_are_not_read(kafka: Kafka) {
    let (topic, id) = (kafka.topic(1).await, unique("id"));
    let first = made(&kafka, &id, &[]).await;
    first.begin().unwrap();
    write(&*first, &topic, "of the first").await.unwrap();
    let second = made(&kafka, &id, &[]).await;
    assert_eq!(kind(first.commit(PATIENCE).await), Some(TransactionErrorKind::Fenced));
    assert_eq!(kind(first.begin()), Some(TransactionErrorKind::Fenced));
    assert_eq!(kind(first.abort(PATIENCE).await), Some(TransactionErrorKind::Fenced));
    second.begin().unwrap();
    write(&*second, &topic, "of the second").await.unwrap();
    second.commit(PATIENCE).await.unwrap();
    assert_eq!(read(&kafka, &topic).await, ["of the second"]);
}

/// A broker looks for such transactions every 10 s.
async fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_is_over(kafka: Kafka) {
    let (topic, id) = (kafka.topic(1).await, unique("id"));
    let slow = made(&kafka, &id, &[("transaction.timeout.ms", "1000")]).await;
    slow.begin().unwrap();
    write(&*slow, &topic, "late").await.unwrap();
    // Ends when the last stable offset has passed it.
    assert!(read(&kafka, &topic).await.is_empty());
    assert_eq!(kind(slow.commit(PATIENCE).await), Some(TransactionErrorKind::Fenced));
    let next = made(&kafka, &id, &[]).await;
    next.begin().unwrap();
    write(&*next, &topic, "in time").await.unwrap();
    next.commit(PATIENCE).await.unwrap();
    assert_eq!(read(&kafka, &topic).await, ["in time"]);
}

async fn a_commit_sends_what_waits_for_room_first(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let transactions = made(&kafka, &unique("id"), &[("queue.buffering.max.messages", "10")]).await;
    let record = |i: i32| outgoing(&topic, 0, "k", &i.to_string());
    transactions.begin().unwrap();
    let committed = send_all(&*transactions.producer(), (0..500).map(record).collect());
    transactions.commit(PATIENCE).await.unwrap();
    assert!(committed.await.unwrap().failed.is_empty());
    transactions.begin().unwrap();
    let aborted = send_all(&*transactions.producer(), (500..1_000).map(record).collect());
    transactions.abort(PATIENCE).await.unwrap();
    // Those that were written already are as good as not.
    assert_eq!(aborted.await.unwrap().records.len(), 500);
    assert_eq!(transactions.producer().unanswered(), 0);
    transactions.begin().unwrap();
    transactions.commit(PATIENCE).await.unwrap();
    let expected: Vec<_> = (0..500).map(|i| i.to_string()).collect();
    assert_eq!(read(&kafka, &topic).await, expected);
}

/// A member that has partition 0 of a topic.
async fn member(kafka: &Kafka, group: &str, topic: &str, more: &[(&str, &str)]) -> Arc<dyn Membership> {
    let mut properties = vec![("group.id", group)];
    properties.extend(more);
    let member = kafka.membership(&properties, topic);
    loop {
        if let MembershipEvent::Assigned(partitions) = poll_fn(|cx| member.poll_event(cx)).await
            && !partitions.is_empty()
        {
            return member;
        }
    }
}

fn offset(topic: &str, offset: i64, metadata: &str) -> Vec<Commit> {
    let partition = TopicPartition::new(topic, 0);
    vec![Commit { partition, offset, leader_epoch: None, metadata: metadata.to_owned() }]
}

async fn committed(member: &dyn Membership, topic: &str) -> (Option<i64>, String) {
    let Committed { offset, metadata, .. } =
        member.committed(vec![TopicPartition::new(topic, 0)]).await.unwrap().remove(0);
    (offset, metadata)
}

fn standing(member: &dyn Membership) -> GroupMetadata {
    member.group_metadata().expect("it is a member")
}

async fn offsets_and_their_metadata_are_committed_with_the_transaction_and_not_before(kafka: Kafka) {
    for protocol in ["classic", "consumer"] {
        let (topic, group) = (kafka.topic(1).await, unique("group"));
        let member = member(&kafka, &group, &topic, &[("group.protocol", protocol)]).await;
        let transactions = made(&kafka, &unique("id"), &[]).await;
        let map = "\u{4e00}".repeat(4_000);
        for (to, metadata, commits) in [(3, map.as_str(), true), (5, "aborted", false), (7, "", true)] {
            let before = committed(&*member, &topic).await;
            transactions.begin().unwrap();
            write(&*transactions, &topic, "v").await.unwrap();
            transactions.send_offsets(offset(&topic, to, metadata), standing(&*member), PATIENCE).await.unwrap();
            // Who asks now waits for the outcome.
            let asked = member.committed(vec![TopicPartition::new(&*topic, 0)]);
            match commits {
                true => transactions.commit(PATIENCE).await.unwrap(),
                false => transactions.abort(PATIENCE).await.unwrap(),
            }
            let expected = if commits { (Some(to), metadata.to_owned()) } else { before };
            let Committed { offset, metadata, .. } = asked.await.unwrap().remove(0);
            assert_eq!((offset, metadata), expected);
            assert_eq!(committed(&*member, &topic).await, expected);
        }
        member.close().await.unwrap();
    }
}

async fn offsets_of_a_member_that_left_are_refused_and_the_transaction_is_aborted(kafka: Kafka) {
    for protocol in ["classic", "consumer"] {
        let (topic, group) = (kafka.topic(1).await, unique("group"));
        let gone = member(&kafka, &group, &topic, &[("group.protocol", protocol)]).await;
        let before = standing(&*gone);
        gone.close().await.unwrap();
        assert!(gone.group_metadata().is_none());
        let next = member(&kafka, &group, &topic, &[("group.protocol", protocol)]).await;
        let transactions = made(&kafka, &unique("id"), &[]).await;
        transactions.begin().unwrap();
        write(&*transactions, &topic, "v").await.unwrap();
        let refused = transactions.send_offsets(offset(&topic, 1, ""), before, PATIENCE).await.unwrap_err();
        println!("{refused}");
        assert_eq!(refused.kind, TransactionErrorKind::Abortable);
        assert_eq!(kind(transactions.commit(PATIENCE).await), Some(TransactionErrorKind::Abortable));
        transactions.abort(PATIENCE).await.unwrap();
        transactions.begin().unwrap();
        transactions.send_offsets(offset(&topic, 1, ""), standing(&*next), PATIENCE).await.unwrap();
        transactions.commit(PATIENCE).await.unwrap();
        assert_eq!(committed(&*next, &topic).await.0, Some(1));
        assert_eq!(read(&kafka, &topic).await, [""; 0]);
        next.close().await.unwrap();
    }
}

async fn a_static_members_offsets_are_taken(kafka: Kafka) {
    let (topic, group) = (kafka.topic(1).await, unique("group"));
    let member = member(&kafka, &group, &topic, &[("group.instance.id", "one")]).await;
    let transactions = made(&kafka, &unique("id"), &[]).await;
    transactions.begin().unwrap();
    transactions.send_offsets(offset(&topic, 9, "m"), standing(&*member), PATIENCE).await.unwrap();
    transactions.commit(PATIENCE).await.unwrap();
    assert_eq!(committed(&*member, &topic).await, (Some(9), "m".to_owned()));
    member.close().await.unwrap();
}
