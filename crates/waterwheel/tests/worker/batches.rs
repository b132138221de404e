//! Batch handlers: what is in a batch, and what becomes of its records (I2, I3 seen from outside).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use waterwheel::{
    Batch, DeadLetter, Decode, Error, Failure, OnExhausted, Order, Outcomes, Raw, Retry, Utf8, WorkStage, WorkerBuilder,
};

use crate::support::{
    Gate, PATIENCE, Running, committed, eventually, fill, member_of, record, run, send, start_batches, topic, unique,
    worker_on,
};

/// Nobody waits for that: batches run when they are full.
const NEVER: Duration = Duration::from_secs(3600);

/// The type of all batch handlers here, so that the worker is compiled once for each body.
type Work<T> = Box<dyn Fn(Batch<T>) -> BoxFuture<'static, Outcomes> + Send + Sync>;

/// What the handler was given: offset and attempt of each record, a batch a line.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<Batches>>);

type Batches = Vec<Vec<(i64, u32)>>;

impl Book {
    fn batches(&self) -> Batches {
        self.0.lock().unwrap().clone()
    }

    fn sizes(&self) -> Vec<usize> {
        self.batches().iter().map(Vec::len).collect()
    }
}

/// Starts a worker whose handler is `work`.
fn start<T: Decode, F, R>(
    builder: WorkerBuilder,
    max: usize,
    wait: Duration,
    work: impl Fn(Batch<T>) -> F + Send + Sync + 'static,
) -> (Running, Book)
where
    F: Future<Output = R> + Send + 'static,
    R: Into<Outcomes> + 'static,
{
    let book = Book::default();
    let mine = book.clone();
    let work: Work<T> = Box::new(move |batch| {
        mine.0.lock().unwrap().push(batch.iter().map(|m| (m.offset(), m.attempt())).collect());
        work(batch).map(R::into).boxed()
    });
    let worker = builder.retry(Retry::fixed(Duration::from_millis(2)).attempts(3));
    (start_batches(worker.batch_handler(work, max, wait).build().unwrap()), book)
}

async fn succeeded(running: &Running, records: u64) {
    eventually("all to succeed", || running.handle.counts().succeeded == records).await;
}

#[test]
fn a_batch_runs_when_it_is_full_and_holds_several_records_of_a_key_in_order() {
    run(async {
        let (topic, group) = (topic(1), unique("group"));
        fill(&topic, 30, |i| format!("k{}", i % 3)).await;
        let worker = worker_on(&topic).group(&group).concurrency(20);
        let (running, book) = start(worker, 10, NEVER, async |_: Batch<Raw>| Ok::<_, Failure>(()));
        succeeded(&running, 30).await;
        let report = running.stop().await;
        assert_eq!(book.sizes(), [10; 3]);
        let offsets = book.batches().concat().into_iter().map(|(offset, _)| offset);
        for key in 0..3 {
            assert!(offsets.clone().filter(|o| o % 3 == key).is_sorted(), "key {key}");
        }
        assert_eq!(report.counts.attempts, 30);
        assert_eq!(committed(&group, &topic, 0).map(|(offset, _)| offset), Some(30));
    });
}

#[test]
fn a_batch_that_is_not_full_runs_when_its_first_record_has_waited_long_enough() {
    run(async {
        let topic = topic(2);
        send((0..2).map(|p| record(&topic, p, "k", "v"))).await;
        let wait = Duration::from_millis(20);
        let (running, book) = start(worker_on(&topic), 10, wait, async |_: Batch<Raw>| Ok::<_, Failure>(()));
        succeeded(&running, 2).await;
        running.stop().await;
        assert_eq!(book.sizes().iter().sum::<usize>(), 2);
    });
}

#[test]
fn the_order_of_a_partition_is_kept_across_batches() {
    run(async {
        let topic = topic(1);
        fill(&topic, 20, |i| format!("k{i}")).await;
        let worker = worker_on(&topic).order(Order::Partition);
        let (running, book) = start(worker, 5, NEVER, async |batch: Batch<Raw>| {
            tokio::task::yield_now().await;
            drop(batch);
            Ok::<_, Failure>(())
        });
        succeeded(&running, 20).await;
        running.stop().await;
        assert_eq!(book.sizes(), [5; 4]);
        assert!(book.batches().concat().is_sorted());
    });
}

#[test]
fn later_records_of_a_key_must_not_count_as_done_once_an_earlier_one_has_failed() {
    run(async {
        let topic = topic(1);
        fill(&topic, 7, |i| if i % 2 == 0 { "a" } else { "b" }.to_owned()).await;
        // Record 2 fails once; 0 and 2, 4, 6 are of one key.
        let work = async |batch: Batch<Raw>| {
            let result = |m: &waterwheel::Message<Raw>| match (m.offset(), m.attempt()) {
                (2, 1) => Err("not now"),
                _ => Ok(()),
            };
            batch.iter().map(result).collect::<Outcomes>()
        };
        let (running, book) = start(worker_on(&topic), 7, Duration::from_millis(300), work);
        succeeded(&running, 7).await;
        let report = running.stop().await;
        let first: Vec<_> = (0..7).map(|offset| (offset, 1)).collect();
        assert_eq!(book.batches(), [first, vec![(2, 2)], vec![(4, 1), (6, 1)]]);
        assert_eq!((report.counts.retried, report.counts.attempts), (1, 10));
    });
}

#[test]
fn a_record_that_panics_its_batch_must_not_keep_the_others_from_being_done() {
    run(async {
        let topic = topic(1);
        let value = |i: i32| if i == 5 { "poison" } else { "fine" };
        send((0..8).map(|i| record(&topic, 0, format!("k{}", i % 4), value(i)))).await;
        let work = async |batch: Batch<Raw>| {
            assert!(batch.iter().all(|m| m.value() != Some(b"poison")), "poison");
            Ok::<_, Failure>(())
        };
        let (running, book) = start(worker_on(&topic).on_exhausted(OnExhausted::Skip), 8, NEVER, work);
        succeeded(&running, 7).await;
        eventually("the poison to be skipped", || running.handle.counts().skipped == 1).await;
        let report = running.stop().await;
        let batches = book.batches();
        assert_eq!(batches[0], (0..8).map(|offset| (offset, 1)).collect::<Vec<_>>());
        assert!(batches[1..].iter().all(|batch| batch.len() == 1), "{batches:?}");
        let of_poison: Vec<u32> = batches.concat().into_iter().filter(|(o, _)| *o == 5).map(|(_, n)| n).collect();
        assert_eq!(of_poison, [1, 1, 2, 3], "behind 1, it did not count in the first batch");
        assert_eq!(report.counts.panicked, 4 + 3);
    });
}

#[test]
fn a_failure_of_the_whole_is_one_of_each_record() {
    run(async {
        let topic = topic(1);
        fill(&topic, 3, |i| format!("k{i}")).await;
        let work = async |batch: Batch<Raw>| match batch.len() {
            1 => Ok(()),
            _ => Err(anyhow::anyhow!("all or nothing")),
        };
        let (running, book) = start(worker_on(&topic), 3, NEVER, work);
        succeeded(&running, 3).await;
        let report = running.stop().await;
        let mut batches = book.batches();
        batches[1..].sort();
        assert_eq!(batches, [vec![(0, 1), (1, 1), (2, 1)], vec![(0, 2)], vec![(1, 2)], vec![(2, 2)]]);
        assert_eq!(report.counts.retried, 3);
    });
}

#[test]
fn a_batch_that_takes_too_long_is_dropped_and_its_records_have_failed() {
    run(async {
        let topic = topic(1);
        fill(&topic, 4, |i| format!("k{i}")).await;
        let work = async |batch: Batch<Raw>| {
            if batch.len() > 1 {
                std::future::pending::<()>().await;
            }
            Ok::<_, Failure>(())
        };
        let worker = worker_on(&topic).handler_timeout(Duration::from_millis(50));
        let (running, book) = start(worker, 4, NEVER, work);
        succeeded(&running, 4).await;
        let report = running.stop().await;
        assert_eq!(book.sizes(), [4, 1, 1, 1, 1]);
        assert_eq!((report.counts.timed_out, report.is_clean()), (4, true));
    });
}

#[test]
fn what_cannot_be_decoded_is_not_shown_and_its_key_waits_for_its_dead_letter() {
    run(async {
        let (topic, letters) = (topic(1), topic(1));
        let value = |i: i32| if i == 1 { &b"\xff"[..] } else { b"text" };
        send((0..4).map(|i| record(&topic, 0, if i < 3 { "a" } else { "b" }, value(i)))).await;
        let worker = worker_on(&topic).dead_letter(DeadLetter::topic(&letters));
        let work = async |_: Batch<Utf8>| Ok::<_, Failure>(());
        let (running, book) = start(worker, 4, Duration::from_millis(50), work);
        succeeded(&running, 3).await;
        let report = running.stop().await;
        let offsets: Vec<i64> = book.batches().concat().into_iter().map(|(offset, _)| offset).collect();
        let place = |offset| offsets.iter().position(|o| *o == offset);
        assert!(place(0) < place(2) && place(1).is_none(), "{offsets:?}");
        assert_eq!((report.counts.dead_lettered, report.counts.undecodable), (1, 1));
    });
}

#[test]
fn what_is_gathered_when_the_worker_stops_does_not_run_and_comes_again() {
    run(async {
        let (topic, group) = (topic(1), unique("group"));
        fill(&topic, 3, |i| format!("k{i}")).await;
        let work = async |_: Batch<Raw>| Ok::<_, Failure>(());
        let (running, book) = start(member_of(&group, &topic), 10, NEVER, work);
        let gathered = async || {
            let in_work = running.handle.snapshot().await.map_or(Vec::new(), |s| s.in_work);
            in_work.iter().filter(|r| matches!(r.stage, WorkStage::Gathered(_))).count()
        };
        while gathered().await < 3 {
            tokio::task::yield_now().await;
        }
        let report = running.stop().await;
        assert!(report.is_clean() && book.batches().is_empty());
        assert_eq!(report.counts.attempts, 0);
        let (running, book) = start(member_of(&group, &topic), 3, NEVER, work);
        succeeded(&running, 3).await;
        running.stop().await;
        assert_eq!(book.batches(), [[(0, 1), (1, 1), (2, 1)]]);
    });
}

#[test]
fn a_batch_that_runs_past_the_drains_deadline_is_dropped_and_named() {
    run(async {
        let topic = topic(1);
        fill(&topic, 3, |i| format!("k{i}")).await;
        let (gate, told) = (Gate::closed(), Arc::new(Mutex::new(None)));
        let (held, asked) = (gate.clone(), told.clone());
        let work = move |batch: Batch<Raw>| {
            let (held, asked) = (held.clone(), asked.clone());
            async move {
                batch.cancelled().await;
                *asked.lock().unwrap() = batch.deadline();
                held.pass().await;
                Ok::<_, Failure>(())
            }
        };
        let worker = worker_on(&topic).drain_timeout(Duration::from_millis(50));
        let (running, book) = start(worker, 3, NEVER, work);
        eventually("the batch to run", || !book.batches().is_empty()).await;
        let report = running.stop().await;
        assert_eq!(report.cut_off.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [3]);
        assert_eq!(report.counts.succeeded, 0);
        assert!(told.lock().unwrap().is_some(), "the handler was told of the deadline");
    });
}

#[test]
fn a_partition_that_fails_in_a_batch_holds_no_other_up() {
    run(async {
        let topic = topic(2);
        send((0..2).flat_map(|p| (0..5).map(move |i| (p, i))).map(|(p, i)| record(&topic, p, format!("k{i}"), "v")))
            .await;
        let work = async |batch: Batch<Raw>| {
            let result = |m: &waterwheel::Message<Raw>| if m.partition() == 0 { Err("down") } else { Ok(()) };
            batch.iter().map(result).collect::<Outcomes>()
        };
        let worker = worker_on(&topic).shards(1);
        let (running, _) = start(worker, 4, Duration::from_millis(20), work);
        succeeded(&running, 5).await;
        running.stop().await;
    });
}

#[test]
fn a_batch_that_cannot_run_is_refused() {
    let refused = |max: usize| {
        let work = async |_: Batch<Raw>| Ok::<_, Failure>(());
        let worker = worker_on("orders").concurrency(100).batch_handler(work, max, PATIENCE);
        match worker.build() {
            Err(Error::Config(error)) => Some(error.to_string()),
            _ => None,
        }
    };
    assert_eq!(refused(100), None);
    assert!(refused(0).is_some_and(|why| why.contains("at least 1")));
    assert!(refused(101).is_some_and(|why| why.contains("concurrency(202)")), "{:?}", refused(101));
}
