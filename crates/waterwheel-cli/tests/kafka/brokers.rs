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
    let properties = Protocol::Cooperative.properties();
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
            trial.await_starts_or_done(members[0].number, 0);
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
    // Each kill may cost the group its coordinator, and a commit its answer.
    trial.judge(3 * 2 * 32);
}
