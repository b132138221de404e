//! Retry tiers: records that come again from other topics, with all that may happen on their way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use waterwheel::{
    AfterDeadLetter, Batch, Client, DeadLetter, DeadLetterOrigin, ExactlyOnce, Failure, FailureClass, Handler,
    HoldReason, Message, Order, Outcomes, ProducerRecord, Raw, Record, Retry, RetryTiers, Start, WorkerBuilder,
};
use waterwheel_test::{Cluster, Lasts, Request};

use crate::support::{Dice, eventually, fill, member, output, run, start, start_transform};

const FIRST: &str = "t.g.retry.5s";
const LAST: &str = "t.g.retry.1m";

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Topic `t` and those of its tiers.
fn cluster(partitions: usize) -> Cluster {
    let cluster = Cluster::new().topic("t", partitions).topic("failed", 1).patience(seconds(600));
    cluster.topic(FIRST, 2).topic(LAST, 1)
}

/// Two attempts a visit, tiers of five seconds and a minute, so many attempts in all.
fn tiered(client: &Client, attempts: u32) -> WorkerBuilder {
    let tiers = RetryTiers::new([seconds(5), seconds(60)]).attempts(attempts).allow_overtaking();
    let retry = Retry::fixed(Duration::from_millis(10)).attempts(2);
    member(client).retry(retry).retry_tiers(tiers).dead_letter(DeadLetter::topic("failed"))
}

/// An attempt, as its handler saw it.
#[derive(Clone, Debug)]
struct Seen {
    topic: String,
    original: (String, i32, i64),
    attempt: u32,
    at: Instant,
}

/// What all handlers saw.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Seen>>>);

impl Log {
    fn note(&self, message: &Message<Raw>) {
        let place = message.original_place();
        let original = (place.partition.topic.to_string(), place.partition.partition, place.offset);
        let (topic, attempt) = (message.topic().to_owned(), message.attempt());
        self.0.lock().unwrap().push(Seen { topic, original, attempt, at: Instant::now() });
    }

    fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    /// The attempts at each record, by where it was first, in their order.
    fn attempts(&self) -> BTreeMap<(String, i32, i64), Vec<u32>> {
        let mut of = BTreeMap::<_, Vec<u32>>::new();
        for seen in self.all() {
            of.entry(seen.original).or_default().push(seen.attempt);
        }
        of
    }

    /// A handler that fails where the key is `bad`, below that attempt.
    fn fails_below(&self, attempt: u32) -> impl Handler<Raw> + use<> {
        let log = self.clone();
        move |message: Message<Raw>| {
            log.note(&message);
            let fails = message.key() == Some(b"bad") && message.attempt() < attempt;
            std::future::ready(if fails { Err(Failure::retry("not yet")) } else { Ok(()) })
        }
    }
}

fn origin(letter: &Record) -> DeadLetterOrigin {
    DeadLetterOrigin::of(letter).unwrap().unwrap()
}

#[test]
fn a_record_goes_from_tier_to_tier_uses_the_last_one_again_and_ends_as_a_dead_letter() {
    run(async {
        let (cluster, log) = (cluster(1), Log::default());
        cluster.produce("t", "good", "v").await;
        let bad = ProducerRecord::to("t").key("bad").value("v").header("h", "1").timestamp_millis(1_000);
        cluster.produce_record(bad).await;
        let worker = start(tiered(&cluster.client(), 8).handler(log.fails_below(99)).build().unwrap());
        let letters = cluster.assert_dead_lettered("failed", 1).await;
        let seen: Vec<Seen> = log.all().into_iter().filter(|seen| seen.original.2 == 1).collect();
        let way: Vec<_> = seen.iter().map(|seen| (seen.topic.as_str(), seen.attempt)).collect();
        let wanted = [("t", 1), ("t", 2), (FIRST, 3), (FIRST, 4), (LAST, 5), (LAST, 6), (LAST, 7), (LAST, 8)];
        assert_eq!(way, wanted);
        for (pair, delay) in [(1, 5), (3, 60), (5, 60)] {
            let waited = seen[pair + 1].at - seen[pair].at;
            assert!(
                (seconds(delay)..seconds(delay + 1)).contains(&waited),
                "{waited:?} before {}",
                seen[pair + 1].topic
            );
        }
        assert!(seen.iter().all(|seen| seen.original == ("t".to_owned(), 0, 1)), "{seen:?}");

        let letter = origin(&letters[0]);
        assert_eq!((letter.topic.as_str(), letter.partition, letter.offset, letter.attempts), ("t", 0, 1, 8));
        assert_eq!((letter.timestamp_millis, letters[0].timestamp_millis()), (Some(1_000), Some(1_000)));
        assert_eq!((letter.group.as_str(), letter.error_class), ("g", FailureClass::Handler));
        let mut names: Vec<_> = letters[0].headers().map(|(name, _)| name).collect();
        assert_eq!(names[0], b"h");
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "what its way added is there once");
        for topic in ["t", FIRST, LAST] {
            cluster.assert_finished("g", topic).await;
        }
        let counts = worker.stop().await.counts;
        assert_eq!((counts.succeeded, counts.tiered, counts.dead_lettered, counts.attempts), (1, 3, 1, 9));
        let first = &cluster.records(FIRST)[0];
        assert_eq!(first.header("waterwheel-retry-tier"), Some(&b"5s"[..]));
        assert!(first.timestamp_millis().is_some_and(|ms| ms > 1_000), "it is of when it came there");
    });
}

#[test]
fn a_key_goes_on_while_a_record_of_it_waits_in_a_tier_and_commits_pass_it() {
    run(async {
        let (cluster, log) = (cluster(1), Log::default());
        for _ in 0..3 {
            cluster.produce("t", "bad", "v").await;
        }
        let worker = start(tiered(&cluster.client(), 6).handler(log.fails_below(3)).build().unwrap());
        cluster.assert_committed("g", "t", 0, 3).await;
        assert_eq!(worker.handle.counts().tiered, 3);
        let held = || async { worker.handle.snapshot().await.unwrap().partitions };
        let of_tier = held().await.into_iter().find(|p| &*p.partition.topic == FIRST && p.held.is_some()).unwrap();
        assert_eq!(of_tier.held, Some(HoldReason::Delayed));
        cluster.assert_finished("g", FIRST).await;
        let counts = worker.stop().await.counts;
        assert_eq!((counts.succeeded, counts.attempts, counts.dead_lettered), (3, 9, 0));
    });
}

/// A group that begins at the end of its topics would never see what came to a tier before it first read that.
#[test]
fn a_tier_begins_at_its_first_record_whatever_the_start_policy_says() {
    run(async {
        let (cluster, log) = (cluster(1), Log::default());
        cluster.produce("t", "old", "v").await;
        cluster.produce(FIRST, "left", "v").await;
        let builder = tiered(&cluster.client(), 6).start(Start::Latest);
        let worker = start(builder.handler(log.fails_below(0)).build().unwrap());
        cluster.assert_finished("g", FIRST).await;
        assert_eq!(log.all().iter().map(|seen| seen.topic.as_str()).collect::<Vec<_>>(), [FIRST]);
        worker.stop().await;
    });
}

#[test]
fn a_forged_header_gains_no_attempts_and_misleads_no_commit() {
    run(async {
        let (cluster, log) = (cluster(1), Log::default());
        let forged = |attempts: &'static str, place: &'static str, timestamp: &'static str| {
            ProducerRecord::to(LAST)
                .key("bad")
                .value("v")
                .header("waterwheel-original-topic", "another")
                .header("waterwheel-original-partition", place)
                .header("waterwheel-original-offset", place)
                .header("waterwheel-original-timestamp", timestamp)
                .header("waterwheel-attempts", attempts)
                .header("waterwheel-first-failed-at", timestamp)
        };
        for (attempts, place) in
            [("-5", "-1"), ("0", "9223372036854775807"), ("1000000000", "x"), ("\u{fffd}", ""), ("4", "0")]
        {
            cluster.produce_record(forged(attempts, place, "253370764800000")).await;
        }
        cluster.produce_record(ProducerRecord::to(LAST).key("bad").value("v")).await;
        let worker = start(tiered(&cluster.client(), 8).handler(log.fails_below(99)).build().unwrap());
        let letters = cluster.assert_dead_lettered("failed", 6).await;
        cluster.assert_finished("g", LAST).await;
        for letter in &letters {
            let read = origin(letter);
            assert_eq!((read.attempts, read.error_class), (8, FailureClass::Handler));
            assert!(read.partition >= 0 && read.offset >= 0, "{read:?}");
            assert!(read.topic == "t" || read.topic == LAST, "{read:?}");
            assert!(letter.timestamp_millis().is_some_and(|ms| ms < 253_370_764_800_000));
        }
        // Two visits lie behind one in the last tier, so there are two at most, of two attempts.
        let mut made: Vec<usize> = log.attempts().values().map(Vec::len).collect();
        made.sort_unstable();
        assert!(made.iter().sum::<usize>() <= 5 * 4 + 1, "{:?}", log.attempts());
        assert!(log.all().iter().all(|seen| seen.topic == LAST && (5..=8).contains(&seen.attempt)));
        assert_eq!((cluster.committed("g", "t", 0).map_or(0, |c| c.offset), cluster.stray_commits("g")), (0, vec![]));
        worker.stop().await;
    });
}

/// Nothing is committed over a record whose tier cannot take it, and it is there once.
#[test]
fn a_tier_that_is_down_holds_the_partition_and_loses_nothing() {
    run(async {
        let (cluster, log) = (cluster(1), Log::default());
        cluster.produce("t", "good", "v").await;
        cluster.produce("t", "bad", "v").await;
        fill(&cluster, 3).await;
        cluster.fail(Request::Produce, -192, Lasts::For(seconds(200)));
        let worker = start(tiered(&cluster.client(), 6).handler(log.fails_below(3)).build().unwrap());
        eventually("the letter to be refused", || worker.handle.counts().dead_letter_failures > 0).await;
        cluster.advance(seconds(100)).await;
        assert!(cluster.committed("g", "t", 0).is_some_and(|committed| committed.offset == 1));
        cluster.assert_finished("g", "t").await;
        cluster.assert_finished("g", FIRST).await;
        assert_eq!(cluster.records(FIRST).len(), 1);
        let counts = worker.stop().await.counts;
        assert_eq!((counts.succeeded, counts.tiered), (5, 1));
    });
}

#[test]
fn a_stop_while_records_wait_in_a_tier_ends_at_once_and_they_go_on_counting() {
    run(async {
        let (cluster, log) = (cluster(2), Log::default());
        for _ in 0..20 {
            cluster.produce("t", "bad", "v").await;
        }
        let build = || tiered(&cluster.client(), 8).handler(log.fails_below(7)).build().unwrap();
        let first = start(build());
        eventually("all to be in the last tier", || first.handle.counts().tiered == 40).await;
        let stopped = Instant::now();
        assert!(first.stop().await.is_clean());
        assert!(stopped.elapsed() < seconds(1), "{:?}", stopped.elapsed());
        let second = start(build());
        cluster.assert_finished("g", LAST).await;
        second.stop().await;
        let attempts = log.attempts();
        assert_eq!(attempts.len(), 20);
        assert!(attempts.values().all(|made| *made == [1, 2, 3, 4, 5, 6, 7]), "{attempts:?}");
        assert_eq!(cluster.records("failed").len(), 0);
    });
}

#[test]
fn a_hand_over_amid_tiers_repeats_no_attempt() {
    run(async {
        let (cluster, log) = (cluster(4), Log::default());
        let build = || tiered(&cluster.client(), 6).handler(log.fails_below(5)).build().unwrap();
        for i in 0..40 {
            cluster.produce_record(ProducerRecord::to("t").partition(i % 4).key("bad").value("v")).await;
        }
        let one = start(build());
        eventually("some to be in a tier", || one.handle.counts().tiered > 10).await;
        let two = start(build());
        cluster.advance(seconds(4)).await;
        let three = start(build());
        for topic in ["t", FIRST, LAST] {
            cluster.assert_finished("g", topic).await;
        }
        let attempts = log.attempts();
        assert_eq!(attempts.len(), 40);
        assert!(attempts.values().all(|made| *made == [1, 2, 3, 4, 5]), "{attempts:?}");
        assert_eq!(cluster.stray_commits("g"), []);
        for worker in [one, two, three] {
            worker.stop().await;
        }
    });
}

/// What a death repeats is what was under way since the last commit: an attempt is made no more often than once for each
/// worker that died, and once.
#[test]
fn deaths_amid_tiers_lose_nothing() {
    run(async {
        for seed in 0..20 {
            let (cluster, log, mut dice) = (cluster(2), Log::default(), Dice(seed));
            for i in 0..30 {
                let key = if i % 3 == 0 { "bad".to_owned() } else { format!("k{i}") };
                cluster.produce("t", key, "v").await;
            }
            for _ in 0..3 {
                let host = cluster.host();
                let worker = start(tiered(&host.client(), 6).handler(log.fails_below(6)).build().unwrap());
                cluster.advance(Duration::from_millis(dice.below(12_000))).await;
                worker.kill(host).await;
            }
            let last = start(tiered(&cluster.client(), 6).handler(log.fails_below(6)).build().unwrap());
            for topic in ["t", FIRST, LAST] {
                cluster.assert_finished("g", topic).await;
            }
            last.stop().await;
            let attempts = log.attempts();
            assert_eq!(attempts.len(), 30, "seed {seed}");
            for (place, made) in &attempts {
                let most = if place.2 % 3 == 0 { 6 } else { 1 };
                let highest = made.iter().max().copied();
                assert!(highest.is_some_and(|highest| highest <= 6), "seed {seed}: {place:?} {made:?}");
                for attempt in 1..=most {
                    let times = made.iter().filter(|made| **made == attempt).count();
                    assert!(times <= 4 * 4, "seed {seed}: {place:?} {made:?}");
                }
            }
        }
    });
}

/// The letter, the outputs and the offsets are one transaction.
#[test]
fn a_transform_that_works_exactly_once_has_tiers_too() {
    run(async {
        let (cluster, log) = (cluster(2).topic("out", 1), Log::default());
        for i in 0..40 {
            let key = if i % 4 == 0 { "bad".to_owned() } else { format!("k{i}") };
            cluster.produce("t", key, "v").await;
        }
        let tiers = RetryTiers::new([seconds(5), seconds(60)]).attempts(6).allow_overtaking();
        let builder = cluster.client().worker("g").topic("t").shards(2).exactly_once(ExactlyOnce::new());
        let builder = builder.retry(Retry::fixed(Duration::from_millis(10)).attempts(2)).retry_tiers(tiers);
        let noted = log.clone();
        let transform = move |message: Message<Raw>| {
            noted.note(&message);
            let fails = message.key() == Some(b"bad") && message.attempt() < 4;
            std::future::ready(if fails { Err(Failure::retry("not yet")) } else { Ok(output(&message)) })
        };
        let worker = start_transform(builder.transform(transform).build().unwrap());
        for topic in ["t", FIRST] {
            cluster.assert_finished("g", topic).await;
        }
        let counts = worker.stop().await.counts;
        let attempts = log.attempts();
        let bad: Vec<_> = attempts.values().filter(|made| made.len() > 1).collect();
        assert_eq!((bad.len(), counts.tiered, counts.succeeded, cluster.records("out").len()), (10, 10, 40, 40));
        assert!(bad.iter().all(|made| **made == [1, 2, 3, 4]), "{attempts:?}");
    });
}

#[test]
fn a_record_that_fails_its_batches_goes_to_a_tier_alone() {
    run(async {
        let (cluster, log) = (cluster(1), Log::default());
        cluster.produce("t", "bad", "v").await;
        fill(&cluster, 5).await;
        let noted = log.clone();
        let handler = move |batch: Batch<Raw>| {
            let mut outcomes = Outcomes::ok();
            for (at, message) in batch.iter().enumerate() {
                noted.note(message);
                if message.key() == Some(b"bad") && message.attempt() < 3 {
                    outcomes.fail(at, Failure::retry("not yet"));
                }
            }
            std::future::ready(outcomes)
        };
        let ready = tiered(&cluster.client(), 6).batch_handler(handler, 10, Duration::from_millis(50));
        let worker = ready.build().unwrap();
        let handle = worker.handle();
        #[expect(clippy::disallowed_methods, reason = "batch workers have a type of their own")]
        let task = tokio::spawn(worker.run());
        for topic in ["t", FIRST] {
            cluster.assert_finished("g", topic).await;
        }
        handle.close();
        let counts = task.await.unwrap().unwrap().counts;
        assert_eq!((counts.succeeded, counts.tiered), (6, 1));
        assert_eq!(log.attempts()[&("t".to_owned(), 0, 0)], [1, 2, 3]);
    });
}

#[test]
fn tiers_that_break_another_promise_are_refused() {
    let client = Cluster::new().client();
    let refused = |builder: WorkerBuilder| {
        let ready = builder.handler(Log::default().fails_below(0)).build();
        ready.err().map_or_else(|| "built".to_owned(), |error| error.to_string())
    };
    let tiers = || RetryTiers::new([seconds(5)]);
    for order in [Order::Key, Order::Partition] {
        assert!(refused(member(&client).order(order).retry_tiers(tiers())).contains("overtake"));
    }
    assert_eq!(refused(member(&client).order(Order::None).retry_tiers(tiers())), "built");
    let follows = tiered(&client, 6).after_dead_letter(AfterDeadLetter::Follow);
    assert!(refused(follows).contains("keeps an order behind dead letters"));
    assert!(refused(tiered(&client, 2)).contains("first visit has 2 attempts"));
    let letters = tiered(&client, 6).dead_letter(DeadLetter::topic("{topic}.{group}.retry.1m"));
    assert!(refused(letters).contains("would be the topic of two things"));
    assert!(refused(tiered(&client, 6).topic("^x.*$")).contains("of a pattern"));
}
