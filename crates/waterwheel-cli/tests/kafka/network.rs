//! Networks that are slow, break, fall silent or lose half of a connection, between members and real brokers.
//!
//! Members meet the brokers through proxies only (`support::Proxy`), which count what they do: a case whose fault did not
//! happen is void. The test's own clients go to the brokers directly.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit};

use crate::support::{Cluster, Entry, Kafka, Member, PATIENCE, Protocol, Trial, Way, wait_until};

const CONCURRENCY: usize = 64;
const LOAD: [&str; 4] = ["--concurrency", "64", "--work-us", "10000"];

/// The properties of a member that goes through the proxies.
fn proxied<'a>(addresses: &'a str, properties: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("bootstrap.servers", addresses)], properties].concat()
}

/// One broker behind a proxy, for one test at a time, whose way begins free of faults. `None` if it cannot be had.
fn one_broker() -> Option<MutexGuard<'static, Kafka>> {
    static ONE: OnceLock<Option<Mutex<Kafka>>> = OnceLock::new();
    let kafka = ONE.get_or_init(|| Cluster::of(1).proxied(1).start().map(Mutex::new)).as_ref()?;
    let kafka = kafka.lock().unwrap_or_else(PoisonError::into_inner);
    kafka.proxies()[0].set(Way::default());
    kafka.proxies()[0].black_hole(false);
    Some(kafka)
}

/// A session that outlasts what is done here, and fetches that are small, so that records go on needing connections.
const PATIENT: [(&str, &str); 5] = [
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("session.timeout.ms", "30000"),
    ("queued.min.messages", "100"),
    ("fetch.message.max.bytes", "8192"),
    ("socket.timeout.ms", "4000"),
];

/// What may run twice after these members lost their partitions unheard: what they ran, and what they finished since the
/// commits that are known to have arrived.
fn since_commit(trial: &mut Trial<'_>, members: &[&Member]) -> usize {
    members.iter().map(|member| CONCURRENCY + trial.journal(member.number).ended_since_commit(8)).sum()
}

/// What these members have finished so far.
fn ends(trial: &mut Trial<'_>, members: &[&Member]) -> usize {
    let ends = |entries: &[Entry]| entries.iter().filter(|entry| matches!(entry, Entry::End(..))).count();
    members.iter().map(|member| ends(&trial.journal(member.number).entries)).sum()
}

/// Waits until all that was produced is committed: done again, where the commit of those who did it did not count.
fn await_committed(trial: &Trial<'_>) {
    let ends = trial.kafka.ends(&trial.topic, trial.partitions);
    wait_until(PATIENCE, "all commits to reach the end", || {
        trial.kafka.has_committed(&trial.group, &trial.topic, &ends)
    });
}

/// Each connection lives for 0.5 to 1.5 s, half of them end by a reset, while records come and two members work.
fn short_lived_connections(name: &'static str, protocol: Protocol) {
    let Some(kafka) = one_broker() else { return };
    let mut trial = Trial::new(&kafka, name, 8);
    trial.produce(4_000, 1_000);
    let addresses = kafka.bootstrap_proxied();
    let mut properties = proxied(&addresses, &protocol.properties());
    if protocol != Protocol::Consumer {
        // A session must not end of itself.
        properties.retain(|(key, _)| *key != "session.timeout.ms");
    }
    let members = [trial.member(&properties, &LOAD), trial.member(&properties, &LOAD)];
    trial.await_settled(&[&members[0], &members[1]]);

    let proxy = &kafka.proxies()[0];
    let before = proxy.counts();
    proxy.set(Way { life: Some(Duration::from_millis(500)..Duration::from_millis(1_500)), ..Way::default() });
    // Those that are there would live without end.
    proxy.reset();
    wait_until(PATIENCE, "40 connections to be cut under load", || {
        trial.produce(1_000, 1_000);
        proxy.counts().cut >= before.cut + 40
    });
    trial.await_done(PATIENCE);
    await_committed(&trial);
    let cut = proxy.counts().cut - before.cut;
    let [one, other] = members;
    trial.end(one);
    trial.end(other);
    trial.injected(cut as usize);
    trial.assert_all_committed();
    trial.judge(0);
}

#[test]
fn connections_that_break_all_the_time_cost_nothing_when_all_is_revoked() {
    short_lived_connections("short-lived-eager", Protocol::Eager);
}

#[test]
fn connections_that_break_all_the_time_cost_nothing_when_partitions_move_by_and_by() {
    short_lived_connections("short-lived-cooperative", Protocol::Cooperative);
}

#[test]
fn connections_that_break_all_the_time_cost_nothing_in_the_consumer_protocol() {
    short_lived_connections("short-lived-consumer", Protocol::Consumer);
}

/// 100 ms and 3 Mbit/s each way; then nothing passes until the group has lost both members; then it passes again.
#[test]
fn a_slow_network_that_falls_silent_for_longer_than_the_session_loses_nothing() {
    const RATE: u64 = 375_000;
    let Some(kafka) = one_broker() else { return };
    let mut trial = Trial::new(&kafka, "slow", 8);
    let records: Vec<_> = (0..20_000).map(|_| (Some(format!("k{}", trial.random(2_000))), "v".repeat(200))).collect();
    let produced = kafka.produce(&trial.topic, records);
    trial.was_produced(produced);
    let proxy = &kafka.proxies()[0];
    let (latency, jitter) = (Duration::from_millis(100), Duration::from_millis(20));
    proxy.set(Way { latency, jitter, rate: Some(RATE), life: None });
    let addresses = kafka.bootstrap_proxied();
    let properties = proxied(&addresses, &Protocol::Cooperative.properties());
    let (before, began) = (proxy.counts(), trial.seconds());
    let members = [trial.member(&properties, &LOAD), trial.member(&properties, &LOAD)];
    let both = [&members[0], &members[1]];
    trial.await_settled(&both);
    trial.await_starts(members[0].number, 2_000);
    let passed = proxy.counts().bytes[1] - before.bytes[1];
    let seconds = trial.seconds() - began;
    assert!(passed as f64 <= seconds * RATE as f64 + 65_536.0, "void: {passed} bytes in {seconds} s are not slow");

    let finished = ends(&mut trial, &both);
    let most = since_commit(&mut trial, &both);
    proxy.black_hole(true);
    wait_until(PATIENCE, "the group to lose both members", || kafka.members(&trial.group) == 0);
    let stood = both.map(|member| trial.journal(member.number).starts);
    assert!(!trial.is_done(), "void: everything was finished before the network was silent");
    assert!(proxy.counts().swallowed > before.swallowed, "void: nothing was swallowed: {:?}", proxy.counts());
    // What they did without a commit; their leases ended before their sessions, so that they do nothing more.
    let most = most + ends(&mut trial, &both) - finished;
    proxy.black_hole(false);
    wait_until(PATIENCE, "work to go on", || {
        both.iter().zip(stood).any(|(member, stood)| trial.journal(member.number).starts > stood)
    });
    proxy.set(Way::default());
    trial.await_done(PATIENCE);
    await_committed(&trial);
    let [one, other] = members;
    trial.end(one);
    trial.end(other);
    trial.injected(1);
    trial.figure("kbit_per_second", (passed as f64 * 8.0 / 1_000.0 / seconds) as u64);
    trial.assert_all_committed();
    trial.judge(most as u64);
}

/// The broker's half of each connection ends, and the members are not told.
#[test]
fn connections_of_which_half_is_left_are_given_up_for_new_ones() {
    let Some(kafka) = one_broker() else { return };
    let mut trial = Trial::new(&kafka, "half-open", 8);
    let addresses = kafka.bootstrap_proxied();
    let properties = proxied(&addresses, &PATIENT);
    let members = [trial.member(&properties, &LOAD), trial.member(&properties, &LOAD)];
    trial.await_settled(&[&members[0], &members[1]]);
    trial.produce(4_000, 1_000);
    trial.await_starts_or_done(members[0].number, 100);
    let proxy = &kafka.proxies()[0];
    let before = proxy.counts();
    proxy.halve();
    let (halved_at, counts) = (trial.seconds(), proxy.counts());
    assert!(counts.halved >= before.halved + 4, "void: {before:?}, {counts:?}");
    trial.produce(4_000, 1_000);
    assert!(!trial.is_done(), "void: everything was finished before connections were halved");
    trial.await_done(PATIENCE);
    await_committed(&trial);
    let took = trial.seconds() - halved_at;
    let counts = proxy.counts();
    assert!(counts.swallowed > before.swallowed, "void: nothing was lost in half a connection: {counts:?}");
    let [one, other] = members;
    trial.end(one);
    trial.end(other);
    trial.injected((counts.halved - before.halved) as usize);
    trial.figure("done_after_seconds", took);
    trial.assert_all_committed();
    trial.judge(0);
}

/// No file descriptor is left while connections are reset.
#[test]
fn a_member_without_file_descriptors_goes_on_when_there_are_some() {
    let Some(kafka) = one_broker() else { return };
    let mut trial = Trial::new(&kafka, "descriptors", 8);
    trial.produce(4_000, 1_000);
    let addresses = kafka.bootstrap_proxied();
    let member = trial.member(&proxied(&addresses, &PATIENT), &LOAD);
    trial.await_starts(member.number, 500);
    let limit = |current| {
        // The hardest limit stays that of this process.
        let new = Rlimit { current: Some(current), ..rustix::process::getrlimit(Resource::Nofile) };
        let pid = Some(member.process.pid());
        rustix::process::prlimit(pid, Resource::Nofile, new).expect("the limit of a child can be changed")
    };
    // Fewer than are open: what is open stays, and nothing is opened.
    let before = limit(3).current.expect("descriptors are limited");
    kafka.proxies()[0].reset();
    trial.produce(4_000, 1_000);
    let lines = member.process.stderr().lines().count();
    wait_until(PATIENCE, "the member to say that it has no file descriptors", || {
        kafka.proxies()[0].reset();
        member.process.stderr().contains("Too many open files")
    });
    let finished = trial.finished();
    let said = member.process.stderr().lines().count() - lines;
    assert!(!trial.is_done(), "void: everything was finished without a connection");
    limit(before);
    trial.await_done(PATIENCE);
    await_committed(&trial);
    assert!(!member.process.stderr().contains("panicked"), "{}", member.process.stderr());
    trial.end(member);
    trial.injected(1);
    trial.figure("lines_said", said);
    trial.figure("finished_before", finished);
    trial.assert_all_committed();
    trial.judge(0);
}

/// A member hears nothing of its group's coordinator any more, while the leaders of other partitions go on answering it.
fn a_member_cut_off_from_its_coordinator(kafka: &Kafka, name: &'static str, protocol: Protocol) {
    let mut trial = Trial::new(kafka, name, 12);
    trial.produce(90_000, 5_000);
    let mut load = LOAD.to_vec();
    if protocol == Protocol::Consumer {
        // The broker alone knows the session time-out, 6 s here; the worker takes Kafka's default for granted.
        load.extend(["--lease-ms", "4000"]);
    }
    let addresses = kafka.bootstrap_proxied();
    let cut_off = trial.member(&proxied(&addresses, &protocol.properties()), &load);
    let other = trial.member(&protocol.properties(), &load);
    trial.await_settled(&[&cut_off, &other]);
    trial.await_starts(cut_off.number, 3_000);

    let coordinator = kafka.coordinator(&trial.group);
    let proxy = &kafka.proxies()[coordinator - 1];
    let journal = trial.journal(cut_off.number);
    let (held, began) = (journal.held.clone(), journal.entries.len());
    let since = journal.ended_since_commit(12);
    proxy.black_hole(true);
    let (mut taken, mut at_take_over) = (false, 0);
    wait_until(PATIENCE, "the other member to hold everything", || {
        // The one that is cut off is looked at first: what it starts between the two looks counts against it.
        let starts = trial.journal(cut_off.number).starts;
        let now_held = trial.journal(other.number).held.len();
        if !taken && now_held > 12 - held.len() {
            (taken, at_take_over) = (true, starts);
        }
        now_held == 12
    });
    trial.await_starts(other.number, 2_000);
    assert!(!trial.is_done(), "void: everything was finished before the coordinator answered again");
    let swallowed = proxy.counts().swallowed;
    assert!(swallowed > 0, "void: nothing was swallowed");
    let journal = trial.journal(cut_off.number);
    let entries = &journal.entries[began..];
    let meanwhile = entries.iter().filter(|entry| matches!(entry, Entry::Start(..))).count();
    let finished = entries.iter().filter(|entry| matches!(entry, Entry::End(..))).count();
    assert!(meanwhile > CONCURRENCY, "void: {meanwhile} records were started while the coordinator was silent");
    assert_eq!(journal.starts, at_take_over, "it started records after another member had taken over");

    // Its commits come to the coordinator now, and count no more.
    let stood_at = journal.entries.len();
    let mut committed = kafka.committed(&trial.group, &trial.topic, trial.partitions);
    proxy.black_hole(false);
    wait_until(PATIENCE, "the member that was cut off to learn that its partitions are lost", || {
        let now = kafka.committed(&trial.group, &trial.topic, trial.partitions);
        for (partition, (now, then)) in now.iter().zip(&committed).enumerate() {
            assert!(now.offset >= then.offset, "partition {partition}: committed {then:?}, and after it {now:?}");
        }
        committed = now;
        // By its own clock it may have known before.
        let entries = &trial.journal(cut_off.number).entries[began..];
        held.iter().all(|p| entries.contains(&Entry::Lost(*p)))
    });
    let entries = &trial.journal(cut_off.number).entries[stood_at..];
    let mut own = std::collections::BTreeSet::new();
    for entry in entries {
        match entry {
            Entry::Assigned(p, _) => drop(own.insert(*p)),
            Entry::Start(p, at) => assert!(own.contains(p), "{p}@{at} was started, and was another's"),
            _ => {}
        }
    }
    trial.await_done(PATIENCE);
    await_committed(&trial);
    trial.end(cut_off);
    trial.end(other);
    trial.injected(1);
    trial.figure("started_meanwhile", meanwhile);
    trial.figure("finished_since_commit", since + finished);
    trial.assert_all_committed();
    trial.judge((CONCURRENCY + since + finished) as u64);
}

#[test]
fn a_member_cut_off_from_its_coordinator_starts_nothing_after_its_lease() {
    let Some(kafka) = Cluster::of(3).proxied(2).start() else { return };
    a_member_cut_off_from_its_coordinator(&kafka, "lease-cooperative", Protocol::Cooperative);
    a_member_cut_off_from_its_coordinator(&kafka, "lease-consumer", Protocol::Consumer);
}
