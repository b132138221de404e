//! TLS, client certificates and SASL, and what is wrong with them.

use std::path::Path;
use std::time::Duration;

use crate::support::{Cluster, PATIENCE, Process, Trial, wait_until};

/// A properties file, since passwords are refused on the command line.
fn file(dir: &Path, name: &str, properties: &[(&str, &str)]) -> String {
    let text: String = properties.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    let path = dir.join(name);
    std::fs::write(&path, text).expect("the temporary directory can be written to");
    path.to_string_lossy().into_owned()
}

fn consume(trial: &mut Trial<'_>, group: &str, config: &str) -> (Process, usize) {
    let (number, journal) = trial.new_journal();
    let journal = journal.to_string_lossy().into_owned();
    let count = trial.produced().len().to_string();
    let words = [
        "bench",
        "consume",
        "--command-config",
        config,
        "--topic",
        &trial.topic,
        "--group",
        group,
        "--count",
        &count,
        "--journal",
        &journal,
    ];
    (Process::waterwheel(&words), number)
}

#[test]
fn every_kind_of_login_works_and_wrong_ones_do_not() {
    let Some(kafka) = Cluster::of(1).secure().start() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| kafka.tls_file(name).to_string_lossy().into_owned();
    let (ca, other_ca, certificate, key) =
        (path("ca.pem"), path("other-ca.pem"), path("client.pem"), path("client.key"));
    let (sasl, tls) = (kafka.bootstrap_sasl(), kafka.bootstrap_tls());
    let scram = |ca: &str, mechanism: &str, password: &str, name: &str| {
        let properties = [
            ("bootstrap.servers", &*sasl),
            ("security.protocol", "sasl_ssl"),
            ("ssl.ca.location", ca),
            ("sasl.mechanism", mechanism),
            ("sasl.username", "alice"),
            ("sasl.password", password),
        ];
        file(dir.path(), name, &properties)
    };
    let mtls = |ca: &str, with_certificate: bool, name: &str| {
        let mut properties = vec![("bootstrap.servers", &*tls), ("security.protocol", "ssl"), ("ssl.ca.location", ca)];
        if with_certificate {
            properties.extend([("ssl.certificate.location", &*certificate), ("ssl.key.location", &*key)]);
        }
        file(dir.path(), name, &properties)
    };

    let right = [
        scram(&ca, "SCRAM-SHA-512", "alice-secret", "scram-512"),
        scram(&ca, "SCRAM-SHA-256", "alice-secret", "scram-256"),
        scram(&ca, "PLAIN", "alice-secret", "plain"),
        mtls(&ca, true, "mtls"),
    ];
    for config in &right {
        let mut trial = Trial::new(&kafka, "login", 2);
        trial.produce(200, 50);
        let group = trial.group.clone();
        let (mut process, _) = consume(&mut trial, &group, config);
        let status = process.wait(PATIENCE);
        assert_eq!(status.code(), Some(0), "{config}: {}", process.stderr());
        trial.assert_all_committed();
        trial.judge_undisturbed();
    }

    let wrong = [
        (scram(&ca, "SCRAM-SHA-512", "wrong-canary-8461", "wrong-password"), "uthenticat"),
        (scram(&other_ca, "SCRAM-SHA-512", "alice-secret", "other-ca-sasl"), "ertificate"),
        (mtls(&other_ca, true, "other-ca-mtls"), "ertificate"),
        (mtls(&ca, false, "no-certificate"), "ertificate"),
    ];
    let mut trial = Trial::new(&kafka, "no-login", 2);
    trial.produce(200, 50);
    for (config, word) in &wrong {
        let (mut process, number) = consume(&mut trial, "strangers", config);
        wait_until(PATIENCE, &format!("{config} to be refused"), || process.stderr().contains(word));
        assert_eq!(trial.journal(number).starts, 0, "{config}");
        if config.ends_with("wrong-password") {
            let status = process.wait(Duration::from_secs(20));
            assert_eq!(status.code(), Some(6), "{config}: {}", process.stderr());
        }
        assert!(!process.stderr().contains("canary-8461"), "{config}: a password is told");
    }
}
