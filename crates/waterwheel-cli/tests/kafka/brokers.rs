//! Brokers that die under load, stand still, or are not there yet.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use waterwheel::{Event, Failure, HealthLevel, Message, Raw};

use crate::support::{Bytes, Cluster, PATIENCE, Protocol, Trial, is_whole, wait_for, wait_until};

/// Each broker in turn is killed and started again while records come and go.
#[test]
fn brokers_that_die_and_come_back_lose_nothing() {
    let Some(kafka) = Cluster::of(3).start() else { return };
    let mut trial = Trial::new(&kafka, "brokers", 6);
    trial.produce(10_000, 2_000);
    let load = ["--concurrency", "32", "--work-us", "10000"];
    // A dead broker is noticed after 5 s here (9 s by default), but until its partitions, the group's among them, are led
    // again by another one, more than 30 s were seen to pass: a session that ends first loses the partitions.
    let mut properties = Protocol::Cooperative.properties();
    properties.retain(|(key, _)| *key != "session.timeout.ms");
    properties.push(("session.timeout.ms", "120000"));
    let members = [trial.member(&properties, &load), trial.member(&properties, &load)];
    trial.await_settled(&[&members[0], &members[1]]);

    let waves: Vec<_> = (0..12).map(|_| trial.records(3_000, 2_000)).collect();
    let topic = trial.topic.clone();
    let written = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let produce = |wave| {
                let produced = kafka.produce(&topic, wave);
                written.fetch_add(1, Ordering::SeqCst);
                produced
            };
            waves.into_iter().map(produce).collect::<Vec<_>>()
        });
        for broker in 1..=3 {
            kafka.kill(broker);
            // Work goes on without it.
            let wave = written.load(Ordering::SeqCst);
            wait_until(PATIENCE, "records to be written without the broker", || {
                written.load(Ordering::SeqCst) > wave || producer.is_finished()
            });
            let started = trial.journal(members[0].number).starts;
            trial.await_starts_or_done(members[0].number, started + 100);
            kafka.boot(broker);
            kafka.await_brokers(3);
            trial.injected(1);
        }
        for produced in producer.join().expect("the producer does not panic") {
            trial.was_produced(produced);
        }
    });
    trial.await_done(PATIENCE);
    for member in members {
        trial.end(member);
    }
    trial.assert_all_committed();
    trial.judge(0);
}

/// A session that outlasts what is done to the brokers here.
const PATIENT: [(&str, &str); 2] =
    [("partition.assignment.strategy", "cooperative-sticky"), ("session.timeout.ms", "45000")];

async fn for_a_while(_: Message<Raw>) -> Result<(), Failure> {
    tokio::time::sleep(Duration::from_millis(5)).await;
    Ok(())
}

/// Started before its broker, and left by it for a time: a worker says so, and goes on when the broker is there.
#[test]
fn a_worker_outlives_the_absence_of_all_brokers() {
    let Some(kafka) = Cluster::of(1).start() else { return };
    let mut trial = Trial::new(&kafka, "absent", 4);
    trial.produce(2_000, 200);
    kafka.stop(1);
    let worker = trial.inside(&PATIENT, |builder| builder.concurrency(8), for_a_while);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let is_at = |level: HealthLevel| runtime.block_on(worker.handle.health()).level == level;
    wait_until(PATIENCE, "the worker to say that there is no broker", || is_at(HealthLevel::Critical));
    trial.injected(1);
    kafka.boot(1);
    kafka.await_brokers(1);
    trial.await_done(PATIENCE);

    trial.produce(4_000, 200);
    trial.await_starts(worker.number, 100);
    kafka.kill(1);
    wait_until(PATIENCE, "the worker to miss its broker", || !is_at(HealthLevel::Ok));
    trial.injected(1);
    kafka.boot(1);
    kafka.await_brokers(1);
    trial.await_done(PATIENCE);
    wait_until(PATIENCE, "the worker to be well again", || is_at(HealthLevel::Ok));
    worker.stop();
    trial.assert_all_committed();
    trial.judge(0);
}

/// A broker that accepts and does not answer: the partitions that others lead go on.
#[test]
fn partitions_of_other_brokers_go_on_while_one_stands_still() {
    let Some(kafka) = Cluster::of(3).start() else { return };
    let mut trial = Trial::new(&kafka, "grey", 12);
    trial.produce(6_000, 1_000);
    let member = trial.member(&PATIENT, &["--concurrency", "16", "--work-us", "5000"]);
    trial.await_starts(member.number, 200);
    kafka.pause(3);
    let before = trial.journal(member.number).starts;
    trial.await_starts_or_done(member.number, before + 500);
    let during = trial.journal(member.number).starts - before;
    kafka.resume(3);
    trial.injected(1);
    trial.figure("started_meanwhile", during);
    trial.produce(3_000, 1_000);
    trial.await_done(PATIENCE);
    trial.end(member);
    trial.assert_all_committed();
    trial.judge(0);
}

/// The broker that keeps the group dies while commits are under way; another one has to take over.
fn a_coordinator_dies(name: &'static str, protocol: Protocol) {
    if !is_whole() {
        return;
    }
    let cluster = Cluster::of(3).property("group.consumer.session.timeout.ms=30000");
    let Some(kafka) = cluster.start() else { return };
    let mut trial = Trial::new(&kafka, name, 6);
    trial.produce(60_000, 2_000);
    let mut properties = protocol.properties();
    if protocol != Protocol::Consumer {
        properties.retain(|(key, _)| *key != "session.timeout.ms");
        properties.push(("session.timeout.ms", "30000"));
    }
    let load = ["--concurrency", "16", "--work-us", "10000"];
    let members = [trial.member(&properties, &load), trial.member(&properties, &load)];
    trial.await_settled(&[&members[0], &members[1]]);
    let (group, topic) = (trial.group.clone(), trial.topic.clone());
    let committed =
        || kafka.committed(&group, &topic, 6).iter().map(|commit| commit.offset.unwrap_or(0)).sum::<i64>() as usize;
    wait_until(PATIENCE, "commits to go on", || committed() > 1_000);
    let (partition, _) = kafka.end_of_commits(&group).expect("the group has commits");
    let coordinator = kafka.leaders("__consumer_offsets")[partition as usize];
    kafka.kill(coordinator);
    assert!(!trial.is_done(), "void: everything was finished before the coordinator died");
    trial.injected(1);
    // Nobody answers before there is another one.
    let began = trial.seconds();
    let before = committed();
    assert!(before < trial.produced().len(), "void: everything was committed before the coordinator died");
    wait_until(PATIENCE, "commits to go on with another coordinator", || committed() > before);
    trial.figure("next_commit_s", trial.seconds() - began);
    kafka.boot(coordinator);
    kafka.await_brokers(3);
    trial.await_done(PATIENCE);
    members.into_iter().for_each(|member| trial.end(member));
    trial.assert_all_committed();
    trial.judge(0);
}

#[test]
fn a_coordinator_that_dies_costs_nothing_in_a_classic_group() {
    a_coordinator_dies("coordinator-cooperative", Protocol::Cooperative);
}

#[test]
fn a_coordinator_that_dies_costs_nothing_in_the_consumer_protocol() {
    a_coordinator_dies("coordinator-consumer", Protocol::Consumer);
}

/// The only copy in sync dies with records that the other copy never had, and that one leads: the log ends before what
/// was read and committed. It is told, nothing is committed beyond the log, and all that comes then is handled.
#[test]
fn a_log_that_was_cut_off_by_an_unclean_election_is_told_and_read_anew() {
    const KEPT: usize = 1_000;
    if !is_whole() {
        return;
    }
    let Some(kafka) = Cluster::of(3).start() else { return };
    let configs = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "1")];
    let mut trial = Trial::of_copies(&kafka, "unclean", &[&[1, 2]], &configs);
    let bytes = |wave: &str, count: usize| -> Vec<Bytes> {
        let some = |text: String| Some(text.into_bytes());
        let of =
            |n| Bytes { key: some(format!("k{}", n % 50)), value: some(format!("{wave} {n}")), ..Bytes::default() };
        (0..count).map(of).collect()
    };
    let kept = kafka.produce_bytes(&trial.topic, &bytes("kept", KEPT));
    trial.was_produced(kept);
    let seen: Arc<Mutex<HashSet<Vec<u8>>>> = Arc::default();
    let handler = {
        let seen = seen.clone();
        move |message: Message<Raw>| {
            seen.lock().expect("nobody panicked").insert(message.value().unwrap_or_default().to_vec());
            std::future::ready(Ok::<(), Failure>(()))
        }
    };
    let worker = trial.inside(&PATIENT, |builder| builder, handler);
    let mut events = worker.handle.events();
    trial.await_done(PATIENCE);
    kafka.kill(2);
    // The other copy leaves the set of those in sync; from then on it has nothing of what is written.
    wait_until(PATIENCE, "one copy to be in sync alone", || kafka.in_sync(&trial.topic, 0) == [1]);
    kafka.produce_bytes(&trial.topic, &bytes("cut off", KEPT));
    let (group, topic) = (trial.group.clone(), trial.topic.clone());
    let committed = || kafka.committed(&group, &topic, 1)[0].offset;
    wait_until(PATIENCE, "what will be cut off to be committed", || committed() == Some(2 * KEPT as i64));
    kafka.kill(1);
    kafka.boot(2);
    wait_until(PATIENCE, "the copy that was not in sync to lead", || kafka.leaders(&trial.topic) == [2]);
    assert_eq!(kafka.ends(&trial.topic, 1), [KEPT as i64], "void: the log was not cut off");
    trial.injected(1);

    let gap = wait_for(PATIENCE, "the worker to tell that the log was cut off", || {
        while let Some(Some(event)) = events.next().now_or_never() {
            if let Event::Gap { from, to, .. } = event {
                return Some((from, to));
            }
        }
        None
    });
    trial.figure("gap", format!("{gap:?}"));
    assert!(gap.1 <= KEPT as i64, "it goes on inside the log: {gap:?}");
    trial.may_go_back(0);
    let after = bytes("after", 2 * KEPT);
    let produced = kafka.produce_bytes(&trial.topic, &after);
    trial.was_produced(produced);
    wait_until(PATIENCE, "all that was written since to be handled", || {
        let seen = seen.lock().expect("nobody panicked");
        after.iter().all(|record| seen.contains(record.value.as_deref().unwrap_or_default()))
    });
    wait_until(PATIENCE, "the commits to reach the log's end", || committed() == Some(3 * KEPT as i64));
    kafka.boot(1);
    kafka.await_brokers(3);
    worker.stop();
    trial.assert_all_committed();
    // Where the records that were cut off stood, other records stand now: the journal shows these places twice.
    trial.judge(2 * KEPT as u64);
}
