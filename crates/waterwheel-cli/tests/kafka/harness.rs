//! The support itself: what the other tests rely on.

use std::time::Duration;

use rustix::process::Signal;
use waterwheel_cli::audit::Records;

use crate::support::{Cluster, Kafka, Process, topic_name, wait_until};

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
    wait_until(Duration::from_secs(10), "the process to be up", || process.stdout() == "up\n");
    process.signal(Signal::STOP);
    process.signal(Signal::TERM);
    process.signal(Signal::CONT);
    assert_eq!(process.wait(Duration::from_secs(10)).code(), Some(7));
    assert_eq!((process.stdout().as_str(), process.stderr().as_str()), ("up\nended\n", ""));
}

#[test]
fn the_command_runs() {
    let mut process = Process::waterwheel(&["--version"]);
    assert!(process.wait(Duration::from_secs(10)).success(), "{}", process.stderr());
}
