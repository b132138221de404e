//! Retry tiers on a real Kafka, under deaths.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::support::{Kafka, Process, topic_name, wait_until};

const PATIENCE: Duration = Duration::from_secs(120);

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
    let topic = topic_name("tiers");
    let tiered = Tiered { dir: tempfile::tempdir().expect("a temporary directory"), group: "g".to_owned(), topic };
    let tiered = Tiered { group: format!("g-{}", tiered.topic), ..tiered };
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
    let finished = |topic: &str, partitions: i32| {
        let committed = kafka.committed(&tiered.group, topic, partitions);
        let ends = kafka.ends(topic, partitions);
        ends.iter().zip(committed).all(|(end, committed)| *end == 0 || committed.offset == Some(*end))
    };
    let topics = [(&tiered.topic, 3), (&first, 2), (&last, 2)];
    // A record that leaves one of them may come to the next: all were finished twice in a row, longer apart than a delay.
    let mut since = None;
    wait_until(PATIENCE, "all topics to be finished", || {
        let all = topics.iter().all(|(topic, partitions)| finished(topic, *partitions));
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
        let most = if record % 30 == 0 {
            8
        } else if record % 3 == 0 {
            5
        } else {
            1
        };
        let numbers: Vec<u32> = attempts.keys().copied().collect();
        assert_eq!(numbers, (1..=most).collect::<Vec<u32>>(), "record {record}");
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
