//! A machine that gives too little: memory, time, room on disk. And handlers that give nothing back.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Bytes, Entry, Kafka, PATIENCE, Process, Protocol, Trial, is_whole, topic_name, wait_until};

/// A control group (version 1) of one controller; gone when this is dropped. Needs root.
struct Group(PathBuf);

impl Group {
    fn new(controller: &str, limits: &[(&str, &str)]) -> Option<Self> {
        let path = PathBuf::from(format!("/sys/fs/cgroup/{controller}/{}", topic_name("waterwheel")));
        let made = fs::create_dir(&path)
            .and_then(|()| limits.iter().try_for_each(|(name, value)| fs::write(path.join(name), value)));
        if let Err(error) = made {
            let _ = fs::remove_dir(&path);
            eprintln!("SKIPPED: no control groups of the {controller} controller: {error}");
            return None;
        }
        Some(Self(path))
    }

    fn take(&self, process: &Process) {
        fs::write(self.0.join("cgroup.procs"), process.pid().as_raw_nonzero().to_string())
            .expect("a live process can be moved");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).expect("the controller tells it")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that has just ended may still be in it.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::yield_now();
        }
        eprintln!("{} stays", self.0.display());
    }
}

/// Records of ten megabytes, so many in each of two partitions.
fn huge(trial: &mut Trial<'_>, each: usize) {
    let record = |n| Bytes { partition: n % 2, value: Some(vec![n as u8; 10_000_000]), ..Bytes::default() };
    for n in 0..each as i32 {
        let produced = trial.kafka.produce_bytes(&trial.topic, &[record(2 * n), record(2 * n + 1)]);
        trial.was_produced(produced);
    }
}

const HUGE: [(&str, &str); 1] = [("max.message.bytes", "12000000")];

#[test]
fn a_worker_keeps_within_its_memory_limit() {
    if !is_whole() {
        return;
    }
    let Some(kafka) = Kafka::shared() else { return };
    let Some(group) = Group::new("memory", &[("memory.limit_in_bytes", "268435456")]) else { return };
    let mut trial = Trial::with(kafka, "memory-limit", 2, &HUGE);
    huge(&mut trial, 20);
    let member = trial.member(&Protocol::Cooperative.properties(), &["--concurrency", "4", "--work-us", "500000"]);
    group.take(&member.process);
    trial.await_done(PATIENCE);
    let most: u64 = group.read("memory.max_usage_in_bytes").trim().parse().expect("a number");
    assert!(group.read("memory.oom_control").lines().any(|line| line == "oom_kill 0"), "it was killed");
    trial.end(member);
    trial.injected(1);
    trial.figure("limit_mib", 256);
    trial.figure("most_mib", most >> 20);
    trial.assert_all_committed();
    trial.judge(0);
}

#[test]
fn a_worker_that_the_system_kills_for_its_memory_loses_nothing() {
    if !is_whole() {
        return;
    }
    let Some(kafka) = Kafka::shared() else { return };
    let Some(group) = Group::new("memory", &[("memory.limit_in_bytes", "50331648")]) else { return };
    let mut trial = Trial::with(kafka, "memory-kill", 2, &HUGE);
    trial.produce(2_000, 100);
    huge(&mut trial, 8);
    let load = ["--concurrency", "16", "--work-us", "5000"];
    let properties = Protocol::Cooperative.properties();
    let mut victim = trial.member(&properties, &load);
    group.take(&victim.process);
    let status = victim.process.wait(PATIENCE);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "void: it ended with {status}");
    assert!(!group.read("memory.oom_control").lines().any(|line| line == "oom_kill 0"), "void: it was not for memory");
    trial.injected(1);
    let since = trial.journal(victim.number).ended_since_commit(2);
    let next = trial.member(&properties, &load);
    trial.await_done(PATIENCE);
    trial.end(next);
    trial.assert_all_committed();
    trial.judge((16 + since) as u64);
}

#[test]
fn a_worker_that_gets_a_twentieth_of_a_processor_keeps_its_partitions() {
    if !is_whole() {
        return;
    }
    let Some(kafka) = Kafka::shared() else { return };
    let quota = [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "5000")];
    let Some(group) = Group::new("cpu", &quota) else { return };
    let mut trial = Trial::new(kafka, "little-time", 4);
    trial.produce(200_000, 2_000);
    let properties = [("partition.assignment.strategy", "cooperative-sticky"), ("session.timeout.ms", "45000")];
    let member = trial.member(&properties, &["--concurrency", "64", "--work-us", "1000"]);
    trial.await_starts(member.number, 1_000);
    group.take(&member.process);
    let throttled = || -> u64 {
        let stat = group.read("cpu.stat");
        stat.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.parse().ok()).unwrap_or(0)
    };
    // Of ten periods a second: for at least 20 s.
    wait_until(PATIENCE, "the worker to be held back", || throttled() >= 200 || trial.is_done());
    trial.injected(throttled() as usize);
    fs::write(group.0.join("cpu.cfs_quota_us"), "-1").expect("a limit can be lifted");
    trial.await_done(PATIENCE);
    let gone = |entry: &&Entry| matches!(entry, Entry::Revoked(_) | Entry::Lost(_));
    assert_eq!(trial.journal(member.number).entries.iter().filter(gone).count(), 0, "it lost partitions");
    trial.end(member);
    trial.assert_all_committed();
    trial.judge(0);
}

/// A file system of its own, gone when this is dropped. Needs root.
struct Disk(tempfile::TempDir);

impl Disk {
    fn of(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut mount = Process::start(
            "mount",
            &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", &dir.path().to_string_lossy()],
        );
        if !mount.wait(PATIENCE).success() {
            eprintln!("SKIPPED: no file system can be mounted: {}", mount.stderr());
            return None;
        }
        Some(Self(dir))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut unmount = Process::start("umount", &["--lazy", &self.0.path().to_string_lossy()]);
        let _ = unmount.wait(PATIENCE);
    }
}

/// The journal is all that a worker writes to a disk. When there is no room for it, work goes on, and the end tells.
#[test]
fn a_full_disk_ends_the_journal_and_not_the_work() {
    let Some(kafka) = Kafka::shared() else { return };
    let Some(disk) = Disk::of("64k") else { return };
    let mut trial = Trial::new(kafka, "full-disk", 2);
    trial.produce(10_000, 500);
    let journal = disk.0.path().join("journal");
    let mut process = Process::waterwheel(&[
        "bench",
        "consume",
        "--count",
        "10000",
        "--bootstrap",
        kafka.bootstrap(),
        "--topic",
        &trial.topic,
        "--group",
        &trial.group,
        "--journal",
        &journal.to_string_lossy(),
    ]);
    let status = process.wait(PATIENCE);
    assert_eq!(status.code(), Some(1), "{}", process.stderr());
    assert!(process.stderr().contains("error: the journal is not whole: No space left"), "{}", process.stderr());
    let bytes = fs::read(&journal).expect("it was made");
    assert!((60_000..=65_536).contains(&bytes.len()), "void: the journal has {} bytes", bytes.len());
    // All was handled, and committed: the journal was not needed for it.
    trial.assert_all_committed();
    // The end that it has is a line cut short at most, and an audit does not take that for a line.
    let produced = trial.produced().write(disk.0.path().parent().expect("it is in a directory"));
    use waterwheel_cli::audit::{Auditor, Order, Records};
    let list = fs::read(&produced).expect("it was written");
    let _ = fs::remove_file(&produced);
    let mut auditor = Auditor::new(Records::read(&*list, "produced").expect("the list is sound"), Order::Key);
    auditor.read_journal(&*bytes, "journal").expect("no line but the last is cut short");
    let verdict = auditor.verdict();
    assert!(verdict.lost.count > 0, "void: all of the journal had room");
    assert!(verdict.torn_lines <= 1, "{verdict:?}");
}

/// Two hundred handlers never end. The others do; a stop ends in time, says what it cut off, and it comes again.
#[test]
fn two_hundred_handlers_that_hang_hold_up_neither_the_others_nor_the_stop() {
    const HUNG: usize = 200;
    const DRAIN: Duration = Duration::from_secs(2);
    const HANDLER: &str = "import json, sys\n\
        for line in sys.stdin:\n    m = json.loads(line)\n\
        \x20   if 'hello' in m: print(json.dumps({'ready': 1, 'concurrency': 250}), flush=True)\n\
        \x20   elif 'id' in m and not m['key'].startswith('hang'):\n\
        \x20       print(json.dumps({'id': m['id'], 'status': 'ok'}), flush=True)\n";
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, "hung", 4);
    let hung = (0..HUNG).map(|n| (Some(format!("hang{n}")), "{}".to_owned()));
    let quick: Vec<_> = trial.records(2_000, 100).into_iter().map(|(key, _)| (key, "{}".to_owned())).collect();
    let produced = kafka.produce(&trial.topic, hung.chain(quick));
    trial.was_produced(produced);

    let (number, journal) = trial.new_journal();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("worker.toml");
    let text = format!(
        "[kafka]\n\"bootstrap.servers\" = {:?}\n[[worker]]\nname = \"w\"\ntopics = [{:?}]\ngroup = {:?}\nconcurrency = 250\n\
         drain_timeout = \"{}s\"\nvalue = \"json\"\n[worker.handler]\nkind = \"exec\"\nprocesses = 1\ntimeout = \"1h\"\n\
         command = [\"python3\", \"-c\", {HANDLER:?}]\n",
        kafka.bootstrap(),
        trial.topic,
        trial.group,
        DRAIN.as_secs(),
    );
    fs::write(&file, text).expect("the temporary directory can be written to");
    let mut process = Process::waterwheel(&["run", &file.to_string_lossy(), "--journal", &journal.to_string_lossy()]);
    wait_until(PATIENCE, "all that can end to be finished", || trial.finished() == 2_000);
    wait_until(PATIENCE, "all others to be started", || trial.journal(number).starts == 2_000 + HUNG);
    let size = process.size().expect("it lives");
    process.signal(Signal::TERM);
    let status = process.wait(DRAIN + Duration::from_secs(3));
    assert_eq!(status.code(), Some(4), "{}", process.stderr());
    trial.injected(HUNG);
    trial.figure("rss_mib", size.rss / 1024);
    assert!(size.rss / 1024 < 100, "{size:?}");

    let next = trial.member(&Protocol::Consumer.properties(), &[]);
    trial.await_done(PATIENCE);
    trial.end(next);
    trial.assert_all_committed();
    let verdict = trial.judge(0);
    assert_eq!(verdict.interrupted, HUNG as u64, "cut off: {verdict:?}");
}
