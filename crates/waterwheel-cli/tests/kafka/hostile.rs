//! Brokers that answer with anything but what was asked for: a worker must not crash, must not take more memory than it
//! has a use for, says what is wrong, and ends when it is told to.

use std::os::unix::process::ExitStatusExt as _;

use rustix::process::Signal;

use crate::support::{
    Answer, Api, Body, Codec, Hostile, PATIENCE, Process, TOPIC, Tells, batch, fetched, gzip_bomb, lz4_bomb, record,
    snappy_bomb, topic, wait_until, zstd_bomb,
};

/// What a worker may hold at most, in bytes.
const MEMORY: u64 = 128 << 20;
const PASSWORD: &str = "hostile-canary-5512";

struct Case {
    name: &'static str,
    to: Api,
    answer: Answer,
    /// What is said of it, besides warnings of the configuration.
    said: &'static str,
    /// What librdkafka does wrong, and nobody can mend from here (`SECURITY.md`).
    known: Known,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    /// It ends the process: by SIGABRT, or, where it reads or writes beyond its memory, by whichever of that and SIGSEGV
    /// comes first.
    Dies,
    /// It says nothing: what it was told is odd, and can be read.
    Silent,
    /// It takes more memory than anyone has a use for, and may say nothing: what comes out of it is a record.
    Swells,
}

impl Case {
    fn known(self, known: Known) -> Self {
        Self { known, ..self }
    }
}

fn case(name: &'static str, to: Api, answer: Answer, said: &'static str) -> Case {
    Case { name, to, answer, said, known: Known::Nothing }
}

fn body(name: &'static str, to: Api, body: Body, said: &'static str) -> Case {
    case(name, to, Answer::Body(body), said)
}

/// A frame that says that it is so long, and some of it.
fn long(length: i32) -> Answer {
    Answer::Bytes([&length.to_be_bytes()[..], &[0; 64]].concat())
}

fn garbage() -> Answer {
    Answer::Bytes((0..4_096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect())
}

fn frames() -> Vec<Case> {
    vec![
        case("versions: a frame of 2 GiB", Api::Versions, long(i32::MAX), ""),
        case("versions: a frame of -1", Api::Versions, long(-1), ""),
        case("versions: garbage", Api::Versions, garbage(), ""),
        case("versions: half an answer", Api::Versions, Answer::Half, ""),
        case("versions: another's answer", Api::Versions, Answer::WrongNumber, ""),
        case("metadata: a frame of 2 GiB", Api::Metadata, long(i32::MAX), ""),
        case("metadata: a frame of -1", Api::Metadata, long(-1), ""),
        case("metadata: a frame of 2", Api::Metadata, long(2), ""),
        case("metadata: garbage", Api::Metadata, garbage(), ""),
        case("metadata: half an answer", Api::Metadata, Answer::Half, ""),
        case("metadata: another's answer", Api::Metadata, Answer::WrongNumber, ""),
    ]
}

fn arrays() -> Vec<Case> {
    let new = Body::default;
    let named = || new().i16(0).i32(1).i16(i16::MAX);
    let brokers = || new().i32(0).i32(0);
    let members = |count| new().i16(0).i32(1).string("range").string("m").string("m").i32(count);
    let assigned = |count| new().i16(0).bytes(&new().i16(0).i32(count).string(TOPIC));
    vec![
        body("versions: -1 of them", Api::Versions, new().i16(0).u8(0).i32(0).u8(0), "").known(Known::Dies),
        body("versions: 2^31 of them", Api::Versions, Body([0, 0, 0x80, 0x80, 0x80, 0x80, 8].to_vec()), ""),
        body("metadata: -1 brokers", Api::Metadata, new().i32(-1).i32(0).i32(0), "").known(Known::Dies),
        body("metadata: 2^31-1 brokers", Api::Metadata, new().i32(i32::MAX).i32(0).i32(0), ""),
        body("metadata: -1 topics", Api::Metadata, brokers().i32(-1), ""),
        body("metadata: 2^31-1 topics", Api::Metadata, brokers().i32(i32::MAX), ""),
        body("metadata: -1 partitions", Api::Metadata, brokers().i32(1).append(&topic(-1)), "").known(Known::Dies),
        body("metadata: 2^31-1 partitions", Api::Metadata, brokers().i32(1).append(&topic(i32::MAX)), ""),
        body("coordinator: a name beyond the end", Api::FindCoordinator, named(), ""),
        body("join: -1 members", Api::JoinGroup, members(-1), "").known(Known::Dies),
        body("join: 2^31-1 members", Api::JoinGroup, members(i32::MAX), "").known(Known::Silent),
        body("sync: -1 topics", Api::SyncGroup, assigned(-1), "").known(Known::Silent),
        body("sync: 2^31-1 topics", Api::SyncGroup, assigned(i32::MAX), ""),
        body("committed: -1 topics", Api::OffsetFetch, new().i32(-1), "").known(Known::Silent),
        body("committed: 2^31-1 topics", Api::OffsetFetch, new().i32(i32::MAX), "").known(Known::Silent),
        body("offsets: -1 topics", Api::ListOffsets, new().i32(-1), "").known(Known::Silent),
        body("offsets: 2^31-1 topics", Api::ListOffsets, new().i32(i32::MAX), "").known(Known::Silent),
    ]
}

fn batches() -> Vec<Case> {
    const BOMB: usize = 1 << 29;
    let good = batch(Codec::None, 1, &record(b"value"));
    let mut damaged = good.clone();
    *damaged.last_mut().expect("a batch has bytes") ^= 1;
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
    let fetch = |name, batches: &[u8], said| body(name, Api::Fetch, fetched(batches), said);
    let bomb = |name, codec, bytes: &[u8], said| fetch(name, &batch(codec, 1, bytes), said);
    let new = Body::default;
    let saying = |length| new().i32(0).i32(1).string(TOPIC).i32(1).i32(0).i16(0).i64(9).i64(9).i32(-1).i32(length);
    vec![
        case("fetch: a frame of 2 GiB", Api::Fetch, long(i32::MAX), ""),
        case("fetch: half an answer", Api::Fetch, Answer::Half, ""),
        body("fetch: -1 topics", Api::Fetch, new().i32(0).i32(-1), ""),
        body("fetch: 2^31-1 topics", Api::Fetch, new().i32(0).i32(i32::MAX), ""),
        body("fetch: -1 bytes", Api::Fetch, saying(-1), ""),
        body("fetch: 2^31-1 bytes", Api::Fetch, saying(i32::MAX), ""),
        fetch("batch: a wrong checksum", &damaged, "failed CRC32C check"),
        fetch("batch: 2^31-1 records", &batch(Codec::None, i32::MAX, &record(b"value")), ""),
        // Taken for the end of an answer that was cut for its length, as brokers may.
        fetch("batch: a record of 2 GiB", &batch(Codec::None, 1, &huge), "").known(Known::Silent),
        fetch("batch: half of one", &good[..good.len() / 2], "").known(Known::Silent),
        bomb("bomb: zstd that tells its length", Codec::Zstd, &zstd_bomb(BOMB, Tells::Length), ""),
        bomb("bomb: zstd that tells nothing", Codec::Zstd, &zstd_bomb(BOMB, Tells::Nothing), ""),
        bomb("bomb: snappy", Codec::Snappy, &snappy_bomb(BOMB / 2), "").known(Known::Swells),
        bomb("bomb: lz4", Codec::Lz4, &lz4_bomb(BOMB), "").known(Known::Swells),
        bomb("bomb: gzip", Codec::Gzip, &gzip_bomb(BOMB), "").known(Known::Swells),
    ]
}

fn logins() -> Vec<Case> {
    let first = |name, say, said| case(name, Api::SaslAuthenticate, Answer::ServerFirst(say), said);
    vec![
        first("scram: 1 iteration", |nonce| format!("r={nonce}x,s=c2FsdA==,i=1"), ""),
        first("scram: 2^31 iterations", |nonce| format!("r={nonce}x,s=c2FsdA==,i=2147483648"), ""),
        first("scram: 2^32+1 iterations", |nonce| format!("r={nonce}x,s=c2FsdA==,i=4294967297"), ""),
        first("scram: -1 iterations", |nonce| format!("r={nonce}x,s=c2FsdA==,i=-1"), ""),
        first("scram: another's nonce", |_| "r=fyko+d2lbbFgONRv9qkxdawL,s=c2FsdA==,i=4096".to_owned(), ""),
        first("scram: the client's nonce alone", |nonce| format!("r={nonce},s=c2FsdA==,i=4096"), ""),
        first("scram: a wrong proof", |nonce| format!("r={nonce}x,s=c2FsdA==,i=4096"), ""),
        first("scram: no salt", |nonce| format!("r={nonce}x,i=4096"), ""),
        first("scram: nothing", |_| String::new(), ""),
        case("scram: a frame of 2 GiB", Api::SaslAuthenticate, long(i32::MAX), ""),
        body("scram: 2^31-1 bytes", Api::SaslAuthenticate, Body::default().i16(0).i16(-1).i32(i32::MAX), ""),
        body("scram: 2^31-1 mechanisms", Api::SaslHandshake, Body::default().i16(0).i32(i32::MAX), ""),
    ]
}

/// Starts a worker on the broker of that case.
fn start(dir: &std::path::Path, case: &Case) -> (Hostile, Process) {
    let broker = Hostile::start(case.to, case.answer.clone());
    let mut properties = format!(
        "bootstrap.servers={}\nsocket.timeout.ms=2000\n\
         partition.assignment.strategy=range\n",
        broker.address()
    );
    if matches!(case.to, Api::SaslAuthenticate | Api::SaslHandshake) {
        properties.push_str(&format!(
            "security.protocol=sasl_plaintext\nwaterwheel.dangerously.allow.plaintext.sasl=true\n\
             sasl.mechanism=SCRAM-SHA-256\nsasl.username=alice\nsasl.password={PASSWORD}\n"
        ));
    }
    let file = dir.join(broker.address().port().to_string());
    std::fs::write(&file, properties).expect("the temporary directory can be written to");
    let file = file.to_string_lossy();
    let words = ["bench", "consume", "--command-config", &file, "--topic", TOPIC, "--group", "g", "--count", "9", "-v"];
    (broker, Process::waterwheel(&words))
}

/// What is said of the broker. How the worker gets on, and warnings of the configuration, are of no interest here.
fn told(process: &Process) -> String {
    let said = process.stderr();
    let of_broker = |line: &&str| {
        let is_own = line.contains(" INFO waterwheel::driver") || line.contains("waterwheel::connection");
        !is_own && !line.is_empty()
    };
    said.lines().filter(of_broker).map(|line| format!("{line}\n")).collect()
}

/// Whether a signal would end the process in order: it has got so far.
fn catches_term(process: &Process) -> bool {
    let status = format!("/proc/{}/status", process.pid().as_raw_nonzero());
    let status = std::fs::read_to_string(status).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> 14 & 1 == 1)
}

/// What went wrong with one case.
fn judge_one(case: &Case, broker: &Hostile, process: &mut Process) -> Vec<String> {
    let mut peak = 0;
    // Looks since it was answered: what it may leave unsaid, and has not said by then, it will not say.
    let mut looks = 0;
    wait_until(PATIENCE, &format!("a worker to meet {}", case.name), || {
        peak = peak.max(process.size().map_or(0, |size| size.most_rss));
        let said = told(process);
        looks += usize::from(broker.given() > 0);
        let has_shown = match case.known {
            Known::Nothing => !said.is_empty() && said.contains(case.said),
            Known::Dies => false,
            Known::Silent => !said.is_empty() || looks > 300,
            Known::Swells => peak << 10 > MEMORY,
        };
        process.has_ended() || broker.given() > 0 && has_shown && catches_term(process)
    });
    if !process.has_ended() {
        peak = peak.max(process.size().map_or(0, |size| size.most_rss));
        process.signal(Signal::TERM);
    }
    let status = process.wait(PATIENCE);
    let said = told(process);
    let figures = serde_json::json!({
        "case": case.name, "given": broker.given(), "exit": status.code(), "signal": status.signal(), "peak_mib": peak >> 10,
        "said": said.lines().next(),
    });
    println!("{figures}");
    let secret = |text: &[u8]| text.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes());
    let may_be_silent = matches!(case.known, Known::Dies | Known::Silent | Known::Swells);
    let faults = [
        ("void: it was not asked", broker.given() == 0),
        ("it ended by a signal, or not as is known", status.signal().is_some() != (case.known == Known::Dies)),
        ("it panicked", said.contains("panicked")),
        ("nothing is said", said.is_empty() && !may_be_silent),
        ("something else is said", !said.contains(case.said)),
        ("the password is told", secret(said.as_bytes()) || secret(&broker.heard())),
        ("it holds more or less than known", (peak << 10 > MEMORY) != (case.known == Known::Swells)),
    ];
    faults.iter().filter(|(_, is_so)| *is_so).map(|(fault, _)| format!("{}: {fault}: {said}", case.name)).collect()
}

fn judge(cases: &[Case]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut faults = Vec::new();
    for some in cases.chunks(8) {
        let started: Vec<_> = some.iter().map(|case| (case, start(dir.path(), case))).collect();
        for (case, (broker, mut process)) in started {
            faults.extend(judge_one(case, &broker, &mut process));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn frames_that_are_none_do_not_harm_a_worker() {
    judge(&frames());
}

#[test]
fn arrays_of_impossible_lengths_do_not_harm_a_worker() {
    judge(&arrays());
}

#[test]
fn damaged_batches_and_bombs_do_not_harm_a_worker() {
    judge(&batches());
}

#[test]
fn scram_servers_that_cheat_learn_nothing() {
    judge(&logins());
}
