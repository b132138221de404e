//! Brokers that die under load.

use std::sync::atomic::{AtomicUsize, Ordering};

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
