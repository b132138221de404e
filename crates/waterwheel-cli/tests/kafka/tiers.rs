//! Retry tiers on a real Kafka: under deaths, with a topic that is missing, exactly once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use waterwheel::{Client, DeadLetter, ExactlyOnce, Failure, Message, ProducerRecord, Retry, RetryTiers, Utf8};

use crate::support::{Bytes, Inside, Kafka, PATIENCE, Process, topic_name, wait_until};

/// Notes when each attempt began, whose it was, and where. A record whose number is a multiple of three fails four times, one
/// whose number is a multiple of thirty for ever.
const HANDLER: &str = r#"
import json, sys, time
log = open(sys.argv[1], "a")
for line in sys.stdin:
    m = json.loads(line)
    if "hello" in m:
        print(json.dumps({"ready": 1, "concurrency": 16}), flush=True)
    elif "shutdown" in m:
        break
    else:
        n, attempt = m["value"], m["attempt"]
        log.write("%d %d %d %s\n" % (time.time() * 1000, n, attempt, m["topic"])); log.flush()
        fails = n % 30 == 0 or n % 3 == 0 and attempt < 5
        print(json.dumps({"id": m["id"], "status": "retry" if fails else "ok"}), flush=True)
"#;

/// How many attempts a record has, by its number.
fn attempts_at(record: usize) -> u32 {
    match record {
        n if n.is_multiple_of(30) => 8,
        n if n.is_multiple_of(3) => 5,
        _ => 1,
    }
}

/// An attempt: when, at which record, which one, in which topic.
struct Attempt {
    ms: u128,
    record: usize,
    attempt: u32,
    topic: String,
}

struct Tiered {
    dir: tempfile::TempDir,
    topic: String,
    group: String,
}

impl Tiered {
    fn new(purpose: &str) -> Self {
        let topic = topic_name(purpose);
        Self { dir: tempfile::tempdir().expect("a temporary directory"), group: format!("g-{topic}"), topic }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tiers(&self) -> [String; 2] {
        ["1s", "3s"].map(|delay| format!("{}.{}.retry.{delay}", self.topic, self.group))
    }

    /// Two attempts a visit, eight in all.
    fn start(&self, kafka: &Kafka) -> Process {
        let (script, log) = (self.path("handler.py"), self.path("log"));
        std::fs::write(&script, HANDLER).expect("the temporary directory can be written to");
        let (bootstrap, topic, group) = (kafka.bootstrap(), &self.topic, &self.group);
        let text = format!(
            "[kafka]\n\"bootstrap.servers\" = \"{bootstrap}\"\n\"session.timeout.ms\" = 6000\n\"heartbeat.interval.ms\" = 1000\n\
             \"topic.metadata.refresh.interval.ms\" = 1000\n\"topic.metadata.propagation.max.ms\" = 1000\n\
             [[worker]]\ntopics = [\"{topic}\"]\ngroup = \"{group}\"\nvalue = \"json\"\ncommit_every = \"100ms\"\n\
             [worker.retry]\nattempts = 2\nbackoff = {{ initial = \"50ms\", jitter = 0 }}\n\
             [worker.retry_tiers]\ndelays = [\"1s\", \"3s\"]\nattempts = 8\nallow_overtaking = true\n\
             [worker.dead_letter]\ntopic = \"{{topic}}.dlt\"\n\
             [worker.handler]\nkind = \"exec\"\nprocesses = 2\ncommand = [\"python3\", {script:?}, {log:?}]\n"
        );
        let file = self.path("worker.toml");
        std::fs::write(&file, text).expect("the temporary directory can be written to");
        Process::waterwheel(&["run", file.to_str().expect("a UTF-8 path")])
    }

    /// Whether all of that topic is committed.
    fn is_finished(&self, kafka: &Kafka, topic: &str, partitions: i32) -> bool {
        kafka.has_committed(&self.group, topic, &kafka.ends(topic, partitions))
    }

    fn attempts(&self) -> Vec<Attempt> {
        let text = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| {
                let mut words = line.split(' ');
                let mut word = || words.next().expect("the handler writes four words");
                let number = |word: &str| word.parse::<u128>().expect("a number");
                let (ms, record, attempt) = (number(word()), number(word()) as usize, number(word()) as u32);
                Attempt { ms, record, attempt, topic: word().to_owned() }
            })
            .collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "handlers in other processes have a wall clock's time")]
fn wall_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis()
}

/// The worker's process is killed three times while records are in all tiers.
#[test]
fn no_kill_amid_retry_tiers_loses_a_record_or_repeats_what_was_committed() {
    let Some(kafka) = Kafka::shared() else { return };
    const RECORDS: usize = 600;
    let tiered = Tiered::new("tiers");
    let letters = format!("{}.dlt", tiered.topic);
    kafka.create_topic(&tiered.topic, 3, &[]);
    kafka.create_topic(&letters, 1, &[]);
    let [first, last] = tiered.tiers();
    kafka.create_topic(&first, 2, &[]);
    kafka.create_topic(&last, 2, &[("message.timestamp.type", "LogAppendTime")]);
    let records = |range: std::ops::Range<usize>| range.map(|n| (Some(format!("k{}", n % 40)), n.to_string()));

    let mut kills = Vec::new();
    for round in 0..3 {
        kafka.produce(&tiered.topic, records(round * RECORDS / 4..(round + 1) * RECORDS / 4));
        let (before, mut process) = (tiered.attempts().len(), tiered.start(kafka));
        let reached = |topic: &str| tiered.attempts()[before..].iter().filter(|a| a.topic == topic).count();
        wait_until(PATIENCE, "records to be in both tiers", || reached(&first) > 20 && reached(&last) > 0);
        process.signal(Signal::KILL);
        kills.push(wall_ms());
        process.wait(PATIENCE);
    }
    kafka.produce(&tiered.topic, records(3 * RECORDS / 4..RECORDS));
    let mut process = tiered.start(kafka);
    let topics = [(&tiered.topic, 3), (&first, 2), (&last, 2)];
    // A record that leaves one of them may come to the next: all were finished twice in a row, longer apart than a delay.
    let mut since = None;
    wait_until(PATIENCE, "all topics to be finished", || {
        let all = topics.iter().all(|(topic, partitions)| tiered.is_finished(kafka, topic, *partitions));
        since = all.then(|| since.unwrap_or_else(wall_ms));
        since.is_some_and(|since| wall_ms() - since > 4_000)
    });
    process.signal(Signal::TERM);
    assert_eq!(process.wait(PATIENCE).code(), Some(0), "{}", process.stderr());

    let mut made: BTreeMap<usize, BTreeMap<u32, Vec<u128>>> = BTreeMap::new();
    for attempt in tiered.attempts() {
        made.entry(attempt.record).or_default().entry(attempt.attempt).or_default().push(attempt.ms);
    }
    // What was begun, finished or sent on in the second before a kill may not have been committed.
    let near_a_kill = |ms: &u128| kills.iter().any(|kill| (kill - 1_000..kill + 1_000).contains(ms));
    let mut repeated = 0;
    for record in 0..RECORDS {
        let attempts = made.get(&record).unwrap_or_else(|| panic!("record {record} was never tried"));
        let numbers: Vec<u32> = attempts.keys().copied().collect();
        assert_eq!(numbers, (1..=attempts_at(record)).collect::<Vec<u32>>(), "record {record}");
        // The copies of a record go on side by side: what counts is where they part.
        let Some((first, times)) = attempts.iter().find(|(_, times)| times.len() > 1) else { continue };
        repeated += 1;
        let before = attempts.get(&(first - 1)).into_iter().flatten();
        let excused = times.iter().chain(before).any(near_a_kill);
        assert!(
            excused,
            "attempt {first} at record {record} is repeated, and no kill was near: {attempts:?}, {kills:?}"
        );
    }
    println!("{repeated} of {RECORDS} records had an attempt repeated, over three kills");

    let mut dead: Vec<usize> = Vec::new();
    for letter in kafka.read_all(&letters, 1) {
        let header = |name: &str| {
            let mut of_name = letter.headers.iter().filter(|(header, _)| header == name);
            let value = of_name.next().and_then(|(_, value)| value.clone()).unwrap_or_default();
            assert!(of_name.next().is_none(), "{name} is there once");
            String::from_utf8(value).expect("text")
        };
        assert_eq!((header("waterwheel-original-topic"), &*header("waterwheel-attempts")), (tiered.topic.clone(), "8"));
        assert!(
            header("waterwheel-original-partition").parse::<i32>().is_ok_and(|partition| (0..3).contains(&partition))
        );
        dead.push(String::from_utf8_lossy(&letter.value.unwrap_or_default()).parse().expect("a number"));
    }
    dead.sort_unstable();
    dead.dedup();
    assert_eq!(dead, (0..RECORDS).step_by(30).collect::<Vec<_>>());
}

/// Nothing is committed over records whose tier is not there, and nothing else waits for them. Once it is made, it is
/// written and read without a word to the worker.
#[test]
fn a_tier_that_is_missing_holds_partitions_until_it_is_made() {
    let Some(kafka) = Kafka::particular() else { return };
    let tiered = Tiered::new("tiers-missing");
    let [first, last] = tiered.tiers();
    let letters = format!("{}.dlt", tiered.topic);
    for (topic, partitions) in [(&tiered.topic, 2), (&last, 1), (&letters, 1)] {
        kafka.create_topic(topic, partitions, &[]);
    }
    // Those in the second partition never fail; of the first, the third one does.
    let at = |partition: i32, n: usize| Bytes {
        partition,
        key: Some(format!("k{n}").into_bytes()),
        value: Some(n.to_string().into_bytes()),
        ..Bytes::default()
    };
    let some = (1..=40).map(|n| at(0, n)).chain((1..=40).map(|n| at(1, 1_000 + 3 * n)));
    kafka.produce_bytes(&tiered.topic, &some.collect::<Vec<_>>());

    let mut process = tiered.start(kafka);
    let committed = || -> Vec<_> {
        kafka.committed(&tiered.group, &tiered.topic, 2).iter().map(|committed| committed.offset).collect()
    };
    wait_until(PATIENCE, "all that can be committed to be", || committed() == [Some(2), Some(40)]);
    let made = |n: usize| -> Vec<u32> {
        tiered.attempts().iter().filter(|attempt| attempt.record == n).map(|attempt| attempt.attempt).collect()
    };
    wait_until(PATIENCE, "the others of the partition to run", || (1..=40).all(|n| !made(n).is_empty()));
    wait_until(PATIENCE, "the first visits to be over", || (3..=40).step_by(3).all(|n| made(n) == [1, 2]));
    assert_eq!(committed(), [Some(2), Some(40)], "nothing is committed past a record that has no tier to go to");

    kafka.create_topic(&first, 1, &[]);
    let dead = || kafka.ends(&letters, 1)[0];
    wait_until(PATIENCE, "the record that always fails to be dead-lettered", || dead() == 1);
    let topics = [(&tiered.topic, 2), (&first, 1), (&last, 1)];
    wait_until(PATIENCE, "all topics to be finished", || {
        topics.iter().all(|(topic, partitions)| tiered.is_finished(kafka, topic, *partitions))
    });
    process.signal(Signal::TERM);
    assert_eq!(process.wait(PATIENCE).code(), Some(0), "{}", process.stderr());
    for n in 1..=40 {
        assert_eq!(made(n), (1..=attempts_at(n)).collect::<Vec<_>>(), "record {n}");
    }
}

/// What goes to a tier, what comes of it and the dead letter are each part of a transaction: none of them is there twice,
/// however often the worker dies.
#[test]
fn a_worker_that_works_exactly_once_leaves_one_copy_in_each_tier_whenever_it_dies() {
    let Some(kafka) = Kafka::shared() else { return };
    const RECORDS: usize = 300;
    let tiered = Tiered::new("tiers-exact");
    let [first, last] = tiered.tiers();
    let (output, letters) = (format!("{}.out", tiered.topic), format!("{}.dlt", tiered.topic));
    for (topic, partitions) in [(&tiered.topic, 3), (&first, 2), (&last, 2), (&output, 2), (&letters, 1)] {
        kafka.create_topic(topic, partitions, &[]);
    }
    kafka.produce(&tiered.topic, (0..RECORDS).map(|n| (Some(format!("k{}", n % 40)), n.to_string())));

    let start = || {
        let client = Client::builder().brokers(kafka.bootstrap()).property("session.timeout.ms", "6000").build();
        let client = client.expect("the properties are right");
        let tiers = RetryTiers::new([1, 3].map(Duration::from_secs)).attempts(6).allow_overtaking();
        let builder = client
            .worker(&*tiered.group)
            .topic(&*tiered.topic)
            .retry(Retry::fixed(Duration::from_millis(20)).attempts(2))
            .retry_tiers(tiers)
            .dead_letter(DeadLetter::topic("{topic}.dlt"))
            .exactly_once(ExactlyOnce::new().every(Duration::from_millis(50)).transactional_id(&*tiered.topic));
        let to = output.clone();
        let transform = move |message: Message<Utf8>| {
            let n: usize = message.body.0.parse().expect("a number");
            let fails = n.is_multiple_of(30) || n.is_multiple_of(3) && message.attempt() < 4;
            let made = ProducerRecord::to(&*to).key(message.key().unwrap_or_default()).value(&message.body.0);
            std::future::ready(if fails { Err(Failure::retry("not yet")) } else { Ok(made) })
        };
        let worker = builder.transform(transform).build().expect("a worker");
        Inside::of(0, worker.handle(), worker.run())
    };
    let there = |topic: &str, partitions| -> Vec<usize> {
        let number = |record: Bytes| String::from_utf8_lossy(&record.value.unwrap_or_default()).parse();
        let mut all: Vec<usize> =
            kafka.read_all(topic, partitions).into_iter().map(|record| number(record).expect("a number")).collect();
        all.sort_unstable();
        all
    };
    for deaths in 1..=3 {
        let worker = start();
        wait_until(PATIENCE, "records to be in tiers, and some to be out again", || {
            there(&first, 2).len() >= 30 * deaths && (deaths == 1 || !there(&last, 2).is_empty())
        });
        worker.crash();
    }
    let worker = start();
    wait_until(PATIENCE, "all to be finished", || {
        there(&output, 2).len() >= RECORDS - 10 && there(&letters, 1).len() >= 10
    });
    worker.stop();

    let of = |is: fn(usize) -> bool| (0..RECORDS).filter(|n| is(*n)).collect::<Vec<_>>();
    assert_eq!(there(&output, 2), of(|n| !n.is_multiple_of(30)));
    assert_eq!(there(&letters, 1), of(|n| n.is_multiple_of(30)));
    assert_eq!(there(&first, 2), of(|n| n.is_multiple_of(3)));
    assert_eq!(there(&last, 2), of(|n| n.is_multiple_of(30)), "four attempts are behind those that come to the last");
}
