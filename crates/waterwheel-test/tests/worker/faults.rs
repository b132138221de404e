//! Faults by request kind, and members that are cut off: the worker does what it promises.

use std::time::Duration;

use waterwheel::{DeadLetter, DeadLetterOrigin, Event, Failure, Message, Raw, Retry, TopicPartition};
use waterwheel_test::{Cluster, Lasts, Request};

use crate::support::{Gate, Journal, eventually, fill, gated, member, run, start};

#[test]
fn every_kind_of_request_may_fail_for_a_while() {
    run(async {
        for request in
            [Request::Fetch, Request::Commit, Request::Committed, Request::Join, Request::Offsets, Request::Describe]
        {
            let cluster = Cluster::new().topic("t", 2);
            fill(&cluster, 100).await;
            // Not the coordinator or leader; then nothing at all for five seconds.
            let code = if request == Request::Fetch { 6 } else { 16 };
            cluster.fail(request, code, Lasts::Times(3));
            cluster.fail(request, -195, Lasts::For(Duration::from_secs(5)));
            let (journal, gate) = (Journal::default(), Gate::closed());
            let worker = start(member(&cluster.client()).handler(gated(&journal, &gate, &[])).build().unwrap());
            cluster.assert_finished("g", "t").await;
            assert_eq!(worker.stop().await.counts.attempts, 100, "{request:?}");
        }
    });
}

/// The dead-letter topic is down for long: nothing is committed over the record, and it is written once.
#[test]
fn a_letter_that_cannot_be_written_is_not_committed_over() {
    run(async {
        let cluster = Cluster::new().topic("t", 1).topic("failed", 1).patience(Duration::from_secs(300));
        fill(&cluster, 5).await;
        cluster.fail(Request::Produce, -192, Lasts::For(Duration::from_secs(300)));
        let handler = |message: Message<Raw>| async move {
            if message.offset() == 2 { Err(Failure::dead_letter("no")) } else { Ok(()) }
        };
        let builder = member(&cluster.client()).dead_letter(DeadLetter::topic("failed"));
        let worker = start(builder.handler(handler).build().unwrap());
        cluster.assert_committed("g", "t", 0, 2).await;
        cluster.advance(Duration::from_secs(200)).await;
        assert_eq!(cluster.committed("g", "t", 0).unwrap().offset, 2);
        let letters = cluster.assert_dead_lettered("failed", 1).await;
        cluster.assert_finished("g", "t").await;
        let origin = DeadLetterOrigin::of(&letters[0]).unwrap().unwrap();
        assert_eq!((origin.topic.as_str(), origin.partition, origin.offset), ("t", 0, 2));
        worker.stop().await;
    });
}

/// A coordinator that moves while a worker stops: the last commit has what is left of the time for the drain.
#[test]
fn a_stop_waits_for_a_coordinator_that_moves_and_nothing_is_done_twice() {
    run(async {
        let (cluster, journal) = (Cluster::new().topic("t", 1), Journal::default());
        fill(&cluster, 100).await;
        let gate = Gate::closed();
        let begin = || start(member(&cluster.client()).handler(gated(&journal, &gate, &[99])).build().unwrap());
        let worker = begin();
        eventually("all but the last to be done", || journal.done().len() == 99).await;
        cluster.fail(Request::Commit, 16, Lasts::For(Duration::from_secs(20)));
        gate.open();
        let report = worker.stop().await;
        assert!(report.is_clean(), "{report:?}");
        cluster.assert_finished("g", "t").await;
        let next = begin();
        cluster.produce("t", "k", "v").await;
        cluster.assert_finished("g", "t").await;
        next.stop().await;
        assert_eq!(journal.done().len(), 101, "nothing is done twice");
    });
}

/// It is away for longer: that is told, and not taken for a stop in order.
#[test]
fn a_last_commit_that_is_not_made_is_told() {
    run(async {
        let (cluster, journal) = (Cluster::new().topic("t", 1), Journal::default());
        fill(&cluster, 100).await;
        let gate = Gate::closed();
        let worker = start(member(&cluster.client()).handler(gated(&journal, &gate, &[99])).build().unwrap());
        let mut events = worker.handle.events();
        eventually("all but the last to be done", || journal.done().len() == 99).await;
        cluster.fail(Request::Commit, 16, Lasts::For(Duration::from_secs(600)));
        gate.open();
        let report = worker.stop().await;
        let partition = TopicPartition::new("t", 0);
        assert_eq!((report.is_clean(), report.uncommitted), (false, vec![partition.clone()]));
        let mut told = false;
        while let Some(event) = events.next().await {
            told |= matches!(event, Event::Uncommitted { partitions } if *partitions == [partition.clone()]);
        }
        assert!(told, "it is an event");
    });
}

/// The leaders answer and the coordinator does not: by the end of the lease nothing is started any more, and no record
/// runs in two members at once.
#[test]
fn a_member_without_its_coordinator_starts_nothing_after_its_lease() {
    run(async {
        let cluster = Cluster::new().topic("t", 1);
        let (first, second, gate) = (Journal::default(), Journal::default(), Gate::closed());
        let host = cluster.host();
        let one = start(member(&host.client()).handler(gated(&first, &gate, &[])).build().unwrap());
        fill(&cluster, 5).await;
        cluster.assert_finished("g", "t").await;
        let two = start(member(&cluster.client()).handler(gated(&second, &gate, &[])).build().unwrap());
        cluster.move_to("g", "t", 0, &host);
        eventually("the partition to be the first one's", || cluster.assigned("g", &host).len() == 1).await;
        host.cut_off_from_groups();
        cluster.advance(Duration::from_secs(30)).await;
        fill(&cluster, 5).await;
        // Within the lease of 41 s it goes on; what it does is not committed.
        eventually("the first one to go on", || first.done().len() == 10).await;
        cluster.advance(Duration::from_secs(12)).await;
        fill(&cluster, 5).await;
        cluster.assert_finished("g", "t").await;
        assert_eq!((first.done().len(), second.done().as_slice()), (10, &[5, 6, 7, 8, 9, 10, 11, 12, 13, 14][..]));
        host.heal();
        eventually("the loss to be heard", || one.handle.counts().lost == 1).await;
        assert_eq!(cluster.stray_commits("g"), []);
        one.stop().await;
        two.stop().await;
    });
}

#[test]
fn retries_of_hours_take_no_time() {
    run(async {
        let cluster = Cluster::new().topic("t", 1);
        fill(&cluster, 1).await;
        let journal = Journal::default();
        let writer = journal.clone();
        let handler = move |message: Message<Raw>| {
            let attempt = writer.begin(0, &message);
            async move { if message.attempt() < 5 { attempt.failed() } else { attempt.done() } }
        };
        let retry = Retry::exponential(Duration::from_secs(60), Duration::from_secs(600)).jitter(0.0);
        let worker = start(member(&cluster.client()).retry(retry).handler(handler).build().unwrap());
        eventually("the first attempt", || journal.entries().len() == 1).await;
        cluster.advance(Duration::from_secs(60 + 120 + 240 + 480)).await;
        cluster.assert_finished("g", "t").await;
        let begun: Vec<_> = journal.entries().iter().map(|e| e.begun).collect();
        let waits: Vec<u64> = begun.windows(2).map(|w| (w[1] - w[0]).as_secs()).collect();
        assert_eq!(waits, [60, 120, 240, 480]);
        worker.stop().await;
    });
}
