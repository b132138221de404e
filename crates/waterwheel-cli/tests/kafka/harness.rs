//! The support itself: what the other tests rely on.

use rustix::process::Signal;
use waterwheel_cli::audit::Records;

use crate::support::commits::{Faults, Said, Written, java_hash, judge};
use crate::support::{Cluster, Kafka, PATIENCE, Process, Protocol, Trial, topic_name, wait_until};

#[test]
fn records_are_produced_and_their_places_told() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("harness");
    kafka.create_topic(&topic, 3, &[("retention.ms", "600000")]);

    let produced = kafka.produce(&topic, (0..500).map(|n| (Some(format!("k{}", n % 7)), format!("v{n}"))));

    assert_eq!(produced.len(), 500);
    let end_offsets = kafka.tool("get-offsets", &["--topic", &topic]);
    let sum: i64 = end_offsets.lines().filter_map(|line| line.rsplit(':').next()?.parse::<i64>().ok()).sum();
    assert_eq!(sum, 500, "{end_offsets}");

    let dir = tempfile::tempdir().expect("a temporary directory");
    let list = produced.write(dir.path());
    let file = std::io::BufReader::new(std::fs::File::open(list).expect("the list was written"));
    Records::read(file, "list").expect("the list is what the audit reads");
}

#[test]
fn a_cluster_of_ones_own_survives_a_killed_and_a_frozen_broker() {
    let Some(kafka) = Cluster::of(3).property("log.segment.bytes=1048576").start() else { return };
    let topic = topic_name("faults");
    kafka.create_topic(&topic, 3, &[]);
    kafka.kill(2);
    kafka.pause(3);
    kafka.resume(3);
    kafka.boot(2);
    kafka.stop(1);
    kafka.boot(1);
    kafka.await_brokers(3);
    assert_eq!(kafka.produce(&topic, [(None, "v".to_owned())]).len(), 1);
}

#[test]
fn a_secure_cluster_has_its_listeners_and_certificates() {
    let Some(kafka) = Cluster::of(1).secure().start() else { return };
    assert_ne!(kafka.bootstrap_sasl(), kafka.bootstrap_tls());
    for name in ["ca.pem", "client.pem", "client.key", "other-ca.pem"] {
        assert!(kafka.tls_file(name).exists(), "{name}");
    }
}

#[test]
fn a_process_is_watched_and_signalled() {
    let mut process =
        Process::start("sh", &["-c", "trap 'echo ended; exit 7' TERM; echo up; while :; do sleep 0.05; done"]);
    wait_until(PATIENCE, "the process to be up", || process.stdout() == "up\n");
    process.signal(Signal::STOP);
    process.signal(Signal::TERM);
    process.signal(Signal::CONT);
    assert_eq!(process.wait(PATIENCE).code(), Some(7));
    assert_eq!((process.stdout().as_str(), process.stderr().as_str()), ("up\nended\n", ""));
}

#[test]
fn the_command_runs() {
    let mut process = Process::waterwheel(&["--version"]);
    assert!(process.wait(PATIENCE).success(), "{}", process.stderr());
}

/// A journal that says commits of 2 and 4 at 100 and 200, and ends of 0 to 3, the last one after 300.
fn said() -> Said {
    let mut said = Said::default();
    [(2, 100), (4, 200)].into_iter().for_each(|(offset, ns)| said.committing((0, offset), ns));
    [(0, 0), (1, 50), (2, 150), (3, 300)].into_iter().for_each(|(offset, ns)| said.finished((0, offset), ns));
    said
}

#[test]
fn commits_that_the_brokers_wrote_are_held_against_the_journals() {
    let wrote = |offset| Written { partition: 0, offset };
    let judged = |written: &[Written], by_hand: &[(i32, i64)]| {
        judge(written, &said(), by_hand, &[], &[(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)])
    };
    let fault = |told: &str| vec![told.to_owned()];
    assert!(judged(&[wrote(Some(2)), wrote(Some(2))], &[]).none());
    let back = judged(&[wrote(Some(2)), wrote(Some(3)), wrote(Some(2))], &[(0, 3)]);
    assert_eq!(back, Faults { back: fault("0@2 after 3"), ..Faults::default() });
    let cut_off = judge(&[wrote(Some(4)), wrote(Some(2)), wrote(Some(1))], &said(), &[(0, 4), (0, 1)], &[0], &[]);
    assert!(cut_off.none(), "{cut_off:?}");
    assert!(judged(&[wrote(Some(2)), wrote(None), wrote(Some(2))], &[]).none(), "what was forgotten is no limit");
    let unsaid = judged(&[wrote(Some(1))], &[]);
    assert_eq!(unsaid, Faults { unsaid: fault("0@1"), ..Faults::default() });
    let early = judged(&[wrote(Some(4))], &[]);
    assert_eq!(early, Faults { early: fault("0@4 above 3"), ..Faults::default() });
    assert!(judged(&[wrote(Some(4))], &[(0, 4)]).none(), "the test's own commits may say anything");
}

#[test]
fn commits_are_read_from_the_brokers_own_topic() {
    // As Java says: "group-a".hashCode().
    assert_eq!((java_hash("group-a"), java_hash("")), (293_427_347, 0));
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, "harness-commits", 2);
    trial.produce(100, 10);
    trial.commit(&[(0, 3, "by hand"), (1, 7, "")]);
    trial.commit(&[(0, 0, ""), (1, 0, "")]);
    let from = kafka.end_of_commits(&trial.group).expect("the topic is there").1 - 4;
    let written = kafka.written_commits(&trial.group, &trial.topic, from);
    let wrote = |partition, offset| Written { partition, offset: Some(offset) };
    for expected in [wrote(0, 3), wrote(1, 7), wrote(0, 0), wrote(1, 0)] {
        assert!(written.contains(&expected), "{expected:?} is not among {written:?}");
    }
    let member = trial.member(&Protocol::Consumer.properties(), &[]);
    trial.await_done(PATIENCE);
    trial.end(member);
    trial.judge_undisturbed();
}
