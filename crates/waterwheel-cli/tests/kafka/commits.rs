//! Commit maps at their limit, many of them, and metadata of others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use waterwheel::{Failure, Message, Raw};

use crate::support::{Bytes, Entry, Kafka, PATIENCE, Protocol, Trial, is_whole, wait_until};

/// The most characters (UTF-16 units) that a broker takes as metadata.
const LIMIT: usize = 4_096;

/// Records of which a good 50,000 finish, and whose map is nearly as large as it may be.
const SCATTERED: usize = 67_500;

/// The default of a worker.
const CONCURRENCY: usize = 256;

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Never ends for the key `stuck`.
async fn stick(message: Message<Raw>) -> Result<(), Failure> {
    if message.key() == Some(b"stuck") {
        std::future::pending::<()>().await;
    }
    Ok(())
}

async fn succeed(_: Message<Raw>) -> Result<(), Failure> {
    Ok(())
}

/// Records of which about every fourth has the key `stuck`, the first one too: a map that no coding makes small.
fn scattered(trial: &mut Trial<'_>, count: usize) -> Vec<(Option<String>, String)> {
    let mut records = trial.records(count, 1_000);
    for (n, (key, _)) in records.iter_mut().enumerate() {
        if n == 0 || trial.random(4) == 0 {
            *key = Some("stuck".to_owned());
        }
    }
    records
}

/// 50,000 records finish above a head that is stuck. Then the member ends, and the next one runs the rest only.
fn a_full_map(name: &'static str, crash: bool) {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, name, 1);
    let records = scattered(&mut trial, SCATTERED);
    let unfinished = records.iter().filter(|(key, _)| key.as_deref() == Some("stuck")).count();
    let produced = kafka.produce(&trial.topic, records);
    trial.was_produced(produced);
    let above = SCATTERED - unfinished;
    assert!(above > 50_000, "void: only {above} can finish above the head");

    let properties = Protocol::Consumer.properties();
    let first = trial.inside(&properties, |builder| builder.drain_timeout(Duration::from_millis(100)), stick);
    wait_until(PATIENCE, "all that can finish to be finished", || trial.finished() == above);
    let most = if crash {
        // Everything that has ended by now, save what ended in the moment of a commit, is in a commit that was answered.
        wait_until(PATIENCE, "a commit of all that is finished to be answered", || {
            let answered = first.handle.counts().commits as usize;
            let entries = &trial.journal(first.number).entries;
            let commits = entries.iter().filter(|entry| matches!(entry, Entry::Commit(..))).count();
            let last = entries.iter().rposition(|entry| matches!(entry, Entry::Commit(..)));
            let last_end = entries.iter().rposition(|entry| matches!(entry, Entry::End(..)));
            commits == answered && last > last_end
        });
        first.crash();
        CONCURRENCY
    } else {
        let report = first.stop();
        assert_eq!(report.cut_off.iter().map(|(_, attempts)| attempts).sum::<usize>(), 1, "the stuck head: {report:?}");
        0
    };
    let full = kafka.committed(&trial.group, &trial.topic, 1).remove(0);
    assert_eq!(full.offset, Some(0), "nothing passes the stuck head");
    assert!((3_500..=LIMIT).contains(&units(&full.metadata)), "void or refused: {} characters", units(&full.metadata));
    trial.injected(1);
    trial.figure("metadata_units", units(&full.metadata));
    trial.figure("finished_above", above);

    let second = trial.inside(&properties, |builder| builder, succeed);
    trial.await_done(PATIENCE);
    let again = trial.journal(second.number).starts - unfinished;
    assert!(again <= most, "{again} finished records run again (seed {})", trial.seed);
    second.stop();
    trial.assert_all_committed();
    trial.judge(most as u64);
}

#[test]
fn a_full_map_survives_a_stop() {
    a_full_map("full-map-stop", false);
}

#[test]
fn a_full_map_survives_a_crash() {
    a_full_map("full-map-crash", true);
}

#[test]
fn a_map_that_does_not_fit_is_cut_and_never_wrong() {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, "cut-map", 1);
    let records = scattered(&mut trial, 120_000);
    let unfinished = records.iter().filter(|(key, _)| key.as_deref() == Some("stuck")).count();
    let produced = kafka.produce(&trial.topic, records);
    trial.was_produced(produced);
    let properties = Protocol::Consumer.properties();
    let first = trial.inside(&properties, |builder| builder.drain_timeout(Duration::from_millis(100)), stick);
    wait_until(PATIENCE, "all that can finish to be finished", || trial.finished() == 120_000 - unfinished);
    let report = first.stop();
    assert!(report.counts.maps_cut > 0, "void: the map was not cut");
    trial.injected(report.counts.maps_cut as usize);
    let committed = kafka.committed(&trial.group, &trial.topic, 1).remove(0);
    assert!((3_500..=LIMIT).contains(&units(&committed.metadata)), "{} characters", units(&committed.metadata));

    let second = trial.inside(&properties, |builder| builder, succeed);
    trial.await_done(PATIENCE);
    wait_until(PATIENCE, "what the map did not reach to run again", || trial.journal(second.number).held.len() == 1);
    second.stop();
    trial.assert_all_committed();
    // The map reaches at least a bit for each offset: 15 bits a character, less its head.
    let reach = (LIMIT - 64) * 15;
    trial.figure("reach", reach);
    trial.judge((120_000 - reach) as u64);
}

#[test]
fn metadata_of_another_tool_means_that_nothing_above_the_offset_is_finished() {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, "foreign", 4);
    let records = trial.records(4_000, 200);
    let produced = kafka.produce(&trial.topic, records);
    let longest = "x".repeat(LIMIT);
    let commits =
        [(0, 50, "{\"consumer\":\"another\"}"), (1, 0, "\u{754c}\u{1f980}\u{0}"), (2, 100, &*longest), (3, 7, " ")];
    trial.commit(&commits);
    trial.injected(commits.len());
    let from = commits.map(|(_, offset, _)| offset);
    trial.was_produced(produced.filter(|partition, offset| offset >= from[partition as usize]));
    let member = trial.member(&Protocol::Eager.properties(), &["--work-us", "1000"]);
    trial.await_done(PATIENCE);
    trial.end(member);
    trial.assert_all_committed();
    // The records below are nobody's: one that was run would be in no list.
    trial.judge(0);
}

#[test]
fn a_map_that_reaches_beyond_the_logs_end_is_not_believed() {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, "beyond-the-end", 2);
    // A full map, made by a worker on partition 0; it names the topic and the offset, not the partition.
    let records: Vec<_> = scattered(&mut trial, SCATTERED)
        .into_iter()
        .map(|(key, _)| Bytes { key: key.map(String::into_bytes), ..Bytes::default() })
        .collect();
    let finished: BTreeSet<i64> =
        records.iter().zip(0..).filter(|(r, _)| r.key.as_deref() != Some(b"stuck")).map(|(_, offset)| offset).collect();
    let produced = kafka.produce_bytes(&trial.topic, &records);
    trial.was_produced(produced);
    let properties = Protocol::Consumer.properties();
    let configure = |builder: waterwheel::WorkerBuilder| builder.drain_timeout(Duration::from_millis(100));
    let first = trial.inside(&properties, configure, stick);
    wait_until(PATIENCE, "all that can finish to be finished", || trial.finished() == finished.len());
    first.stop();
    let full = kafka.committed(&trial.group, &trial.topic, 1).remove(0);
    assert!((3_500..=LIMIT).contains(&units(&full.metadata)), "void: {} characters", units(&full.metadata));

    // Partition 1, as if its log had been cut off and begun anew: all its records are new ones.
    let records: Vec<Bytes> =
        (0..100).map(|n| Bytes { partition: 1, key: Some(format!("k{n}").into_bytes()), ..Bytes::default() }).collect();
    let produced = kafka.produce_bytes(&trial.topic, &records);
    trial.was_produced(produced);
    trial.commit(&[(1, 0, &*full.metadata)]);
    trial.injected(1);
    let second = trial.inside(&properties, |builder| builder, succeed);
    trial.await_done(PATIENCE);
    second.stop();
    trial.assert_all_committed();
    trial.judge(0);
}

/// Handlers that count: what they finished, and among it what has the key `stuck`.
#[derive(Default)]
struct Counted {
    all: AtomicUsize,
    stuck: AtomicUsize,
}

/// Every partition of many has a full map, 0.8 MB of metadata a commit. There is no journal of so many records: handlers
/// count, and the frontier, which passes only what is finished, tells the rest.
#[test]
fn two_hundred_full_maps_are_committed_and_survive_a_crash() {
    const PARTITIONS: i32 = 200;
    const EACH: usize = 62_000;
    const LONG: Duration = Duration::from_secs(150);
    if !is_whole() {
        return;
    }
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, "full-maps", PARTITIONS);
    let mut stuck = 0;
    let keys: Vec<String> = (0..100).map(|n| format!("k{n}")).collect();
    let is_stuck: Vec<bool> = (0..EACH).map(|n| n == 0 || trial.random(4) == 0).collect();
    let records = (0..EACH).flat_map(|n| (0..PARTITIONS).map(move |partition| (n, partition)));
    kafka.produce_many(
        &trial.topic,
        records.map(|(n, partition)| {
            // Another order in each partition; the first record of each is stuck.
            let is_stuck = n == 0 || is_stuck[(n + 311 * partition as usize) % EACH];
            stuck += usize::from(is_stuck);
            (partition, if is_stuck { "stuck" } else { &*keys[n % keys.len()] })
        }),
    );
    let all = EACH * PARTITIONS as usize;
    let properties = Protocol::Cooperative.properties();
    let count = |trial: &mut Trial<'_>, sticks: bool| {
        let counted = Arc::new(Counted::default());
        let handler = {
            let counted = counted.clone();
            move |message: Message<Raw>| {
                let counted = counted.clone();
                async move {
                    let is_stuck = message.key() == Some(b"stuck");
                    if is_stuck && sticks {
                        std::future::pending::<()>().await;
                    }
                    counted.stuck.fetch_add(usize::from(is_stuck), Ordering::Relaxed);
                    counted.all.fetch_add(1, Ordering::Relaxed);
                    Ok::<(), Failure>(())
                }
            }
        };
        (trial.inside_unseen(&properties, |builder| builder.concurrency(512), handler), counted)
    };
    let (first, finished) = count(&mut trial, true);
    wait_until(LONG, "all that can finish to be finished", || finished.all.load(Ordering::Relaxed) == all - stuck);
    let is_full = |metadata: &str| (3_500..=LIMIT).contains(&units(metadata));
    wait_until(PATIENCE, "full maps of all partitions to be committed", || {
        let committed = kafka.committed(&trial.group, &trial.topic, PARTITIONS);
        committed.iter().all(|commit| commit.offset == Some(0) && is_full(&commit.metadata))
    });
    let commits = first.handle.counts().commits;
    // A record more for each: the next commit has two hundred other maps.
    kafka.produce_many(&trial.topic, (0..PARTITIONS).map(|partition| (partition, "last")));
    wait_until(PATIENCE, "commits to go on", || first.handle.counts().commits > commits);
    first.crash();

    let (second, again) = count(&mut trial, false);
    let ends = kafka.ends(&trial.topic, PARTITIONS);
    wait_until(LONG, "the commits to reach the ends", || kafka.has_committed(&trial.group, &trial.topic, &ends));
    second.stop();
    assert_eq!(again.stuck.load(Ordering::Relaxed), stuck, "each that never ended ran once");
    let more = again.all.load(Ordering::Relaxed) - stuck;
    println!(
        "{}",
        serde_json::json!({ "case": "full-maps", "seed": trial.seed, "faults": 1, "maps": PARTITIONS, "produced": all,
            "lost": stuck - again.stuck.load(Ordering::Relaxed), "duplicates": more, "seconds": trial.seconds(), "holds": more <= 512 + PARTITIONS as usize })
    );
    // What was in work, and the last ones.
    assert!(more <= 512 + PARTITIONS as usize, "{more} finished records run again (seed {})", trial.seed);
}
