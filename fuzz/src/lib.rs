//! What reads bytes that others wrote, each as a target for fuzzing: no input makes it panic, disagree with itself, or
//! allocate more than a fixed multiple of the input's size.
//!
//! The corpus of each target is `corpus/NAME`; the tests run it, and bytes made from it, on a stable compiler.

#![expect(clippy::expect_used, clippy::panic, reason = "a target's panic is what it has found")]

use std::num::NonZeroU128;

use allocation_counter::{AllocationInfo, measure};
use waterwheel::DeadLetterOrigin;
use waterwheel::avro::AvroSchema;
use waterwheel::config::{parse_duration, parse_size};
use waterwheel_cli::audit::{AuditError, Auditor, Order, Records};
use waterwheel_cli::fuzz;
use waterwheel_core::commit_map::{self, Limit, MapHead, decode, encode, sealed};

/// Something that reads foreign bytes.
#[derive(Debug)]
pub struct Target {
    /// The name of its program and of its corpus.
    pub name: &'static str,
    read: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 8] =
    [AVRO, COMMIT_MAP, WORKER_FILE, QUANTITIES, EXEC_PROTOCOL, RECORD_LINE, DEAD_LETTER, JOURNAL];

impl Target {
    /// Lets it read these bytes; panics if it does anything wrong.
    pub fn run(&self, data: &[u8]) {
        (self.read)(data);
    }
}

/// What a reader may hold at once for each byte of its input.
const FACTOR: usize = 16;

/// The same for a worker file, which is the operator's own and at most 256 KiB: in the tree of the TOML library a table of a
/// dotted key, two characters, has a kilobyte.
const TOML_FACTOR: usize = 1024;

/// The same for Avro as JSON: an object of JSON has a kilobyte, however few bytes its record has.
const JSON_FACTOR: usize = 1024;

/// Reads an input of so many bytes; panics if the reader holds more at once than `factor` times as many and `fixed`.
fn within<T>(len: usize, factor: usize, fixed: usize, read: impl FnOnce() -> T) -> T {
    let mut result = None;
    let AllocationInfo { bytes_max, .. } = measure(|| result = Some(read()));
    let most = factor * len + fixed;
    assert!(bytes_max <= most as u64, "holds {bytes_max} bytes for an input of {len}, where {most} are allowed");
    result.expect("the reader was called")
}

/// A datum of Avro, whose first byte chooses the schema. What is read as JSON is written again and read as the same.
pub const AVRO: Target = Target { name: "avro", read: read_avro };

const SCHEMAS: [&str; 3] = [
    r#"{"type":"record","name":"Order","fields":[{"name":"customer","type":"string"},{"name":"note","type":["null","string",
        "bytes","double"]},{"name":"items","type":{"type":"array","items":{"type":"record","name":"Item","fields":[
        {"name":"cents","type":"int"},{"name":"big","type":"boolean"}]}}}]}"#,
    r#"{"type":"record","name":"Node","fields":[{"name":"next","type":["null","Node",{"type":"map","values":"Node"}]},
        {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}]}"#,
    r#"{"type":"array","items":["null","long","int",{"type":"enum","name":"E","symbols":["A","B"]},"string",
        {"type":"fixed","name":"F","size":0}]}"#,
];

fn read_avro(data: &[u8]) {
    let Some((&which, datum)) = data.split_first() else { return };
    let schema = AvroSchema::parse(SCHEMAS[usize::from(which) % SCHEMAS.len()]).expect("it is a schema");
    let Ok(json) = within(datum.len(), JSON_FACTOR, 1 << 20, || schema.decode_json(datum)) else { return };
    let again = schema.encode_json(&json).map(|bytes| schema.decode_json(&bytes));
    assert!(matches!(&again, Ok(Ok(again)) if *again == json), "{json} is written and read as {again:?}");
}

/// The metadata of a commit: one byte for how the rest is wrapped, eight for the committed offset, then the text, or the
/// content of a map whose length and check sum fit.
pub const COMMIT_MAP: Target = Target { name: "commit_map", read: read_commit_map };

fn read_commit_map(data: &[u8]) {
    const TOPIC: Option<NonZeroU128> = NonZeroU128::new(7);
    let Some((&wrap, rest)) = data.split_first() else { return };
    let Some((base, content)) = rest.split_first_chunk() else { return };
    let base = i64::from_le_bytes(*base);
    let text = match wrap % 3 {
        0 => String::from_utf8_lossy(content).into_owned(),
        1 => sealed(Limit::Utf16(0), content),
        _ => sealed(Limit::Bytes(0), content),
    };
    let Ok(map) = within(text.len(), FACTOR, 4 << 10, || decode(&text, TOPIC, base)) else { return };
    let mut at = base;
    for range in map.finished() {
        assert!(range.start > at && range.end > range.start, "{range:?} after {at}");
        at = range.end;
    }
    let head = MapHead { topic_id: TOPIC, base, leader_epoch: map.leader_epoch() };
    let again = encode(&head, map.finished(), map.failing(), map.followed(), Limit::KAFKA);
    assert!(again.units <= 4096, "{} units", again.units);
    if !again.cut && again.followed == map.followed().len() && !again.text.is_empty() {
        let again = decode(&again.text, TOPIC, base);
        assert!(again.as_ref().is_ok_and(|again| again.finished().eq(map.finished())), "{again:?}, not {map:?}");
        assert!(again.is_ok_and(|again| (again.failing(), again.followed()) == (map.failing(), map.followed())));
    }
    assert!(map.failing().len() <= commit_map::MAX_FAILING);
}

/// A worker file.
pub const WORKER_FILE: Target = Target { name: "worker_file", read: read_worker_file };

fn read_worker_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Err(errors) = within(text.len(), TOML_FACTOR, 64 << 10, || fuzz::worker_file(text)) else { return };
    assert!((1..=51).contains(&errors.len()), "{} errors", errors.len());
    for error in errors {
        let text = error.to_string();
        assert!(text.starts_with("w.toml"), "without a place: {text}");
        assert!(text.len() < 4096, "{} bytes of an error", text.len());
    }
}

/// A duration and a size.
pub const QUANTITIES: Target = Target { name: "quantities", read: read_quantities };

fn read_quantities(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (duration, size) = within(text.len(), FACTOR, 4 << 10, || (parse_duration(text), parse_size(text)));
    if let Ok(duration) = duration {
        let again = parse_duration(&format!("{}us", duration.as_micros()));
        assert!(
            again.as_ref().is_ok_and(|again| again.as_micros() == duration.as_micros()),
            "{again:?}, not {duration:?}"
        );
    }
    for error in [duration.err(), size.err()].into_iter().flatten() {
        assert!(error.to_string().len() < 4096);
    }
}

/// A line that a handler's process writes.
pub const EXEC_PROTOCOL: Target = Target { name: "exec_protocol", read: read_exec_line };

fn read_exec_line(data: &[u8]) {
    if let Err(error) = within(data.len(), FACTOR, 4 << 10, || fuzz::exec_line(data)) {
        assert!(error.len() < 200, "quotes what it was given: {error}");
    }
}

/// A line of what `produce --from-ndjson` reads.
pub const RECORD_LINE: Target = Target { name: "record_line", read: read_record_line };

fn read_record_line(data: &[u8]) {
    if let Err(error) = within(data.len(), FACTOR, 4 << 10, || fuzz::record_line(data)) {
        assert!(error.len() < 200, "quotes what it was given: {error}");
    }
}

/// The headers of a dead letter: `name=value`, or `name` for a null value, each to a zero byte.
pub const DEAD_LETTER: Target = Target { name: "dead_letter", read: read_dead_letter };

fn read_dead_letter(data: &[u8]) {
    let headers = data.split(|byte| *byte == 0).map(|header| {
        let mut halves = header.splitn(2, |byte| *byte == b'=');
        (halves.next().unwrap_or_default(), halves.next())
    });
    match within(data.len(), FACTOR, 4 << 10, || DeadLetterOrigin::from_headers(headers.clone())) {
        Ok(Some(origin)) => {
            let said = |value: &[u8]| headers.clone().any(|(_, written)| written.unwrap_or_default() == value);
            assert!(
                said(origin.topic.as_bytes()) && said(origin.group.as_bytes()),
                "{origin:?} says what no header does"
            );
        }
        Ok(None) => assert!(headers.clone().all(|(name, _)| name != b"waterwheel-original-topic")),
        Err(error) => assert!(error.to_string().len() < 200),
    }
}

/// A produced list, a line that says `--`, and a journal.
pub const JOURNAL: Target = Target { name: "journal", read: read_journal };

fn read_journal(data: &[u8]) {
    const PARTED: &[u8] = b"\n--\n";
    let at = data.windows(PARTED.len()).position(|window| window == PARTED);
    let (list, journal) = at.map_or((&[][..], data), |at| (&data[..=at], &data[at + PARTED.len()..]));
    let lines = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').count() as u64;
    let audit = || {
        let mut auditor = Auditor::new(Records::read(list, "produced")?, Order::Key);
        auditor.read_journal(journal, "journal")?;
        Ok(auditor.verdict())
    };
    match within(data.len(), FACTOR, 64 << 10, audit) {
        Ok(verdict) => {
            assert!(verdict.produced <= lines(list) && verdict.lost.count <= verdict.produced, "{verdict:?}");
        }
        Err(AuditError::Line { line, .. }) => assert!(line <= lines(data), "line {line}"),
        Err(error) => panic!("no line is named: {error}"),
    }
}
