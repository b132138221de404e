//! Members that stand still and go on: what they may do then, and how they are told from slow ones.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Entry, Kafka, Member, OPS, PATIENCE, Probed, Process, Protocol, Trial, topic_name, wait_until};

const CONCURRENCY: usize = 64;
const LOAD: [&str; 8] = ["--concurrency", "64", "--work-us", "10000", "--tail-us", "50000", "--tail-pct", "10"];

/// A member that stands still.
struct Frozen {
    number: usize,
    /// The partitions that it had.
    held: BTreeSet<i32>,
    /// What it had ended, of which the group's commits may know nothing.
    since: usize,
}

impl Frozen {
    fn stop(trial: &mut Trial<'_>, number: usize, process: &Process) -> Self {
        process.signal(Signal::STOP);
        let partitions = trial.partitions as usize;
        let journal = trial.journal(number);
        Self { number, held: journal.held.clone(), since: journal.ended_since_commit(partitions) }
    }

    /// Lets it go on, after another member has its partitions: it learns that they are gone, and until then nothing that it
    /// says or does counts.
    #[track_caller]
    fn thaw(&self, trial: &mut Trial<'_>, process: &Process) {
        assert!(!trial.is_done(), "void: everything was finished before the frozen member went on");
        trial.injected(1);
        let stood_at = trial.journal(self.number).entries.len();
        let mut committed = trial.kafka.committed(&trial.group, &trial.topic, trial.partitions);
        process.signal(Signal::CONT);
        wait_until(PATIENCE, "the frozen member to learn that its partitions are lost", || {
            let now = trial.kafka.committed(&trial.group, &trial.topic, trial.partitions);
            for (partition, (now, then)) in now.iter().zip(&committed).enumerate() {
                assert!(now.offset >= then.offset, "partition {partition}: committed {then:?}, and after it {now:?}");
            }
            committed = now;
            let entries = &trial.journal(self.number).entries[stood_at..];
            let left = |p| entries.iter().any(|e| matches!(e, Entry::Lost(q) | Entry::Revoked(q) if *q == p));
            self.held.iter().all(|p| left(*p))
        });
        let entries = &trial.journal(self.number).entries[stood_at..];
        let (mut gone, mut zombie_starts, mut returned) = (BTreeSet::new(), 0, BTreeSet::new());
        for entry in entries {
            match entry {
                Entry::Lost(p) => drop(gone.insert(*p)),
                Entry::Revoked(p) => returned.extend((!gone.contains(p)).then_some(*p)),
                Entry::Start(p, _) if !gone.contains(p) => zombie_starts += 1,
                Entry::Assigned(p, _) => drop(gone.insert(*p)),
                _ => {}
            }
        }
        assert_eq!(zombie_starts, 0, "starts after the thaw, in partitions that were another's (seed {})", trial.seed);
        assert!(returned.is_empty(), "partitions {returned:?} were another's and were given back as if in order");
    }
}

/// One of two members is frozen until the other has its partitions, and then goes on.
fn a_frozen_member(name: &'static str, protocol: Protocol) {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, name, 8);
    trial.produce(100_000, 5_000);
    let mut load = LOAD.to_vec();
    if protocol == Protocol::Consumer {
        // The broker alone knows the session time-out, 6 s here; the worker takes Kafka's default for granted.
        load.extend(["--lease-ms", "5000"]);
    }
    let properties = protocol.properties();
    let member = trial.member(&properties, &load);
    let other = trial.member(&properties, &load);
    trial.await_settled(&[&member, &other]);
    trial.await_starts(member.number, 5_000);

    let frozen = Frozen::stop(&mut trial, member.number, &member.process);
    wait_until(PATIENCE, "the other member to hold everything", || trial.journal(other.number).held.len() == 8);
    trial.await_starts(other.number, 500);
    frozen.thaw(&mut trial, &member.process);

    trial.await_done(PATIENCE);
    trial.end(member);
    trial.end(other);
    trial.figure("finished_since_commit", frozen.since);
    trial.assert_all_committed();
    trial.judge((CONCURRENCY + frozen.since) as u64);
}

#[test]
fn a_member_that_was_frozen_starts_and_commits_nothing_when_all_is_revoked() {
    a_frozen_member("frozen-eager", Protocol::Eager);
}

#[test]
fn a_member_that_was_frozen_starts_and_commits_nothing_when_partitions_move_by_and_by() {
    a_frozen_member("frozen-cooperative", Protocol::Cooperative);
}

#[test]
fn a_member_that_was_frozen_starts_and_commits_nothing_in_the_consumer_protocol() {
    a_frozen_member("frozen-consumer", Protocol::Consumer);
}

/// A handler whose records take 400 ms each, and that of the key `stuck` for ever.
const HANDLER: &str = r#"
import json, sys, threading
lock = threading.Lock()
def say(answer):
    with lock:
        print(json.dumps(answer), flush=True)
for line in sys.stdin:
    m = json.loads(line)
    if "hello" in m:
        say({"ready": 1, "concurrency": 64})
    elif "id" in m and m["key"] != "stuck":
        threading.Timer(0.4, say, [{"id": m["id"], "status": "ok"}]).start()
"#;

const STALL_AFTER: Duration = Duration::from_secs(4);

/// A worker file of one worker with that handler.
fn file(kafka: &Kafka, topic: &str, group: &str, concurrency: usize) -> String {
    let mut file = format!("[kafka]\n\"bootstrap.servers\" = {:?}\n", kafka.bootstrap());
    for (name, value) in Protocol::Cooperative.properties() {
        file.push_str(&format!("{name} = {value:?}\n"));
    }
    file + &format!(
        "[[worker]]\nname = \"w\"\ntopics = [{topic:?}]\ngroup = {group:?}\nconcurrency = {concurrency}\n\
         stall_after = \"{}s\"\n[worker.handler]\nkind = \"exec\"\nprocesses = 1\ntimeout = \"1h\"\n\
         command = [\"python3\", \"-c\", {HANDLER:?}]\n",
        STALL_AFTER.as_secs()
    )
}

/// Live and ready, with attempts that run, none of them stuck.
#[track_caller]
fn assert_slow(run: &Probed) {
    assert_eq!((run.get("/livez"), run.status("/readyz")), ((200, "ok\n".to_owned()), 200));
    let oldest = run.metric("waterwheel_oldest_attempt_seconds").unwrap_or(0.0);
    assert!(oldest < STALL_AFTER.as_secs_f64(), "an attempt runs for {oldest} s");
}

/// The table of `docs/failures.md`, "Stuck records", by what a probe sees: of two members of a group one freezes and the
/// other is slow; a third worker, of a group of its own, has an attempt that never ends.
#[test]
fn a_frozen_process_is_told_from_a_slow_one_and_from_one_with_a_stuck_record() {
    const AT_ONCE: usize = 16;
    let Some(kafka) = Kafka::shared() else { return };
    let stuck_topic = topic_name("told-apart-stuck");
    kafka.create_topic(&stuck_topic, 1, &[]);
    kafka.produce(&stuck_topic, [(Some("stuck".to_owned()), "{}".to_owned())]);
    let stuck = Probed::run(&file(kafka, &stuck_topic, &stuck_topic, AT_ONCE), &OPS);

    let mut trial = Trial::new(kafka, "told-apart", 4);
    trial.produce(800, 500);
    let mut join = || {
        let (number, journal) = trial.new_journal();
        let file = file(kafka, &trial.topic, &trial.group, AT_ONCE);
        (number, Probed::run(&file, &[&OPS[..], &["--journal", &journal.to_string_lossy()]].concat()))
    };
    let ((victim, frozen), (other, slow)) = (join(), join());
    wait_until(PATIENCE, "both to share the partitions", || {
        trial.look();
        [victim, other].iter().all(|number| trial.journals()[*number].held.len() == 2)
    });
    trial.await_starts(victim, AT_ONCE);
    assert_slow(&frozen);

    let ice = Frozen::stop(&mut trial, victim, &frozen.process);
    assert!(frozen.is_silent(Duration::from_secs(1)), "a frozen process answers");
    wait_until(PATIENCE, "the slow one to hold everything", || {
        assert_slow(&slow);
        trial.journal(other).held.len() == 4
    });
    trial.await_starts(other, AT_ONCE);
    wait_until(PATIENCE, "a slow attempt to be seen", || {
        assert_slow(&slow);
        slow.metric("waterwheel_oldest_attempt_seconds").is_some_and(|oldest| oldest > 0.0)
    });
    // All three at once.
    assert!(frozen.is_silent(Duration::from_secs(1)), "a frozen process answers");
    wait_until(PATIENCE, "the stuck one to be told as not live", || stuck.status("/livez") == 503);
    assert_eq!(stuck.status("/readyz"), 200);
    let health: Value = serde_json::from_str(&stuck.get("/healthz").1).expect("JSON");
    let checks = health["workers"][0]["checks"].as_array().expect("checks");
    let critical: Vec<_> = checks.iter().filter(|check| check["status"] == "critical").collect();
    assert!(matches!(critical[..], [check] if check["check"] == "handlers"), "{health:#}");
    wait_until(PATIENCE, "the stuck attempt's age", || {
        stuck.metric("waterwheel_oldest_attempt_seconds").is_some_and(|oldest| oldest >= STALL_AFTER.as_secs_f64())
    });

    ice.thaw(&mut trial, &frozen.process);
    wait_until(PATIENCE, "the thawed one to be ready", || frozen.status("/readyz") == 200);
    assert_eq!(frozen.status("/livez"), 200);
    trial.await_done(PATIENCE);
    for (number, run) in [(victim, frozen), (other, slow)] {
        trial.end(Member { number, process: run.process });
    }
    trial.figure("finished_since_commit", ice.since);
    trial.assert_all_committed();
    trial.judge((AT_ONCE + ice.since) as u64);
}
