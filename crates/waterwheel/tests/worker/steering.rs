//! Handles: pause and resume, snapshots, counts, events.

use std::time::Duration;

use waterwheel::{Event, HoldReason, Message, Raw, Retry, Start, WorkStage, WorkerState};

use crate::support::{
    Diary, Gate, PATIENCE, boxed, event, eventually, fill, record, run, send, start, topic, unique, worker_on,
};

#[test]
fn a_paused_worker_starts_nothing_and_goes_on_after_it_is_resumed() {
    run(async {
        let topic = topic(1);
        fill(&topic, 10, |i| format!("k{i}")).await;
        let diary = Diary::default();
        let mine = diary.clone();
        let handler = move |m: Message<Raw>| {
            mine.begin(&m).done();
            std::future::ready(anyhow::Ok(()))
        };
        let worker = worker_on(&topic).handler(boxed(handler)).build().unwrap();
        worker.handle().pause();
        let running = start(worker);
        running.handle.wait_for(WorkerState::Consuming, PATIENCE).await;
        eventually("records to be there", || running.handle.counts().fetched == 10).await;
        let snapshot = running.handle.snapshot().await.unwrap();
        assert_eq!(snapshot.partitions[0].held, Some(HoldReason::Paused));
        assert_eq!((diary.begun().len(), running.handle.counts().attempts), (0, 0));
        running.handle.resume();
        eventually("all", || diary.count() == 10).await;
        running.handle.pause();
        eventually("it to be paused", || true).await;
        // A paused worker can be stopped.
        assert!(running.stop().await.is_clean());
    });
}

#[test]
fn a_snapshot_shows_every_partition_and_every_record_in_work() {
    run(async {
        let topic = topic(2);
        let gate = Gate::closed();
        send((0..4).map(|i| record(&topic, 0, "one", format!("{i}")))).await;
        send((0..3).map(|i| record(&topic, 1, format!("k{i}"), ""))).await;
        let diary = Diary::default();
        let (mine, pass) = (diary.clone(), gate.clone());
        let handler = move |m: Message<Raw>| {
            let (attempt, pass) = (mine.begin(&m), pass.clone());
            async move {
                if m.partition() == 0 {
                    pass.pass().await;
                } else if m.offset() == 0 {
                    attempt.failed();
                    anyhow::bail!("later");
                }
                attempt.done();
                Ok(())
            }
        };
        let worker = worker_on(&topic).retry(Retry::fixed(Duration::from_secs(3600)));
        let running = start(worker.handler(boxed(handler)).build().unwrap());
        eventually("a steady state", || diary.count() == 2 && diary.begun().len() == 4).await;
        let snapshot = running.handle.snapshot().await.unwrap();
        let names: Vec<_> = snapshot.partitions.iter().map(|p| p.partition.to_string()).collect();
        assert_eq!(names, [format!("{topic}-0"), format!("{topic}-1")]);
        let [p0, p1] = &snapshot.partitions[..] else { unreachable!() };
        assert_eq!((p0.frontier, p0.next, p0.running, p0.waiting, p0.held), (0, 4, 1, 3, None));
        assert_eq!((p1.frontier, p1.next, p1.running, p1.finished_above), (0, 3, 0, 2));
        let mut in_work: Vec<_> =
            snapshot.in_work.iter().map(|r| (r.partition.partition, r.offset, r.attempts, r.stage)).collect();
        in_work.sort_by_key(|(p, ..)| *p);
        assert!(
            matches!(in_work[..], [(0, 0, 1, WorkStage::Running(_)), (1, 0, 1, WorkStage::Backoff(_))]),
            "{in_work:?}"
        );
        gate.open();
        eventually("the rest of the key", || diary.count() == 6).await;
        running.stop().await;
    });
}

#[test]
fn events_tell_of_assignments_and_never_hold_up_a_worker_whose_reader_is_slow() {
    run(async {
        let topic = topic(1);
        fill(&topic, 3_000, |i| format!("k{i}")).await;
        let handler = async |_: Message<Raw>| Err::<(), _>(waterwheel::Failure::skip("no"));
        let worker = worker_on(&topic).handler(boxed(handler)).build().unwrap();
        let (mut slow, mut quick) = (worker.handle().events(), worker.handle().events());
        let running = start(worker);
        let assigned = |e| if let Event::Assigned { partitions } = e { Some(partitions) } else { None };
        let partitions = event(&mut quick, "assigned", assigned).await;
        assert_eq!(partitions.iter().map(ToString::to_string).collect::<Vec<_>>(), [format!("{topic}-0")]);
        eventually("all to be skipped", || running.handle.counts().skipped == 3_000).await;
        let missed = |e| if let Event::Missed { events } = e { Some(events) } else { None };
        assert!(event(&mut slow, "missed", missed).await >= 1_900);
        running.stop().await;
    });
}

#[test]
fn a_group_that_has_committed_nothing_begins_where_it_is_told() {
    run(async {
        let topic = topic(1);
        let at = |i: i64| record(&topic, 0, format!("k{i}"), "").timestamp_millis(1_000_000 + i * 1_000);
        send((0..10).map(at)).await;
        for (from, first) in [(Start::Earliest, 0), (Start::Offset(4), 4)] {
            let diary = Diary::default();
            let mine = diary.clone();
            let handler = move |m: Message<Raw>| {
                mine.begin(&m).done();
                std::future::ready(anyhow::Ok(()))
            };
            let running = start(worker_on(&topic).start(from).handler(boxed(handler)).build().unwrap());
            eventually("the last", || diary.offsets().contains(&9)).await;
            running.stop().await;
            assert_eq!(diary.offsets().iter().min(), Some(&first));
        }
        let diary = Diary::default();
        let mine = diary.clone();
        let handler = move |m: Message<Raw>| {
            mine.begin(&m).done();
            std::future::ready(anyhow::Ok(()))
        };
        let running =
            start(worker_on(&topic).group(unique("g")).start(Start::Latest).handler(boxed(handler)).build().unwrap());
        eventually("a partition", || running.handle.counts().assignments == 1).await;
        let mut placed = false;
        while !placed {
            let snapshot = running.handle.snapshot().await.unwrap();
            placed = snapshot.partitions.first().is_some_and(|p| p.frontier == 10);
        }
        send([at(10)]).await;
        eventually("the new one", || diary.offsets() == [10]).await;
        running.stop().await;
    });
}
