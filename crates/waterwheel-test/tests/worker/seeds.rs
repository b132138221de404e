//! Faults of other clients, each named after what must not happen here.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use waterwheel::{Event, KafkaError, Message, Raw, Retry, TopicPartition, Witness};
use waterwheel_test::Cluster;

use crate::support::{End, Gate, Journal, eventually, fill, gated, member, run, start};

/// 12 is finished and 10 is not when the process dies: 10, and it alone, comes again.
#[test]
fn parallel_work_is_not_committed_by_its_highest_offset() {
    run(async {
        let cluster = Cluster::new().topic("t", 1);
        fill(&cluster, 13).await;
        let (first, second, gate) = (Journal::default(), Journal::default(), Gate::closed());
        let host = cluster.host();
        let one = start(member(&host.client()).handler(gated(&first, &gate, &[10])).build().unwrap());
        cluster.assert_committed("g", "t", 0, 10).await;
        eventually("12 to be done", || first.done().contains(&12)).await;
        cluster.advance(Duration::from_secs(1)).await;
        assert_eq!(cluster.committed("g", "t", 0).unwrap().offset, 10);
        one.kill(host).await;

        let two = start(member(&cluster.client()).handler(gated(&second, &gate, &[])).build().unwrap());
        cluster.assert_finished("g", "t").await;
        assert_eq!(second.done(), [10]);
        two.stop().await;
    });
}

/// A record that is not to be passed stays where it is, whatever succeeds behind it, and nothing is stopped by hand.
#[test]
fn a_success_does_not_commit_over_a_veto_before_it() {
    run(async {
        let cluster = Cluster::new().topic("t", 1);
        fill(&cluster, 20).await;
        let journal = Journal::default();
        let writer = journal.clone();
        let handler = move |message: Message<Raw>| {
            let attempt = writer.begin(0, &message);
            async move { if message.offset() == 5 { attempt.failed() } else { attempt.done() } }
        };
        let worker = start(member(&cluster.client()).handler(handler).build().unwrap());
        eventually("the others to be done", || journal.done().len() == 19).await;
        cluster.advance(Duration::from_secs(600)).await;
        assert_eq!(cluster.committed("g", "t", 0).unwrap().offset, 5);
        worker.handle.close_now();
        worker.ended().await.unwrap();
        assert_eq!(cluster.committed("g", "t", 0).unwrap().offset, 5);
    });
}

/// Offsets of the commits that were sent, in their order.
#[derive(Default)]
struct Commits(Mutex<Vec<i64>>);

impl Witness for Commits {
    fn committed(&self, _: &TopicPartition, offset: i64, answer: Result<(), &KafkaError>) {
        if answer.is_ok() {
            self.0.lock().unwrap().push(offset);
        }
    }
}

/// A partition is lost and comes back, and meanwhile what ran under the lost assignment ends.
#[test]
fn completions_of_a_lost_assignment_do_not_move_the_commit() {
    run(async {
        let cluster = Cluster::new().topic("t", 1);
        fill(&cluster, 50).await;
        let (journal, gate, commits) = (Journal::default(), Gate::closed(), Arc::<Commits>::default());
        let host = cluster.host();
        let worker = member(&host.client()).witness(commits.clone());
        let worker = start(worker.handler(gated(&journal, &gate, &[3, 7, 30])).build().unwrap());
        for round in 1..=5 {
            eventually("what waits to run", || journal.entries().len() >= 50 - 3 + 3 * round).await;
            cluster.throw_out("g", &host);
            cluster.advance(Duration::from_millis(300)).await;
        }
        gate.open();
        cluster.assert_finished("g", "t").await;
        worker.stop().await;
        let commits = commits.0.lock().unwrap().clone();
        assert!(commits.is_sorted() && commits.last() == Some(&50), "{commits:?}");
        assert_eq!(cluster.stray_commits("g"), []);
    });
}

/// Ten times what one fetch yields, with nothing that follows to push it on.
#[test]
fn a_backlog_of_ten_batches_is_not_left_at_one() {
    run(async {
        let cluster = Cluster::new().topic("t", 1);
        let records = (0..10_000).map(|i| waterwheel::ProducerRecord::to("t").key(format!("k{i}")));
        cluster.client().producer().unwrap().send_all(records.collect()).await.unwrap();
        let (journal, gate) = (Journal::default(), Gate::closed());
        let build = || member(&cluster.client()).in_work_records(500).handler(gated(&journal, &gate, &[4_000])).build();
        let one = start(build().unwrap());
        eventually("the half", || journal.done().len() >= 4_000).await;
        gate.open();
        let report = one.stop().await;
        assert!(report.is_clean());
        let two = start(build().unwrap());
        cluster.assert_finished("g", "t").await;
        two.stop().await;
        let mut done = journal.done();
        done.sort_unstable();
        assert_eq!(done, (0..10_000).collect::<Vec<_>>());
    });
}

/// Streams of events are opened and never read, of a worker in which much happens.
#[test]
fn a_stream_of_events_that_nobody_reads_holds_nothing_up() {
    run(async {
        let cluster = Cluster::new().topic("t", 2);
        fill(&cluster, 2_000).await;
        let journal = Journal::default();
        let writer = journal.clone();
        let handler = move |message: Message<Raw>| {
            let attempt = writer.begin(0, &message);
            async move { if message.attempt() < 3 { attempt.failed() } else { attempt.done() } }
        };
        let retry = Retry::exponential(Duration::from_millis(10), Duration::from_millis(20));
        let worker = member(&cluster.client()).retry(retry).handler(handler).build().unwrap();
        let mut unread: Vec<_> = (0..3).map(|_| worker.handle().events()).collect();
        let worker = start(worker);
        cluster.assert_finished("g", "t").await;
        assert_eq!(worker.stop().await.counts.succeeded, 2_000);
        assert!(matches!(unread[0].next().await, Some(Event::Missed { events }) if events > 1_000));
    });
}

/// The claim loop of a group must not end and join again while records come.
#[test]
fn records_do_not_make_a_member_join_again() {
    run(async {
        let cluster = Cluster::new().topic("t", 3);
        let (journal, gate) = (Journal::default(), Gate::closed());
        let worker = start(member(&cluster.client()).handler(gated(&journal, &gate, &[])).build().unwrap());
        fill(&cluster, 1).await;
        cluster.assert_finished("g", "t").await;
        let generation = cluster.generation("g");
        fill(&cluster, 1_000).await;
        cluster.assert_finished("g", "t").await;
        assert_eq!(cluster.generation("g"), generation);
        worker.stop().await;
    });
}

/// A handler that takes longer than `max.poll.interval.ms` costs no rebalance.
#[test]
fn a_slow_handler_does_not_cost_the_membership() {
    run(async {
        let cluster = Cluster::new().topic("t", 2);
        let handler = |_: Message<Raw>| async {
            tokio::time::sleep(Duration::from_secs(900)).await;
            Ok::<_, waterwheel::Failure>(())
        };
        let builder = member(&cluster.client()).drain_timeout(Duration::from_secs(1_000));
        let worker = start(builder.handler(handler).build().unwrap());
        fill(&cluster, 10).await;
        eventually("a member", || cluster.generation("g") > 0).await;
        let generation = cluster.generation("g");
        cluster.advance(Duration::from_secs(890)).await;
        assert_eq!((cluster.generation("g"), worker.handle.counts().attempts), (generation, 10));
        cluster.assert_finished("g", "t").await;
        assert_eq!((worker.stop().await.counts.attempts, cluster.generation("g")), (10, generation));
    });
}

/// A worker that is stopped in the moment in which its partitions are lost must not leave their handlers behind.
#[test]
fn what_ran_in_a_lost_partition_does_not_outlive_its_worker() {
    run(async {
        let cluster = Cluster::new().topic("t", 1);
        fill(&cluster, 3).await;
        let (journal, gate, host) = (Journal::default(), Gate::closed(), cluster.host());
        let handler = gated(&journal, &gate, &[0, 1, 2]);
        let worker = start(member(&host.client()).handler(handler).build().unwrap());
        eventually("all to run", || journal.entries().len() == 3).await;
        worker.handle.close();
        cluster.throw_out("g", &host);
        worker.ended().await.unwrap();
        cluster.advance(Duration::ZERO).await;
        let ends: Vec<_> = journal.entries().iter().map(|e| e.end.map(|(_, end)| end)).collect();
        assert_eq!(ends, [Some(End::Dropped); 3]);
    });
}
