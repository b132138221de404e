//! TLS, client certificates and SASL, and what is wrong with them.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use waterwheel::{DeadLetter, Failure, Message, Raw};

use crate::support::{Answer, Api, Cluster, Entry, Hostile, Kafka, PATIENCE, Process, Trial, topic_name, wait_until};

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
        // All that there is to tell, of which nothing may be a secret.
        "-vvv",
        "-X",
        "debug=all",
    ];
    (Process::waterwheel(&words), number)
}

/// What is a secret here, and what would give it away.
fn secrets(dir: &Path) -> Vec<String> {
    let mut secrets = vec!["alice-secret".to_owned(), "wrong-canary-8461".to_owned()];
    // As PLAIN sends it, and the lines of private keys.
    secrets.push("AGFsaWNlAGFsaWNlLXNlY3JldA".to_owned());
    for key in ["client.key", "server.key", "ca.key"] {
        let text = std::fs::read_to_string(dir.join(key)).expect("the cluster's keys are there");
        secrets.extend(text.lines().filter(|line| line.len() > 40 && !line.starts_with("--")).map(str::to_owned));
    }
    secrets
}

/// Fails the test if a secret is in the outputs or in a journal, or if the outputs tell so little that it proves nothing.
#[track_caller]
fn assert_tells_no_secret(trial: &Trial<'_>, process: &Process) {
    let tls = trial.kafka.tls_file("ca.pem");
    let secrets = secrets(tls.parent().expect("a folder"));
    let mut texts = vec![process.stdout(), process.stderr()];
    assert!(texts[1].contains("SSL") && texts[1].contains("TRACE waterwheel::librdkafka"), "void: {}", texts[1]);
    texts.extend(trial.journal_texts());
    for text in texts {
        let told = secrets.iter().filter(|secret| text.contains(secret.as_str())).count();
        assert_eq!(told, 0, "secrets are told");
    }
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
        assert_tells_no_secret(&trial, &process);
        trial.judge_undisturbed();
    }

    let wrong = [
        (scram(&ca, "SCRAM-SHA-512", "wrong-canary-8461", "wrong-password"), "uthenticat"),
        (scram(&other_ca, "SCRAM-SHA-512", "alice-secret", "other-ca-sasl"), "ertificate"),
        (mtls(&other_ca, true, "other-ca-mtls"), "ertificate"),
        (mtls(&ca, false, "no-certificate"), "ertificate"),
    ];
    // Among all that is told, a warning has to name what is wrong.
    let warned = |process: &Process, word: &str| {
        process
            .stderr()
            .lines()
            .any(|line| (line.contains(" WARN ") || line.contains(" ERROR ")) && line.contains(word))
    };
    let mut trial = Trial::new(&kafka, "no-login", 2);
    trial.produce(200, 50);
    for (config, word) in &wrong {
        let (mut process, number) = consume(&mut trial, "strangers", config);
        wait_until(PATIENCE, &format!("{config} to be refused"), || warned(&process, word));
        assert_eq!(trial.journal(number).starts, 0, "{config}");
        if config.ends_with("wrong-password") {
            let status = process.wait(PATIENCE);
            assert_eq!(status.code(), Some(6), "{config}: {}", process.stderr());
        }
        assert_tells_no_secret(&trial, &process);
    }
}

/// A TLS server that is no broker, and keeps what it is sent.
struct Stranger {
    process: Process,
    address: String,
}

impl Stranger {
    fn start(dir: &Path, certificate: &str) -> Self {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let (certificate, key, accept) = (path(certificate), path("server.key"), port.to_string());
        // It ends each connection when its input ends, so it gets one that does not end.
        let pipe = path(&format!("pipe-{port}"));
        let words = ["-c", "mkfifo \"$0\" && exec openssl s_server \"$@\" 0<>\"$0\"", &pipe];
        let server = ["-quiet", "-accept", &accept, "-cert", &certificate, "-key", &key];
        let process = Process::start("sh", &[&words[..], &server].concat());
        wait_until(PATIENCE, "a TLS server to listen", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { process, address: format!("localhost:{port}") }
    }
}

fn openssl(dir: &Path, arguments: &[&str]) {
    let ran = Command::new("openssl").args(arguments).current_dir(dir).output().expect("openssl can be run");
    assert!(ran.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Certificates of one server: right, expired, and of another host.
fn certificates(dir: &Path) {
    for name in ["ca", "other-ca"] {
        let (key, pem, subject) = (format!("{name}.key"), format!("{name}.pem"), format!("/CN={name}"));
        let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"];
        openssl(dir, &[&new[..], &["-subj", &subject, "-keyout", &key, "-out", &pem]].concat());
    }
    let request = ["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=server"];
    openssl(dir, &[&request[..], &["-keyout", "server.key", "-out", "server.csr"]].concat());
    for (name, host, days) in
        [("right.pem", "localhost", "30"), ("expired.pem", "localhost", "-1"), ("elsewhere.pem", "elsewhere", "30")]
    {
        std::fs::write(dir.join("names"), format!("subjectAltName=DNS:{host}"))
            .expect("the directory can be written to");
        let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        openssl(dir, &[&sign[..], &["-days", days, "-extfile", "names", "-out", name]].concat());
    }
}

#[expect(clippy::disallowed_methods, reason = "it is measured how soon something is told")]
fn now() -> Instant {
    Instant::now()
}

/// Who cannot be trusted, or speaks no TLS, is told so within 5 s, and gets nothing of a login.
#[test]
fn strangers_are_told_within_five_seconds_and_get_no_byte_of_a_login() {
    const SOON: Duration = Duration::from_secs(5);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    certificates(dir);
    let login = |name: &str, address: &str, protocol: &str, ca: &str| -> String {
        let ca = dir.join(ca).to_string_lossy().into_owned();
        let mut properties = vec![
            ("bootstrap.servers", address),
            ("security.protocol", protocol),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "alice"),
            ("sasl.password", "stranger-canary-3307"),
        ];
        match protocol {
            "sasl_ssl" => properties.push(("ssl.ca.location", &ca)),
            "plaintext" => properties.truncate(2),
            _ => properties.push(("waterwheel.dangerously.allow.plaintext.sasl", "true")),
        }
        file(dir, name, &properties)
    };
    let consume = |config: &str| {
        Process::waterwheel(&["bench", "consume", "--command-config", config, "--topic", "t", "--count", "9"])
    };
    let mut faults = Vec::new();
    let mut judge = |name: &str, config: &str, word: &str| {
        let mut process = consume(config);
        let began = now();
        wait_until(PATIENCE, name, || {
            process.stderr().contains(word) || process.has_ended() || began.elapsed() > 2 * SOON
        });
        let took = began.elapsed();
        let said = process.stderr();
        println!("{}", serde_json::json!({"case": name, "seconds": took.as_secs_f64()}));
        if !said.contains(word) || took > SOON {
            faults.push(format!("{name}: after {took:?}: {said}"));
        }
        assert!(!said.contains("stranger-canary"), "{name}: the password is told");
    };

    for (name, certificate, ca, word) in [
        // librdkafka does not say what it is that is wrong with a certificate.
        ("expired", "expired.pem", "ca.pem", "certificate verify failed"),
        ("another host", "elsewhere.pem", "ca.pem", "certificate verify failed"),
        ("unknown authority", "right.pem", "other-ca.pem", "certificate verify failed"),
    ] {
        let stranger = Stranger::start(dir, certificate);
        judge(name, &login(name, &stranger.address, "sasl_ssl", ca), word);
        assert_eq!(stranger.process.stdout(), "", "{name}: something was sent");
    }
    // As it is when the certificate is right: or nothing would be proven.
    let stranger = Stranger::start(dir, "right.pem");
    let trusting = consume(&login("right", &stranger.address, "sasl_ssl", "ca.pem"));
    wait_until(PATIENCE, "something to be sent to who is trusted", || !stranger.process.stdout().is_empty());
    drop(trusting);

    // No more is said of it (`SECURITY.md`).
    judge("plaintext to TLS", &login("plain-to-tls", &stranger.address, "plaintext", ""), "brokers are down");
    let broker = Hostile::start(Api::Versions, Answer::Half);
    let address = broker.address().to_string();
    judge("TLS to plaintext", &login("tls-to-plain", &address, "sasl_ssl", "ca.pem"), "SSL");
    let heard = broker.heard();
    assert!(!heard.is_empty(), "void: nothing was sent to the plaintext port");
    assert!(!String::from_utf8_lossy(&heard).contains("alice"), "the login was sent in plaintext");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

const REAUTHENTICATE: &str = "connections.max.reauth.ms=5000";

/// The properties of a login by SCRAM.
fn scram(kafka: &Kafka, bootstrap: &str, password: &str) -> Vec<(&'static str, String)> {
    vec![
        ("bootstrap.servers", bootstrap.to_owned()),
        ("security.protocol", "sasl_ssl".to_owned()),
        ("ssl.ca.location", kafka.tls_file("ca.pem").to_string_lossy().into_owned()),
        ("sasl.mechanism", "SCRAM-SHA-512".to_owned()),
        ("sasl.username", "alice".to_owned()),
        ("sasl.password", password.to_owned()),
    ]
}

/// A user's login by SCRAM at the cluster's own listener.
pub(crate) fn scram_of(kafka: &Kafka, user: &str, password: &str) -> BTreeMap<String, String> {
    let mut properties: BTreeMap<_, _> =
        scram(kafka, &kafka.bootstrap_sasl(), password).into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    properties.insert("sasl.username".to_owned(), user.to_owned());
    properties
}

fn borrowed<'a>(properties: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    properties.iter().map(|(key, value)| (*key, value.as_str())).collect()
}

/// What is not allowed is told by its name and ends the worker or holds its partition, and once it is allowed all goes on.
/// Meanwhile the brokers ask for a new login every 5 s.
#[test]
fn rights_that_are_missing_are_named_and_new_logins_cost_nothing() {
    let cluster = Cluster::of(1).secure().proxied(45).property(REAUTHENTICATE);
    let cluster = cluster.property("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer");
    // The plaintext listener's users, who have no name: the test itself.
    let Some(kafka) = cluster.property("super.users=User:ANONYMOUS").start() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let sasl = kafka.bootstrap_sasl();
    let allow = |what: &[&str]| {
        let words = [&["--add", "--allow-principal", "User:alice", "--force"][..], what].concat();
        kafka.tool("acls", &words);
    };
    let mut trial = Trial::new(&kafka, "rights", 2);
    trial.produce(1_000, 50);
    let config = file(dir.path(), "config", &borrowed(&scram(&kafka, &sasl, "alice-secret")));
    let (topic, group) = (trial.topic.clone(), trial.group.clone());
    let refused = |trial: &mut Trial<'_>, word: &str| {
        let (mut process, number) = consume(trial, &group, &config);
        wait_until(PATIENCE, &format!("{word} to be told"), || process.has_ended() || process.stderr().contains(word));
        let status = process.wait(PATIENCE);
        assert_eq!(status.code(), Some(6), "{word}: {}", process.stderr());
        assert!(process.stderr().contains(word), "{word}: {}", process.stderr());
        assert_eq!(trial.journal(number).starts, 0, "{word}");
        assert_tells_no_secret(trial, &process);
    };
    // One at a time: of two that are missing, either may be met first.
    allow(&["--operation", "read", "--group", &group]);
    refused(&mut trial, "Topic authorization failed");
    allow(&["--operation", "read", "--topic", &topic]);
    kafka.tool(
        "acls",
        &["--remove", "--allow-principal", "User:alice", "--force", "--operation", "read", "--group", &group],
    );
    refused(&mut trial, "Group authorization failed");
    allow(&["--operation", "read", "--group", &group]);

    // A dead-letter topic that may not be written to.
    let dead = topic_name("rights-dead");
    kafka.create_topic(&dead, 1, &[]);
    let poison = kafka.produce(&trial.topic, [(Some("p".to_owned()), "poison".to_owned())]);
    trial.was_produced(poison);
    let handler = async |message: Message<Raw>| match message.value().is_some_and(|value| value.starts_with(b"poison"))
    {
        true => Err(Failure::dead_letter("poison")),
        false => Ok(()),
    };
    let addresses = kafka.bootstrap_proxied();
    let properties = scram(&kafka, &addresses, "alice-secret");
    let worker = trial.inside(&borrowed(&properties), |builder| builder.dead_letter(DeadLetter::topic(&dead)), handler);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    wait_until(PATIENCE, "health to tell that a partition is held", || {
        format!("{:?}", runtime.block_on(worker.handle.health())).contains("held because")
    });
    assert!(!trial.is_done(), "the dead letter cannot have been written");
    allow(&["--operation", "write", "--operation", "describe", "--topic", &dead]);
    trial.await_done(PATIENCE);
    worker.stop();
    trial.assert_all_committed();

    // Two logins later, and after a reset of all connections, nothing was revoked.
    let (number, journal) = trial.new_journal();
    let journal = journal.to_string_lossy().into_owned();
    let through = file(dir.path(), "through", &borrowed(&properties));
    let more = ["--count", "1000000", "-vvv", "-X", "debug=all", "--journal", &journal];
    let words = ["bench", "consume", "--command-config", &through, "--topic", &topic, "--group", &group];
    let mut member = Process::waterwheel(&[&words[..], &more].concat());
    let logins = |process: &Process| process.stderr().matches("Received REAUTH op").count();
    wait_until(PATIENCE, "four new logins", || {
        trial.produce(20, 10);
        logins(&member) >= 4
    });
    kafka.proxies()[0].reset();
    trial.produce(1_000, 50);
    trial.await_done(PATIENCE);
    member.signal(Signal::TERM);
    assert_eq!(member.wait(PATIENCE).code(), Some(0), "{}", member.stderr());
    assert_tells_no_secret(&trial, &member);
    let entries = &trial.journal(number).entries;
    let assigned = entries.iter().filter(|entry| matches!(entry, Entry::Assigned(..))).count();
    assert_eq!(assigned, 2, "each partition is assigned once");
    trial.assert_all_committed();

    // Another password: who comes with the old one is refused, who comes with the new one goes on.
    kafka.tool(
        "configs",
        &[
            "--alter",
            "--add-config",
            "SCRAM-SHA-512=[password=alice-secret-2]",
            "--entity-type",
            "users",
            "--entity-name",
            "alice",
        ],
    );
    trial.produce(1_000, 50);
    let (mut late, number) = consume(&mut trial, &group, &config);
    assert_eq!(late.wait(PATIENCE).code(), Some(6), "{}", late.stderr());
    assert_eq!(trial.journal(number).starts, 0);
    let renewed = file(dir.path(), "renewed", &borrowed(&scram(&kafka, &sasl, "alice-secret-2")));
    let (number, journal) = trial.new_journal();
    let journal = journal.to_string_lossy().into_owned();
    let words = ["bench", "consume", "--command-config", &renewed, "--topic", &topic, "--group", &group];
    let mut new = Process::waterwheel(&[&words[..], &["--count", "1000000", "--journal", &journal]].concat());
    trial.await_done(PATIENCE);
    assert_eq!(trial.journal(number).starts, 1_000);
    new.signal(Signal::TERM);
    assert_eq!(new.wait(PATIENCE).code(), Some(0), "{}", new.stderr());
    trial.assert_all_committed();
    // Rights that were missing, sessions that ended, a password that was changed.
    trial.injected(3);
    trial.judge(0);
}
