//! Commits that the brokers forgot.

use std::time::Duration;

use waterwheel::{Failure, Message, Raw, Start};

use crate::support::{Cluster, Kafka, PATIENCE, Protocol, Trial, is_whole, wait_until};

/// A group's commits are gone when its member comes back. It begins where its policy says: at the first record there is,
/// or nowhere; never silently at the end.
fn forgotten(mut trial: Trial<'_>, forget: impl FnOnce(&Trial<'_>)) {
    const BEFORE: usize = 2_000;
    let kafka = trial.kafka;
    trial.produce(BEFORE, 200);
    let properties = Protocol::Cooperative.properties();
    let member = trial.member(&properties, &[]);
    trial.await_done(PATIENCE);
    trial.end(member);
    trial.assert_all_committed();
    forget(&trial);
    let committed = kafka.committed(&trial.group, &trial.topic, trial.partitions);
    assert!(committed.iter().all(|commit| commit.offset.is_none()), "void: {committed:?}");
    trial.injected(committed.len());
    trial.produce(1_000, 200);

    let strict = trial.inside(
        &properties,
        |builder| builder.start(Start::Nowhere),
        |_: Message<Raw>| async { Ok::<(), Failure>(()) },
    );
    let number = strict.number;
    let ended = strict.ended();
    assert!(ended.is_err(), "a worker that may begin nowhere began: {ended:?}");
    assert_eq!(trial.journal(number).starts, 0);

    let member = trial.member(&properties, &[]);
    trial.await_done(PATIENCE);
    wait_until(PATIENCE, "what was finished to run again, as nobody knows of it", || {
        trial.journal(member.number).starts == BEFORE + 1_000
    });
    trial.end(member);
    trial.assert_all_committed();
    trial.judge(BEFORE as u64);
}

#[test]
fn a_group_whose_commits_were_deleted_begins_where_it_is_told() {
    let Some(kafka) = Kafka::shared() else { return };
    if !Kafka::has_tools() {
        return;
    }
    forgotten(Trial::new(kafka, "deleted-commits", 4), |trial| {
        kafka.tool("groups", &["--delete-offsets", "--group", &trial.group, "--topic", &trial.topic]);
    });
}

/// Kafka counts in minutes here: at least one.
#[test]
fn a_group_whose_commits_expired_begins_where_it_is_told() {
    if !is_whole() {
        return;
    }
    let cluster = Cluster::of(1).property("offsets.retention.minutes=1");
    let Some(kafka) = cluster.property("offsets.retention.check.interval.ms=1000").start() else { return };
    forgotten(Trial::new(&kafka, "expired-commits", 4), |trial| {
        wait_until(Duration::from_secs(150), "the commits to expire", || {
            let committed = kafka.committed(&trial.group, &trial.topic, trial.partitions);
            committed.iter().all(|commit| commit.offset.is_none())
        });
    });
}
