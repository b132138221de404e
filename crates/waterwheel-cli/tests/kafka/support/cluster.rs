//! Clusters: the one that all tests share, and clusters of a test's own whose brokers it may kill.
//!
//! `scripts/kafka` runs them. It watches this process and takes its clusters down when the process ends, however it ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};

use super::{PATIENCE, Process, Proxy, unique, wait_for, wait_until};

/// A running cluster; one of the test's own ends when this is dropped.
pub(crate) struct Kafka {
    bootstrap: String,
    /// Where the script keeps the cluster; none if it was running already.
    dir: Option<PathBuf>,
    /// Whether the test may do harm to it.
    own: bool,
    /// One a broker, if it was made so.
    proxies: Vec<Proxy>,
    admin: AdminClient<DefaultClientContext>,
}

/// A cluster of a test's own, to be started.
pub(crate) struct Cluster {
    brokers: usize,
    proxies: Vec<Proxy>,
    arguments: Vec<String>,
}

impl Cluster {
    /// A cluster of so many brokers.
    pub(crate) fn of(brokers: usize) -> Self {
        Self { brokers, proxies: Vec::new(), arguments: vec!["--brokers".to_owned(), brokers.to_string()] }
    }

    /// With listeners for SASL and for client certificates.
    pub(crate) fn secure(mut self) -> Self {
        self.arguments.push("--secure".to_owned());
        self
    }

    /// With a proxy before each broker, on one more listener: whoever begins at [`Kafka::bootstrap_proxied`] meets the
    /// brokers there only.
    pub(crate) fn proxied(mut self, seed: u64) -> Self {
        self.proxies = (0..self.brokers as u64).map(|broker| Proxy::new(seed.wrapping_add(broker))).collect();
        let ports: Vec<String> = self.proxies.iter().map(|proxy| proxy.address().port().to_string()).collect();
        self.arguments.extend(["--proxied".to_owned(), ports.join(",")]);
        self
    }

    /// With a property of every broker, `key=value`.
    pub(crate) fn property(mut self, property: &str) -> Self {
        self.arguments.push(property.to_owned());
        self
    }

    /// Starts it. `None` if it cannot be had and need not be.
    pub(crate) fn start(self) -> Option<Kafka> {
        if switched_off() {
            return None;
        }
        had(self.launch(true).map(Some))
    }

    fn launch(self, own: bool) -> Result<Kafka, String> {
        let dir = std::env::temp_dir().join(format!("waterwheel-kafka-{}", unique()));
        let watched = std::process::id().to_string();
        let mut arguments = vec!["start", "--port", "0", "--while", &watched];
        arguments.extend(self.arguments.iter().map(String::as_str));
        let bootstrap = script(&dir, &arguments)?.trim().to_owned();
        // From here on, dropping it takes the cluster down.
        let kafka = Kafka { admin: admin(&bootstrap), bootstrap, dir: Some(dir), own, proxies: self.proxies };
        if !kafka.proxies.is_empty() {
            let behind = kafka.script(&["bootstrap", "behind"]);
            for (proxy, broker) in kafka.proxies.iter().zip(behind.trim().split(',')) {
                proxy.lead_to(broker.parse().expect("the script prints addresses"));
            }
        }
        kafka.await_brokers(self.brokers);
        Ok(kafka)
    }
}

impl Kafka {
    /// The cluster of all tests of this process: that of `WATERWHEEL_BOOTSTRAP`, else one broker, started at the first
    /// call. `None` if it cannot be had and need not be.
    pub(crate) fn shared() -> Option<&'static Kafka> {
        static SHARED: OnceLock<Result<Kafka, String>> = OnceLock::new();
        if switched_off() {
            return None;
        }
        let shared = SHARED.get_or_init(|| match std::env::var("WATERWHEEL_BOOTSTRAP") {
            Ok(bootstrap) if !bootstrap.is_empty() => {
                Ok(Kafka { admin: admin(&bootstrap), bootstrap, dir: None, own: false, proxies: Vec::new() })
            }
            _ => Cluster::of(1).launch(false),
        });
        had(shared.as_ref().map(Some).map_err(Clone::clone))
    }

    /// A cluster shared by the tests that need what the other may lack: topics are made on request only, and compaction
    /// comes at once. `None` if it cannot be had and need not be.
    pub(crate) fn particular() -> Option<&'static Kafka> {
        static PARTICULAR: OnceLock<Result<Kafka, String>> = OnceLock::new();
        if switched_off() {
            return None;
        }
        let cluster = || {
            Cluster::of(1)
                .property("auto.create.topics.enable=false")
                .property("log.cleaner.backoff.ms=200")
                .property("log.cleaner.delete.retention.ms=100")
        };
        had(PARTICULAR.get_or_init(|| cluster().launch(false)).as_ref().map(Some).map_err(Clone::clone))
    }

    /// The plaintext listeners' addresses.
    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The addresses for SASL over TLS: user alice, password alice-secret.
    pub(crate) fn bootstrap_sasl(&self) -> String {
        self.script(&["bootstrap", "sasl"]).trim().to_owned()
    }

    /// The addresses for TLS with a client certificate.
    pub(crate) fn bootstrap_tls(&self) -> String {
        self.script(&["bootstrap", "tls"]).trim().to_owned()
    }

    /// The proxies' addresses.
    pub(crate) fn bootstrap_proxied(&self) -> String {
        self.proxies.iter().map(|proxy| proxy.address().to_string()).collect::<Vec<_>>().join(",")
    }

    /// The proxies: that of broker 1 first.
    pub(crate) fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    /// One of ca.pem, client.pem, client.key and other-ca.pem.
    pub(crate) fn tls_file(&self, name: &str) -> PathBuf {
        self.dir.as_deref().expect("a secure cluster is one of the test's own").join("tls").join(name)
    }

    /// Creates a topic, as many copies as the cluster makes by default, and waits until all its partitions have leaders.
    pub(crate) fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        for (key, value) in configs {
            topic = topic.set(key, value);
        }
        self.create(&topic, name, partitions.unsigned_abs() as usize);
    }

    fn create(&self, topic: &NewTopic<'_>, name: &str, partitions: usize) {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
        let created = runtime.block_on(self.admin.create_topics([topic], &options));
        for result in created.expect("the cluster answers") {
            result.unwrap_or_else(|(topic, code)| panic!("cannot create {topic}: {code}"));
        }
        wait_until(PATIENCE, "leaders of the new topic's partitions", || {
            let metadata = self.admin.inner().fetch_metadata(Some(name), Duration::from_secs(5));
            metadata.is_ok_and(|metadata| {
                let led = |topic: &rdkafka::metadata::MetadataTopic| {
                    topic.partitions().iter().filter(|partition| partition.leader() >= 0).count()
                };
                metadata.topics().iter().map(led).sum::<usize>() == partitions
            })
        });
    }

    /// Creates a topic whose copies of each partition are on those brokers.
    pub(crate) fn create_topic_on(&self, name: &str, brokers: &[&[i32]], configs: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, brokers.len() as i32, TopicReplication::Variable(brokers));
        for (key, value) in configs {
            topic = topic.set(key, value);
        }
        self.create(&topic, name, brokers.len());
    }

    /// The brokers that have a partition's records up to the end, by their numbers.
    pub(crate) fn in_sync(&self, topic: &str, partition: usize) -> Vec<i32> {
        let metadata = self.admin.inner().fetch_metadata(Some(topic), Duration::from_secs(5));
        let of = |metadata: rdkafka::metadata::Metadata| {
            Some(metadata.topics().first()?.partitions().get(partition)?.isr().to_vec())
        };
        metadata.ok().and_then(of).unwrap_or_default()
    }

    /// Sets a property of a topic.
    pub(crate) fn set_topic(&self, name: &str, property: &str) {
        self.tool("configs", &["--alter", "--entity-type", "topics", "--entity-name", name, "--add-config", property]);
    }

    /// Deletes a topic, and waits until it is gone.
    pub(crate) fn delete_topic(&self, name: &str) {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
        let deleted = runtime.block_on(self.admin.delete_topics(&[name], &options));
        for result in deleted.expect("the cluster answers") {
            result.unwrap_or_else(|(topic, code)| panic!("cannot delete {topic}: {code}"));
        }
        wait_until(PATIENCE, "the topic to be gone", || {
            let metadata = self.admin.inner().fetch_metadata(None, Duration::from_secs(5));
            metadata.is_ok_and(|metadata| metadata.topics().iter().all(|topic| topic.name() != name))
        });
    }

    /// Deletes the records of partitions below an offset.
    pub(crate) fn delete_records(&self, topic: &str, below: &[(i32, i64)]) {
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in below {
            offsets.add_partition_offset(topic, *partition, Offset::Offset(*offset)).expect("an offset");
        }
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
        let deleted = runtime.block_on(self.admin.delete_records(&offsets, &options));
        for element in deleted.expect("the cluster answers").elements() {
            element.error().unwrap_or_else(|error| panic!("cannot delete records of {topic}: {error}"));
        }
    }

    /// Gives a topic more partitions, `partitions` in all.
    pub(crate) fn add_partitions(&self, name: &str, partitions: i32) {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
        let more = NewPartitions::new(name, partitions as usize);
        for result in runtime.block_on(self.admin.create_partitions([&more], &options)).expect("the cluster answers") {
            result.unwrap_or_else(|(topic, code)| panic!("cannot add partitions to {topic}: {code}"));
        }
    }

    /// The brokers that lead a topic's partitions now, each by its number (from 1); 0 where nobody leads.
    pub(crate) fn leaders(&self, topic: &str) -> Vec<usize> {
        let metadata = wait_for(PATIENCE, "metadata", || {
            self.admin.inner().fetch_metadata(Some(topic), Duration::from_secs(5)).ok()
        });
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        partitions.map(|partition| usize::try_from(partition.leader()).unwrap_or(0)).collect()
    }

    /// Waits until so many brokers are in the cluster.
    pub(crate) fn await_brokers(&self, brokers: usize) {
        wait_until(PATIENCE, "all brokers to be in the cluster", || {
            let metadata = self.admin.inner().fetch_metadata(None, Duration::from_secs(5));
            metadata.is_ok_and(|metadata| metadata.brokers().len() == brokers)
        });
    }

    /// Runs one of Kafka's own tools (`scripts/kafka tool` lists them) against this cluster; returns what it printed.
    pub(crate) fn tool(&self, name: &str, arguments: &[&str]) -> String {
        let mut all = vec!["tool", name, "--bootstrap-server", &self.bootstrap];
        all.extend(arguments);
        self.script(&all)
    }

    /// Whether Kafka's own tools can be run: they need Java, and a cluster that was running already needs none. If they
    /// cannot be had and need not be, it is told.
    pub(crate) fn has_tools() -> bool {
        static TRIED: OnceLock<Result<(), String>> = OnceLock::new();
        let tried = TRIED.get_or_init(|| {
            let nowhere = std::env::temp_dir().join("waterwheel-kafka-none");
            // Without arguments it prints its help.
            script(&nowhere, &["tool", "verifiable-producer"]).map(drop)
        });
        had(tried.clone().map(Some)).is_some()
    }

    /// Starts one of Kafka's own tools against this cluster, as a process that gets signals.
    pub(crate) fn tool_process(&self, name: &str, arguments: &[&str]) -> Process {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kafka");
        let all = [&["tool", name, "--bootstrap-server", &self.bootstrap][..], arguments].concat();
        Process::start(&path.to_string_lossy(), &all)
    }

    /// Ends broker `number` (from 1) by SIGKILL.
    pub(crate) fn kill(&self, number: usize) {
        self.harm("kill", number);
    }

    /// Ends broker `number` in order.
    pub(crate) fn stop(&self, number: usize) {
        self.harm("stop", number);
    }

    /// Freezes broker `number`.
    pub(crate) fn pause(&self, number: usize) {
        self.harm("pause", number);
    }

    /// Lets broker `number` go on.
    pub(crate) fn resume(&self, number: usize) {
        self.harm("resume", number);
    }

    /// Starts broker `number` again, on its old data.
    pub(crate) fn boot(&self, number: usize) {
        self.harm("boot", number);
    }

    fn harm(&self, verb: &str, number: usize) {
        assert!(self.own, "only a cluster of the test's own may come to harm");
        self.script(&[verb, &number.to_string()]);
    }

    fn script(&self, arguments: &[&str]) -> String {
        let nowhere = std::env::temp_dir().join("waterwheel-kafka-none");
        script(self.dir.as_deref().unwrap_or(&nowhere), arguments).unwrap_or_else(|fault| panic!("{fault}"))
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Some(dir) = &self.dir
            && let Err(fault) = script(dir, &["down"])
        {
            eprintln!("{fault}");
        }
    }
}

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("a client of librdkafka")
}

fn script(dir: &Path, arguments: &[&str]) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kafka");
    let ran = Command::new(path).arg("--dir").arg(dir).args(arguments).stdin(Stdio::null()).output();
    match ran {
        Ok(Output { status, stdout, .. }) if status.success() => Ok(String::from_utf8_lossy(&stdout).into_owned()),
        Ok(Output { status, stdout, stderr }) => {
            let said = [stdout, stderr].concat();
            Err(format!("scripts/kafka {}: {status}\n{}", arguments.join(" "), String::from_utf8_lossy(&said)))
        }
        Err(error) => Err(format!("scripts/kafka cannot be run: {error}")),
    }
}

fn switched_off() -> bool {
    let off = asked() == Asked::Off;
    if off {
        eprintln!("SKIPPED: WATERWHEEL_KAFKA=off");
    }
    off
}

/// Under `required`, what cannot be had fails the test; else it is told and left out.
fn had<T>(kafka: Result<Option<T>, String>) -> Option<T> {
    kafka.unwrap_or_else(|fault| {
        assert!(asked() != Asked::Required, "WATERWHEEL_KAFKA=required, and there is no Kafka: {fault}");
        eprintln!("SKIPPED: there is no Kafka: {fault}");
        None
    })
}

#[derive(PartialEq, Eq)]
enum Asked {
    Required,
    IfThere,
    Off,
}

fn asked() -> Asked {
    match std::env::var("WATERWHEEL_KAFKA").as_deref() {
        Ok("required") => Asked::Required,
        Ok("off") => Asked::Off,
        Ok("") | Err(_) => Asked::IfThere,
        Ok(other) => panic!("WATERWHEEL_KAFKA={other}: it is `required`, `off` or unset"),
    }
}
