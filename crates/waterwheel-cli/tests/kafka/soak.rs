//! Everything at once: members and brokers that die, stand still, come and go, at random, for as long as one asks.
//!
//! `./run soak` runs it; the plan is drawn from the seed alone. Nothing of it is in the ordinary suite.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::json;

use crate::support::{Cluster, Kafka, Member, PATIENCE, Produced, Protocol, Size, Trial, wait_until};

/// Records a second, for each second of the soak.
const RATE: usize = 1_000;
const KEYS: u64 = 2_000;
const CONCURRENCY: usize = 64;
const PARTITIONS: i32 = 12;
const MOST_PARTITIONS: i32 = 18;
const MOST_MEMBERS: usize = 5;
/// After that time without a heartbeat a member is taken for dead, by setting.
const SESSION: Duration = Duration::from_secs(10);
/// From the end of faults to the last record finished. It should be a minute; a machine that has other work takes longer.
const QUIESCE: Duration = Duration::from_secs(180);

/// What is done to the group, the brokers and the topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    /// Longer than the session, or shorter.
    Freeze(Duration),
    Join,
    Leave,
    BrokerKilled(usize),
    BrokerStill(usize),
    /// The dead-letter topic is deleted, and made again later.
    NoDeadLetters,
    MorePartitions,
}

impl Fault {
    fn draw(trial: &mut Trial<'_>) -> Self {
        let broker = 1 + trial.random(3) as usize;
        match trial.random(10) {
            0 | 1 => Self::Kill,
            2 => Self::Freeze(SESSION + Duration::from_secs(2 + trial.random(4))),
            3 => Self::Freeze(Duration::from_millis(500 + trial.random(4_000))),
            4 => Self::Join,
            5 => Self::Leave,
            6 => Self::BrokerKilled(broker),
            7 => Self::BrokerStill(broker),
            8 => Self::NoDeadLetters,
            _ => Self::MorePartitions,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kills",
            Self::Freeze(_) => "freezes",
            Self::Join => "joins",
            Self::Leave => "leaves",
            Self::BrokerKilled(_) => "brokers_killed",
            Self::BrokerStill(_) => "brokers_still",
            Self::NoDeadLetters => "dead_letter_outages",
            Self::MorePartitions => "partitions_added",
        }
    }

    fn hits_a_broker(self) -> bool {
        matches!(self, Self::BrokerKilled(_) | Self::BrokerStill(_))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the soak's plan has times: how long a fault lasts, and how long it is quiet"
)]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}

#[expect(clippy::disallowed_methods, reason = "figures have times")]
fn now() -> Instant {
    Instant::now()
}

/// The members, and what was done.
struct Soak<'a, 'k> {
    trial: &'a mut Trial<'k>,
    kafka: &'k Kafka,
    properties: Vec<(&'static str, &'static str)>,
    dead_letters: String,
    /// The first one lives from the beginning to the end, and nothing is done to it.
    members: Vec<Member>,
    done: serde_json::Map<String, serde_json::Value>,
    /// How many records may be done again, by what was done.
    again: usize,
}

impl Soak<'_, '_> {
    fn join(&mut self) {
        let mut arguments = vec!["--concurrency", "64", "--work-us", "5000", "--tail-us", "100000", "--tail-pct", "2"];
        arguments.extend(["--fail-pct", "1", "--dead-pct", "1", "--dead-letter", &self.dead_letters]);
        if self.properties.contains(&("group.protocol", "consumer")) {
            arguments.extend(["--lease-ms", "8500"]);
        }
        let member = self.trial.member(&self.properties, &arguments);
        self.members.push(member);
    }

    /// One of those to which something may be done.
    fn chosen(&mut self) -> usize {
        1 + self.trial.random(self.members.len() as u64 - 1) as usize
    }

    /// Does it; tells what has to be undone later. `None`: it cannot be done now.
    fn inject(&mut self, fault: Fault) -> Option<Undo> {
        let undo = match fault {
            Fault::Kill if self.members.len() > 2 => {
                let at = self.chosen();
                let mut member = self.members.remove(at);
                member.process.signal(Signal::KILL);
                member.process.wait(PATIENCE);
                let partitions = self.trial.partitions as usize;
                self.again += CONCURRENCY + self.trial.journal(member.number).ended_since_commit(partitions);
                Undo::Nothing
            }
            Fault::Freeze(time) if self.members.len() > 2 => {
                let at = self.chosen();
                let member = self.members.remove(at);
                member.process.signal(Signal::STOP);
                let partitions = self.trial.partitions as usize;
                self.again += CONCURRENCY + self.trial.journal(member.number).ended_since_commit(partitions);
                Undo::Thaw(Box::new(member), time)
            }
            Fault::Join if self.members.len() < MOST_MEMBERS => {
                self.join();
                Undo::Nothing
            }
            Fault::Leave if self.members.len() > 2 => {
                let at = self.chosen();
                // Before it listens to signals, one would end it at once.
                if self.trial.journal(self.members[at].number).starts == 0 {
                    return None;
                }
                let member = self.members.remove(at);
                self.trial.end(member);
                Undo::Nothing
            }
            Fault::BrokerKilled(broker) => {
                self.kafka.kill(broker);
                Undo::Boot(broker)
            }
            Fault::BrokerStill(broker) => {
                self.kafka.pause(broker);
                Undo::Resume(broker)
            }
            Fault::NoDeadLetters => {
                self.kafka.delete_topic(&self.dead_letters);
                Undo::DeadLetters
            }
            Fault::MorePartitions if self.trial.partitions < MOST_PARTITIONS => {
                self.trial.partitions += 1;
                self.kafka.add_partitions(&self.trial.topic, self.trial.partitions);
                Undo::Nothing
            }
            _ => return None,
        };
        let count = self.done.entry(fault.name()).or_insert(json!(0));
        *count = json!(count.as_u64().unwrap_or(0) + 1);
        self.trial.injected(1);
        Some(undo)
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Nothing => {}
            Undo::Thaw(member, time) => {
                sleep(time);
                member.process.signal(Signal::CONT);
                self.members.push(*member);
            }
            Undo::Boot(broker) => {
                self.kafka.boot(broker);
                self.kafka.await_brokers(3);
            }
            Undo::Resume(broker) => {
                self.kafka.resume(broker);
                self.kafka.await_brokers(3);
            }
            Undo::DeadLetters => self.kafka.create_topic(&self.dead_letters, 3, &[]),
        }
    }

    /// One to three faults at once, for some seconds; then quiet.
    fn episode(&mut self) {
        let mut undos = Vec::new();
        for _ in 0..=self.trial.random(3) {
            let fault = Fault::draw(self.trial);
            // Of three brokers two have to agree; and a topic is changed only while they do.
            let is_harmed = undos.iter().any(|undo| matches!(undo, Undo::Boot(_) | Undo::Resume(_)));
            let twice = undos.iter().any(|undo| matches!(undo, Undo::DeadLetters)) && fault == Fault::NoDeadLetters;
            let of_topics = matches!(fault, Fault::NoDeadLetters | Fault::MorePartitions);
            if twice || is_harmed && (fault.hits_a_broker() || of_topics) {
                continue;
            }
            if let Some(undo) = self.inject(fault) {
                eprintln!("soak: {fault:?}, {} members", self.members.len());
                undos.push(undo);
            }
        }
        sleep(Duration::from_millis(2_000 + self.trial.random(6_000)));
        // Brokers first: topics cannot be made without them.
        undos.sort_by_key(|undo| !matches!(undo, Undo::Boot(_) | Undo::Resume(_)));
        for undo in undos {
            if matches!(undo, Undo::Boot(_) | Undo::Resume(_)) {
                // What a member finishes while it cannot commit runs again if its session ends meanwhile.
                self.again += RATE * (2 * SESSION.as_secs() as usize);
            }
            self.undo(undo);
        }
        while self.members.len() < 3 {
            self.join();
        }
        sleep(Duration::from_millis(5_000 + self.trial.random(8_000)));
        let dead: Vec<_> = self.members.iter_mut().filter_map(|m| m.process.has_ended().then_some(m.number)).collect();
        assert!(dead.is_empty(), "members {dead:?} ended by themselves (seed {})", self.trial.seed);
    }
}

enum Undo {
    Nothing,
    Thaw(Box<Member>, Duration),
    Boot(usize),
    Resume(usize),
    DeadLetters,
}

/// Writes `RATE` records each second until told to end.
fn write(kafka: &Kafka, topic: &str, seed: u64, is_over: &AtomicBool) -> Produced {
    let mut all = Produced::default();
    let began = now();
    let mut random = seed;
    let mut record = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (Some(format!("k{}", (random >> 33) % KEYS)), format!("v{n}"))
    };
    let mut wave = 0;
    while !is_over.load(Ordering::SeqCst) {
        all.add(kafka.produce(topic, (0..RATE).map(|n| record(wave * RATE + n))));
        wave += 1;
        // Whoever is late does not catch up: the rate is a limit.
        sleep(
            Duration::from_secs(1).saturating_sub(began.elapsed().saturating_sub(Duration::from_secs(wave as u64 - 1))),
        );
    }
    all
}

/// Samples of a process, one a second.
fn watch(pid: Pid, is_over: &AtomicBool, samples: &Mutex<Vec<(f64, Size)>>) {
    let began = now();
    while !is_over.load(Ordering::SeqCst) {
        if let Some(size) = Size::of(pid) {
            samples.lock().expect("nobody panicked").push((began.elapsed().as_secs_f64(), size));
        }
        sleep(Duration::from_secs(1));
    }
}

/// The slope of the least squares' line, a second.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len().max(1) as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let (mut above, mut below) = (0.0, f64::EPSILON);
    for point in points {
        above += (point.0 - x) * (point.1 - y);
        below += (point.0 - x).powi(2);
    }
    above / below
}

/// Figures of the member that lived all the time: from the end of the first tenth, and the slopes over the last half.
fn drift(trial: &mut Trial<'_>, samples: &[(f64, Size)]) {
    let settled = samples[samples.len() / 10].1;
    let (_, last) = samples[samples.len() - 1];
    let half = &samples[samples.len() / 2..];
    let of = |value: fn(&Size) -> u64| slope(&half.iter().map(|(at, s)| (*at, value(s) as f64)).collect::<Vec<_>>());
    let rounded = |value: f64| (value * 1_000.0).round() / 1_000.0;
    trial.figure("rss_mib", json!([settled.rss / 1024, last.rss / 1024]));
    trial.figure("most_rss_mib", last.most_rss / 1024);
    trial.figure("rss_mib_an_hour", rounded(of(|size| size.rss) * 3_600.0 / 1_024.0));
    trial.figure("threads", json!([settled.threads, last.threads]));
    trial.figure("files", json!([settled.files, last.files]));
    trial.figure("files_an_hour", rounded(of(|size| size.files) * 3_600.0));
    trial.figure("threads_an_hour", rounded(of(|size| size.threads) * 3_600.0));
}

#[test]
#[ignore = "as long as WATERWHEEL_SOAK says, in seconds: `./run soak`"]
fn everything_at_once() {
    let seconds = std::env::var("WATERWHEEL_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let cluster = Cluster::of(3)
        .property("auto.create.topics.enable=false")
        .property(&format!("group.consumer.session.timeout.ms={}", SESSION.as_millis()));
    let Some(kafka) = cluster.start() else { return };
    let mut trial = Trial::new(&kafka, "soak", PARTITIONS);
    // The bundled librdkafka is known to stall for minutes in the consumer protocol: on request only.
    let asked = std::env::var("WATERWHEEL_SOAK_PROTOCOL").unwrap_or_default();
    let drawn = [Protocol::Eager, Protocol::Cooperative][trial.random(2) as usize];
    let protocol = if asked == "consumer" { Protocol::Consumer } else { drawn };
    eprintln!("soak: seed {}, {protocol:?}", trial.seed);
    trial.figure("protocol", format!("{protocol:?}").to_lowercase());
    let session = SESSION.as_millis().to_string();
    let session: &'static str = Box::leak(session.into_boxed_str());
    let mut properties = protocol.properties();
    if protocol != Protocol::Consumer {
        properties.retain(|(key, _)| *key != "session.timeout.ms");
        properties.push(("session.timeout.ms", session));
    }
    properties.push(("topic.metadata.refresh.interval.ms", "2000"));
    properties.push(("topic.metadata.propagation.max.ms", "1000"));
    let dead_letters = format!("{}-dead", trial.topic);
    kafka.create_topic(&dead_letters, 3, &[]);

    let (topic, seed, began) = (trial.topic.clone(), trial.seed, now());
    let (is_over, samples) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let mut soak = Soak {
        trial: &mut trial,
        kafka: &kafka,
        properties,
        dead_letters,
        members: Vec::new(),
        done: serde_json::Map::new(),
        again: 0,
    };
    (0..3).for_each(|_| soak.join());
    let members: Vec<&Member> = soak.members.iter().collect();
    soak.trial.await_settled(&members);
    let elder = soak.members[0].process.pid();
    let produced = std::thread::scope(|scope| {
        let over = Over(&is_over);
        let writer = scope.spawn(|| write(&kafka, &topic, seed, &is_over));
        scope.spawn(|| watch(elder, &is_over, &samples));
        while began.elapsed() < Duration::from_secs(seconds) {
            soak.episode();
        }
        drop(over);
        writer.join().expect("the writer does not panic")
    });
    let Soak { members, done, again, .. } = soak;
    trial.was_produced(produced);
    let quiet = now();
    trial.await_done(QUIESCE);
    trial.figure("quiesce_s", quiet.elapsed().as_secs_f64());
    done.into_iter().for_each(|(name, count)| trial.figure(&name, count));
    drift(&mut trial, &samples.into_inner().expect("nobody panicked"));
    for member in members {
        trial.end(member);
    }
    wait_until(PATIENCE, "all brokers to be there", || kafka.leaders(&topic).iter().all(|leader| *leader > 0));
    trial.assert_all_committed();
    trial.judge(again as u64);
}

/// Says that it is over, also when the test fails: its threads must end.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
