//! Process delay: records that are not due wait, and hold up nobody else.

use std::time::Duration;

use tokio::time::Instant;
use waterwheel::{HoldReason, ProducerRecord, WorkStage};
use waterwheel_test::Cluster;

use crate::support::{Gate, Journal, eventually, fill, gated, member, run, start};

const DELAY: Duration = Duration::from_secs(5);

#[test]
fn a_record_starts_when_its_delay_is_over_and_not_long_after() {
    run(async {
        let cluster = Cluster::new().topic("t", 2);
        let (journal, gate) = (Journal::default(), Gate::closed());
        let worker =
            member(&cluster.client()).process_delay(DELAY).handler(gated(&journal, &gate, &[])).build().unwrap();
        let worker = start(worker);
        let written = Instant::now();
        fill(&cluster, 100).await;
        let last = Instant::now();
        eventually("all to be done", || journal.done().len() == 100).await;
        let begun: Vec<Duration> = journal.entries().iter().map(|entry| entry.begun - written).collect();
        // Times are whole milliseconds.
        let earliest = DELAY - Duration::from_millis(1);
        let latest = DELAY + (last - written) + Duration::from_millis(20);
        assert!(
            begun.iter().all(|at| (earliest..=latest).contains(at)),
            "{begun:?}, written within {:?}",
            last - written
        );
        cluster.assert_finished("g", "t").await;
        assert_eq!(worker.stop().await.counts.clocks_disagreed, 0);
    });
}

#[test]
fn a_time_that_cannot_be_holds_nothing_up_for_longer_than_the_delay() {
    run(async {
        let cluster = Cluster::new().topic("t", 1);
        let (journal, gate) = (Journal::default(), Gate::closed());
        let worker =
            member(&cluster.client()).process_delay(DELAY).handler(gated(&journal, &gate, &[])).build().unwrap();
        let worker = start(worker);
        let begun = Instant::now();
        for key in ["a", "a", "b"] {
            // The year 9999.
            let record = ProducerRecord::to("t").key(key).value("v").timestamp_millis(253_370_764_800_000);
            cluster.produce_record(record).await;
        }
        cluster.produce_record(ProducerRecord::to("t").key("c").value("v").timestamp_millis(0)).await;
        eventually("the old one to be done", || journal.done() == [3]).await;
        assert!(begun.elapsed() < DELAY);
        eventually("all to be done", || journal.done().len() == 4).await;
        // Those of one key, too: each has waited since it came.
        assert!(begun.elapsed() < DELAY + Duration::from_secs(1), "{:?}", begun.elapsed());
        cluster.assert_finished("g", "t").await;
        assert_eq!(worker.stop().await.counts.clocks_disagreed, 3);
    });
}

/// A worker that waited for what is delayed would be stopped by its drain time-out, or commit past it.
#[test]
fn a_stop_during_a_delay_ends_at_once_and_loses_nothing() {
    run(async {
        let cluster = Cluster::new().topic("t", 1).patience(Duration::from_secs(700));
        let (journal, gate) = (Journal::default(), Gate::closed());
        let build = || member(&cluster.client()).process_delay(Duration::from_secs(600));
        cluster.produce_record(ProducerRecord::to("t").key("old").value("v").timestamp_millis(0)).await;
        fill(&cluster, 20).await;
        let first = start(build().handler(gated(&journal, &gate, &[])).build().unwrap());
        eventually("the rest to be set aside", || journal.done() == [0]).await;
        cluster.assert_committed("g", "t", 0, 1).await;
        let snapshot = first.handle.snapshot().await.unwrap();
        assert_eq!(snapshot.partitions[0].held, Some(HoldReason::Delayed));
        let delayed = snapshot.in_work.iter().filter(|r| matches!(r.stage, WorkStage::Delayed(_))).count();
        assert_eq!(delayed, 20);
        let stopped = Instant::now();
        assert!(first.stop().await.is_clean());
        assert!(stopped.elapsed() < Duration::from_secs(1), "{:?}", stopped.elapsed());
        assert_eq!(cluster.committed("g", "t", 0).unwrap().offset, 1);
        let second = start(build().handler(gated(&journal, &gate, &[])).build().unwrap());
        cluster.assert_finished("g", "t").await;
        assert_eq!(journal.done(), (0..21).collect::<Vec<i64>>());
        second.stop().await;
    });
}

/// The member that gives a partition away has nothing to wait for, and the one that gets it begins where the other stood.
#[test]
fn a_hand_over_during_a_delay_commits_past_nothing_that_waits() {
    run(async {
        let cluster = Cluster::new().topic("t", 4);
        let (journal, gate) = (Journal::default(), Gate::closed());
        let build = || member(&cluster.client()).process_delay(Duration::from_secs(60));
        let one = start(build().handler(gated(&journal, &gate, &[])).build().unwrap());
        fill(&cluster, 200).await;
        cluster.advance(Duration::from_secs(30)).await;
        let two = start(build().handler(gated(&journal, &gate, &[])).build().unwrap());
        eventually("the second one to have partitions", || two.handle.counts().assignments > 0).await;
        assert!(journal.done().is_empty());
        cluster.assert_finished("g", "t").await;
        assert_eq!(journal.done().len(), 200, "each has run once");
        assert_eq!(cluster.stray_commits("g"), []);
        one.stop().await;
        two.stop().await;
    });
}
