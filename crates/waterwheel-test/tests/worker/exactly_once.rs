//! Workers that work exactly once: what a reader of what is committed sees, whatever becomes of transactions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use waterwheel::{
    Client, DeadLetter, Error, Event, ExactlyOnce, Failure, Message, OnExhausted, Outputs, ProducerRecord, Raw, Retry,
    Transform, WorkerBuilder,
};
use waterwheel_test::{Cluster, Lasts, Request};

use crate::support::{Gate, assert_exactly_once, eventually, output, run, start_transform};

fn cluster(partitions: usize) -> Cluster {
    Cluster::new().topic("t", partitions).topic("out", 3)
}

/// A member of group `g` that works exactly once.
fn exact(client: &Client) -> WorkerBuilder {
    client.worker("g").topic("t").shards(2).exactly_once(ExactlyOnce::new())
}

/// Writes so many records, of a few keys.
async fn fill(cluster: &Cluster, count: usize, keys: usize) {
    for i in 0..count {
        cluster.produce("t", format!("k{}", i % keys), "v").await;
    }
}

/// One output for each record, after a wait that differs.
fn forward() -> impl Transform<Raw> {
    async |message: Message<Raw>| {
        tokio::time::sleep(Duration::from_millis(message.offset().unsigned_abs() * 7 % 20)).await;
        Ok::<_, Failure>(output(&message))
    }
}

/// One output for each record, at once.
fn at_once() -> impl Transform<Raw> {
    |message: Message<Raw>| std::future::ready(Ok::<_, Failure>(output(&message)))
}

#[test]
fn each_record_has_its_output_once_and_in_the_order_of_its_key() {
    run(async {
        for (keys, at_first_poll) in [(1, true), (40, true), (1, false), (40, false)] {
            let cluster = cluster(4);
            fill(&cluster, 300, keys).await;
            let worker = match at_first_poll {
                true => start_transform(exact(&cluster.client()).transform(at_once()).build().unwrap()),
                false => start_transform(exact(&cluster.client()).transform(forward()).build().unwrap()),
            };
            cluster.assert_finished("g", "t").await;
            let counts = worker.stop().await.counts;
            assert_eq!((counts.succeeded, counts.attempts, counts.transactions_aborted), (300, 300, 0));
            assert_exactly_once(&cluster, &[], &format!("{keys} keys"));
        }
    });
}

/// Several outputs, or none, of a record.
#[test]
fn a_record_may_have_many_outputs_or_none() {
    run(async {
        let cluster = cluster(1);
        fill(&cluster, 30, 5).await;
        let transform = async |message: Message<Raw>| {
            let copies = message.offset() % 3;
            Ok::<_, Failure>((0..copies).map(|_| output(&message)).collect::<Outputs>())
        };
        let worker = start_transform(exact(&cluster.client()).transform(transform).build().unwrap());
        cluster.assert_finished("g", "t").await;
        assert_eq!(worker.stop().await.counts.succeeded, 30);
        assert_eq!(cluster.records("out").len(), 10 + 20);
    });
}

/// Whatever a step of a transaction fails by, nothing is lost and nothing is there twice.
#[test]
fn no_step_of_a_transaction_that_fails_loses_or_repeats_an_output() {
    run(async {
        let (abort, again, fenced) = ([22, 27], [14, 16, -195], [47, 90]);
        let steps = [
            (Request::InitProducer, again.to_vec()),
            (Request::AddOffsets, [abort.as_slice(), &again].concat()),
            (Request::AddOffsets, fenced.to_vec()),
            (Request::EndTransaction, [again.as_slice(), &fenced, &[48]].concat()),
            (Request::Produce, vec![-192, 47]),
            (Request::Committed, again.to_vec()),
        ];
        for (request, codes) in steps {
            for code in codes {
                let cluster = cluster(3);
                fill(&cluster, 120, 10).await;
                let worker = start_transform(exact(&cluster.client()).transform(forward()).build().unwrap());
                cluster.advance(Duration::from_millis(150)).await;
                cluster.fail(request, code, Lasts::Times(2));
                fill(&cluster, 120, 10).await;
                cluster.assert_finished("g", "t").await;
                worker.stop().await;
                assert_exactly_once(&cluster, &[], &format!("{request:?} {code}"));
            }
        }
    });
}

/// The commit takes a second; meanwhile a key's records run one after another.
#[test]
fn a_hot_key_does_not_wait_for_the_transaction() {
    run(async {
        let cluster = cluster(1);
        cluster.slow(Request::EndTransaction, Duration::from_secs(1));
        fill(&cluster, 1, 1).await;
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = begun.clone();
        let transform = move |message: Message<Raw>| {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok::<_, Failure>(output(&message)))
        };
        let worker = start_transform(exact(&cluster.client()).transform(transform).build().unwrap());
        eventually("the first one", || begun.load(Ordering::Relaxed) == 1).await;
        cluster.advance(Duration::from_millis(300)).await;
        assert_eq!(cluster.committed("g", "t", 0).map(|c| c.offset).unwrap_or_default(), 0, "the commit is under way");
        fill(&cluster, 200, 1).await;
        cluster.advance(Duration::from_millis(100)).await;
        assert_eq!(begun.load(Ordering::Relaxed), 201);
        assert_eq!(cluster.records("out").len(), 0, "nothing is committed");
        cluster.assert_finished("g", "t").await;
        worker.stop().await;
        assert_exactly_once(&cluster, &[], "");
    });
}

#[test]
fn a_partition_lost_in_the_middle_of_a_transaction_must_not_be_committed_with_it() {
    run(async {
        let cluster = cluster(4);
        let (one, two) = (cluster.host(), cluster.host());
        let slow = || {
            async |message: Message<Raw>| {
                tokio::time::sleep(Duration::from_millis(3)).await;
                Ok::<_, Failure>(output(&message))
            }
        };
        let first = start_transform(exact(&one.client()).transform(slow()).build().unwrap());
        let second = start_transform(exact(&two.client()).transform(slow()).build().unwrap());
        for round in 0..10 {
            fill(&cluster, 100, 30).await;
            cluster.advance(Duration::from_millis(20 + 13 * round)).await;
            cluster.throw_out("g", if round % 2 == 0 { &one } else { &two });
        }
        cluster.assert_finished("g", "t").await;
        let aborted = first.handle.counts().transactions_aborted + second.handle.counts().transactions_aborted;
        assert!(aborted > 0, "void: no transaction was aborted");
        first.stop().await;
        second.stop().await;
        assert_exactly_once(&cluster, &[], "");
    });
}

/// The first record of the partition hangs, those behind it are done and in the commit map: after a death only it runs.
#[test]
fn outputs_of_out_of_order_ends_must_not_come_again_after_a_death() {
    run(async {
        let cluster = cluster(1);
        fill(&cluster, 100, 100).await;
        let (gate, host) = (Gate::closed(), cluster.host());
        let gated = |gate: &Gate| {
            let gate = gate.clone();
            move |message: Message<Raw>| {
                let gate = gate.clone();
                async move {
                    if message.offset() == 0 {
                        gate.pass().await;
                    }
                    Ok::<_, Failure>(output(&message))
                }
            }
        };
        let worker = start_transform(exact(&host.client()).transform(gated(&gate)).build().unwrap());
        eventually("99 to be committed", || worker.handle.counts().succeeded == 99).await;
        assert_eq!((cluster.records("out").len(), cluster.committed("g", "t", 0).unwrap().offset), (99, 0));
        worker.kill(host).await;
        gate.open();
        let worker = start_transform(exact(&cluster.client()).transform(gated(&gate)).build().unwrap());
        cluster.assert_finished("g", "t").await;
        assert_eq!(worker.stop().await.counts.attempts, 1);
        assert_exactly_once(&cluster, &[], "");
    });
}

/// Commits take long, and members come and go: what is handed over is committed before.
#[test]
fn a_partition_must_not_go_back_before_its_transaction_is_committed() {
    run(async {
        for protocol in ["range", "cooperative-sticky"] {
            let cluster = cluster(4);
            cluster.slow(Request::EndTransaction, Duration::from_millis(200));
            let builder = |client: Client| exact(&client).property("partition.assignment.strategy", protocol);
            let first = start_transform(builder(cluster.client()).transform(forward()).build().unwrap());
            fill(&cluster, 200, 30).await;
            cluster.advance(Duration::from_millis(50)).await;
            let second = start_transform(builder(cluster.client()).transform(forward()).build().unwrap());
            fill(&cluster, 200, 30).await;
            cluster.advance(Duration::from_millis(400)).await;
            fill(&cluster, 200, 30).await;
            assert!(second.stop().await.is_clean());
            cluster.assert_finished("g", "t").await;
            let report = first.stop().await;
            assert!(report.is_clean());
            assert_exactly_once(&cluster, &[], protocol);
        }
    });
}

#[test]
fn a_stop_commits_what_is_done() {
    run(async {
        let cluster = cluster(2);
        fill(&cluster, 50, 50).await;
        // Nothing would be committed for a day.
        let how = ExactlyOnce::new().every(Duration::from_secs(86_400));
        let client = cluster.client();
        let builder = client.worker("g").topic("t").exactly_once(how);
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = begun.clone();
        let transform = move |message: Message<Raw>| {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok::<_, Failure>(output(&message)))
        };
        let worker = start_transform(builder.transform(transform).build().unwrap());
        eventually("all to be done", || begun.load(Ordering::Relaxed) == 50).await;
        assert_eq!(cluster.records("out").len(), 0);
        assert_eq!(worker.stop().await.counts.succeeded, 50);
        assert_exactly_once(&cluster, &[], "");
    });
}

#[test]
fn a_full_transaction_is_committed_before_its_time() {
    run(async {
        let cluster = cluster(1);
        fill(&cluster, 1_000, 50).await;
        let how = ExactlyOnce::new().every(Duration::from_secs(3_000)).records(100);
        let builder = cluster.client().worker("g").topic("t").concurrency(4).exactly_once(how);
        let worker = start_transform(builder.transform(at_once()).build().unwrap());
        eventually("most to be committed", || cluster.records("out").len() >= 900).await;
        let counts = worker.stop().await.counts;
        assert!(counts.commits >= 5 && counts.succeeded == 1_000, "{counts:?}");
        assert_exactly_once(&cluster, &[], "");
    });
}

/// Two workers with one transactional id: the later one works, the earlier one ends and says why.
#[test]
fn two_workers_must_not_share_a_transactional_id() {
    run(async {
        let cluster = cluster(4);
        fill(&cluster, 200, 20).await;
        let worker = || {
            let how = ExactlyOnce::new().transactional_id("shared");
            let client = cluster.client();
            let builder = client.worker("g").topic("t").shards(1).exactly_once(how);
            start_transform(builder.transform(forward()).build().unwrap())
        };
        let first = worker();
        eventually("a commit", || first.handle.counts().succeeded > 0).await;
        let second = worker();
        for _ in 0..40 {
            fill(&cluster, 20, 20).await;
            cluster.advance(Duration::from_millis(200)).await;
        }
        cluster.assert_finished("g", "t").await;
        // Either may have been the first that was fenced twice; the other one goes on.
        let (ended, lives) = match first.handle.state() {
            waterwheel::WorkerState::Closed => (first, second),
            _ => (second, first),
        };
        let error = ended.ended().await.unwrap_err();
        assert!(error.to_string().contains("transactional id shared-0"), "{error}");
        assert!(matches!(error.error, Error::Stopped { .. }));
        lives.stop().await;
        assert_exactly_once(&cluster, &[], "");
    });
}

/// A transactional id of one's own: a successor does not wait for the time-out of what a dead worker left open.
#[test]
fn a_successor_with_the_same_transactional_id_ends_what_a_dead_worker_left_open() {
    run(async {
        let cluster = cluster(1);
        fill(&cluster, 10, 10).await;
        let worker = |host: &waterwheel_test::Host| {
            let how = ExactlyOnce::new().transactional_id("mine");
            let client = host.client();
            let builder = client.worker("g").topic("t").shards(1).exactly_once(how);
            start_transform(builder.transform(at_once()).build().unwrap())
        };
        let host = cluster.host();
        let first = worker(&host);
        eventually("the first ones", || cluster.records("out").len() == 10).await;
        fill(&cluster, 10, 10).await;
        cluster.advance(Duration::from_millis(30)).await;
        first.kill(host).await;
        let successor = cluster.host();
        let second = worker(&successor);
        cluster.assert_finished("g", "t").await;
        second.stop().await;
        assert_exactly_once(&cluster, &[], "");
    });
}

/// Letters and skips count with their transaction, and only then.
#[test]
fn dead_letters_and_skips_are_part_of_the_transaction() {
    run(async {
        let cluster = cluster(2).topic("failed", 1);
        fill(&cluster, 100, 10).await;
        cluster.fail(Request::AddOffsets, 22, Lasts::Times(1));
        let transform = async |message: Message<Raw>| match message.offset() % 10 {
            3 => Err(Failure::dead_letter("no")),
            7 => Err(Failure::skip("no")),
            _ => Ok(output(&message)),
        };
        let builder = exact(&cluster.client()).dead_letter(DeadLetter::topic("failed"));
        let worker = builder.transform(transform).build().unwrap();
        let mut events = worker.handle().events();
        let worker = start_transform(worker);
        cluster.assert_finished("g", "t").await;
        let counts = worker.stop().await.counts;
        assert!(counts.transactions_aborted > 0, "void: no transaction was aborted");
        let of = |digit: i64| cluster.records("t").iter().filter(|r| r.offset() % 10 == digit).count() as u64;
        assert_eq!((counts.dead_lettered, counts.skipped), (of(3), of(7)));
        let letters = cluster.assert_dead_lettered("failed", usize::try_from(of(3)).unwrap()).await;
        let places = letters.iter().map(|letter| {
            let origin = waterwheel::DeadLetterOrigin::of(letter).unwrap().unwrap();
            (origin.partition, origin.offset)
        });
        let mut places: Vec<(i32, i64)> = places.collect();
        let skipped = cluster
            .records("t")
            .iter()
            .map(|r| (r.partition(), r.offset()))
            .filter(|(_, o)| o % 10 == 7)
            .collect::<Vec<_>>();
        places.extend(skipped);
        assert_exactly_once(&cluster, &places, "");
        let mut told = (0, 0);
        while let Some(Some(event)) = futures_util::FutureExt::now_or_never(events.next()) {
            match event {
                Event::DeadLettered { .. } => told.0 += 1,
                Event::Skipped { .. } => told.1 += 1,
                _ => {}
            }
        }
        assert_eq!(told, (of(3), of(7)));
    });
}

/// An output that no topic takes is a failure of its record: the others go on, and it ends as the policy says.
#[test]
fn an_output_that_is_refused_must_not_stop_the_others() {
    run(async {
        let cluster = cluster(1);
        fill(&cluster, 40, 8).await;
        let transform = async |message: Message<Raw>| {
            let output = match message.offset() {
                5 => ProducerRecord::to("nowhere").value("x"),
                _ => output(&message),
            };
            Ok::<_, Failure>(output)
        };
        let retry = Retry::exponential(Duration::from_millis(10), Duration::from_millis(50)).attempts(2);
        let builder = exact(&cluster.client()).retry(retry).on_exhausted(OnExhausted::Skip);
        let worker = start_transform(builder.transform(transform).build().unwrap());
        cluster.assert_finished("g", "t").await;
        assert_eq!(worker.stop().await.counts.skipped, 1);
        assert_exactly_once(&cluster, &[(0, 5)], "");
    });
}

#[test]
fn a_seek_is_committed_and_what_is_read_again_has_outputs_again() {
    run(async {
        let cluster = cluster(1);
        fill(&cluster, 10, 10).await;
        let worker = start_transform(exact(&cluster.client()).transform(at_once()).build().unwrap());
        cluster.assert_finished("g", "t").await;
        assert_eq!(cluster.records("out").len(), 10);
        worker.stop().await;
        cluster.commit("g", "t", 0, 4, "");
        let worker = start_transform(exact(&cluster.client()).transform(at_once()).build().unwrap());
        eventually("six more", || cluster.records("out").len() == 16).await;
        worker.stop().await;
    });
}

#[test]
fn what_does_not_go_together_is_refused() {
    let client = || Client::new("localhost:9092").unwrap();
    let exact = || client().worker("g").topic("t").exactly_once(ExactlyOnce::new());
    let refused = |builder: WorkerBuilder| match builder.transform(at_once()).build() {
        Err(Error::Config(error)) => error.to_string(),
        Err(other) => other.to_string(),
        Ok(_) => String::new(),
    };
    assert_eq!(refused(exact()), "");
    assert!(refused(client().worker("g").topic("t")).contains("add .exactly_once(..)"));
    assert!(refused(exact().commit_every(Duration::from_secs(1))).contains("ExactlyOnce::every"));
    assert!(refused(exact().property("enable.idempotence", "false")).contains("transactions need it"));
    assert!(refused(exact().property("acks", "1")).contains("all replicas"));
    assert!(refused(exact().property("isolation.level", "read_uncommitted")).contains("read_committed"));
    assert!(refused(exact().exactly_once(ExactlyOnce::new().records(0))).contains("without time or room"));
    assert!(refused(exact().exactly_once(ExactlyOnce::new().transactional_id(""))).contains("is empty"));
    let handler = |_: Message<Raw>| std::future::ready(Ok::<_, Failure>(()));
    let with_handler = exact().handler(handler).build().map(drop).unwrap_err().to_string();
    assert!(with_handler.contains("use .transform(..)"), "{with_handler}");
}
