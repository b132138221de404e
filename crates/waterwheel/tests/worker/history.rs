//! Histories: everything from the beginning, without a group, and the caught-up signal (promise R6, invariant I10 from
//! outside).

use std::time::Duration;

use futures_util::future::join_all;
use waterwheel::{DeadLetter, Failure, HistoryBuilder, HistoryHandle, Message, Order, Raw, Report, RunError, Start};

use crate::support::{Diary, Gate, boxed, client, committed, eventually, fill, record, run, send, spawn, topic};

fn writing(diary: &Diary) -> impl waterwheel::Handler<Raw> + use<> {
    let diary = diary.clone();
    move |message: Message<Raw>| {
        diary.begin(&message).done();
        std::future::ready(Ok::<_, Failure>(()))
    }
}

struct Reading {
    handle: HistoryHandle,
    task: tokio::task::JoinHandle<Result<Report, RunError>>,
}

fn read(history: HistoryBuilder, diary: &Diary) -> Reading {
    let history = history.handler(boxed(writing(diary))).build().unwrap();
    Reading { handle: history.handle(), task: spawn(history.run()) }
}

impl Reading {
    async fn stop(self) -> Report {
        self.handle.worker().close();
        self.task.await.unwrap().unwrap()
    }
}

#[test]
fn it_is_caught_up_once_everything_that_was_there_is_handled_and_goes_on() {
    run(async {
        let topic = topic(3);
        send((0..300).map(|i| record(&topic, i % 3, format!("k{i}"), "v"))).await;
        let (diary, later) = (Diary::default(), Diary::default());
        let reading = read(client().history(&*topic), &diary);
        let waiting = join_all((0..100).map(|_| reading.handle.caught_up())).await;
        assert!(waiting.iter().all(|told| *told), "any number may wait");
        assert_eq!(diary.count(), 300);
        let progress = reading.handle.progress();
        assert_eq!((progress.total(), progress.remaining(), progress.eta()), (300, 0, Some(Duration::ZERO)));
        assert!(progress.partitions.iter().all(|p| p.caught_up && p.position == 100 && p.start == 0));
        fill(&topic, 5, |_| "k".to_owned()).await;
        eventually("what is written later", || diary.count() == 305).await;
        assert!(reading.handle.caught_up().await, "after the fact, too");
        reading.stop().await;
        assert_eq!(committed(&topic, &topic, 0), None, "no group, no commits");
        let again = read(client().history(&*topic), &later);
        assert!(again.handle.caught_up().await);
        assert_eq!(later.count(), 305, "each history sees everything");
        again.stop().await;
    });
}

#[test]
fn it_is_not_caught_up_while_a_record_is_in_work() {
    run(async {
        let topic = topic(1);
        fill(&topic, 10, |i| format!("k{i}")).await;
        let (diary, gate) = (Diary::default(), Gate::closed());
        let (seen, held) = (diary.clone(), gate.clone());
        let slow = move |message: Message<Raw>| {
            let (attempt, gate, last) = (seen.begin(&message), held.clone(), message.offset() == 4);
            async move {
                if last {
                    gate.pass().await;
                }
                attempt.done();
                Ok::<_, Failure>(())
            }
        };
        let history = client().history(&*topic).handler(boxed(slow)).build().unwrap();
        let handle = history.handle();
        let task = spawn(history.run());
        eventually("all but one", || diary.count() == 9).await;
        eventually("the position to stand at it", || handle.progress().partitions[0].position == 4).await;
        assert!(!handle.is_caught_up());
        assert_eq!(handle.progress().remaining(), 6);
        gate.open();
        assert!(handle.caught_up().await);
        assert_eq!(diary.count(), 10);
        handle.worker().close();
        task.await.unwrap().unwrap();
    });
}

#[test]
fn empty_topics_are_caught_up_at_once() {
    run(async {
        let (empty, full, diary) = (topic(8), topic(1), Diary::default());
        let reading = read(client().history(&*empty), &diary);
        assert!(reading.handle.caught_up().await);
        reading.stop().await;
        fill(&full, 3, |_| "k".to_owned()).await;
        let reading = read(client().history(&*empty).topic(&*full), &diary);
        assert!(reading.handle.caught_up().await);
        assert_eq!((diary.count(), reading.handle.progress().partitions.len()), (3, 9), "both topics");
        reading.stop().await;
        let at_the_end = client().history(&*full).with(|worker| worker.start(Start::Latest));
        let reading = read(at_the_end, &diary);
        assert!(reading.handle.caught_up().await);
        assert_eq!((diary.count(), reading.handle.progress().total()), (3, 0), "start and end are the same");
        reading.stop().await;
    });
}

#[test]
fn many_partitions_that_end_at_once_are_told_once() {
    run(async {
        let topic = topic(64);
        send((0..640).map(|i| record(&topic, i % 64, "k", "v"))).await;
        for _ in 0..20 {
            let diary = Diary::default();
            let reading = read(client().history(&*topic), &diary);
            assert!(reading.handle.caught_up().await);
            assert_eq!(diary.count(), 640);
            reading.stop().await;
        }
    });
}

#[test]
fn a_dead_letter_counts_as_handled_and_a_parked_record_does_not() {
    run(async {
        let (topic, letters) = (topic(1), topic(1));
        fill(&topic, 3, |i| format!("k{i}")).await;
        let failing = |message: Message<Raw>| {
            std::future::ready(if message.offset() == 1 { Err(Failure::dead_letter("no")) } else { Ok(()) })
        };
        let with = client().history(&*topic).with(|worker| worker.dead_letter(DeadLetter::topic(&letters)));
        let history = with.handler(boxed(failing)).build().unwrap();
        let handle = history.handle();
        let report = history.run_until(async move { assert!(handle.caught_up().await) }).await.unwrap();
        assert_eq!((report.counts.succeeded, report.counts.dead_lettered), (2, 1));

        let history = client().history(&*topic).handler(boxed(failing)).build().unwrap();
        let handle = history.handle();
        let task = spawn(history.run());
        eventually("the record to be parked", || handle.worker().counts().retried > 0).await;
        eventually("the position to stand at it", || handle.progress().remaining() == 2).await;
        assert!(!handle.is_caught_up());
        handle.worker().close_now();
        task.await.unwrap().unwrap();
        assert!(!handle.caught_up().await, "it ended without");
    });
}

#[test]
fn what_only_a_group_has_is_refused() {
    let build = |with: fn(HistoryBuilder) -> HistoryBuilder| {
        let history = with(client().history("orders"));
        history.handler(boxed(writing(&Diary::default()))).build().err().map(|error| error.to_string())
    };
    assert_eq!(build(|h| h.with(|w| w.order(Order::Partition).concurrency(7))), None);
    for (with, key) in [
        ((|h| h.with(|w| w.group("g"))) as fn(HistoryBuilder) -> HistoryBuilder, "group"),
        (|h| h.with(|w| w.lease(Duration::from_secs(9))), "lease"),
        (|h| h.with(|w| w.start(Start::Nowhere)), "start"),
        (|h| h.topic("^a"), "topic"),
    ] {
        let refused = build(with).unwrap_or_default();
        assert!(refused.contains(key), "{key}: {refused}");
    }
}

#[test]
fn a_history_that_was_stopped_goes_on_where_it_was() {
    run(async {
        let topic = topic(2);
        send((0..100).map(|i| record(&topic, i % 2, format!("k{i}"), "v"))).await;
        let diary = Diary::default();
        let reading = read(client().history(&*topic), &diary);
        assert!(reading.handle.caught_up().await);
        assert!(reading.handle.worker().stop_and_wait(Duration::from_secs(20)).await);
        send((0..10).map(|i| record(&topic, i % 2, "later", "v"))).await;
        reading.handle.worker().start();
        eventually("what came meanwhile", || diary.count() == 110).await;
        assert!(reading.handle.caught_up().await);
        assert_eq!(reading.stop().await.counts.succeeded, 110, "nothing was handled again");
    });
}
