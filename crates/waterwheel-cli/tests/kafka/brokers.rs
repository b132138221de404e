//! Brokers that die under load, stand still, or are not there yet.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use waterwheel::{Failure, HealthLevel, Message, Raw};

use crate::support::{Cluster, PATIENCE, Protocol, Trial, wait_until};

/// Each broker in turn is killed and started again while records come and go.
#[test]
fn brokers_that_die_and_come_back_lose_nothing() {
    let Some(kafka) = Cluster::of(3).start() else { return };
    let mut trial = Trial::new(&kafka, "brokers", 6);
    trial.produce(10_000, 2_000);
    let load = ["--concurrency", "32", "--work-us", "10000"];
    // A dead broker is noticed after 5 s here (9 s by default); a session that is not longer by far (45 s by default) would
    // end first, and the partitions be lost.
    let mut properties = Protocol::Cooperative.properties();
    properties.retain(|(key, _)| *key != "session.timeout.ms");
    properties.push(("session.timeout.ms", "30000"));
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
