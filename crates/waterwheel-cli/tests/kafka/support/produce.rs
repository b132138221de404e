//! Records for tests, each with its acknowledged place.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};

use super::cluster::Kafka;

/// Records that the brokers acknowledged: partition, offset, key.
#[derive(Default)]
pub(crate) struct Produced(Vec<Acknowledged>);

type Acknowledged = (i32, i64, Option<String>);

impl Produced {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes those of another list, too.
    pub(crate) fn add(&mut self, other: Produced) {
        self.0.extend(other.0);
    }

    /// Their partitions and offsets.
    pub(crate) fn places(&self) -> impl Iterator<Item = (i32, i64)> {
        self.0.iter().map(|(partition, offset, _)| (*partition, *offset))
    }

    /// Writes the list that `waterwheel audit --produced` reads into `dir`; returns its path.
    pub(crate) fn write(&self, dir: &Path) -> PathBuf {
        let mut text = String::new();
        for (partition, offset, key) in &self.0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{partition} {offset} {}", key.as_deref().unwrap_or_default());
        }
        let path = dir.join("produced");
        std::fs::write(&path, text).expect("the test's directory can be written to");
        path
    }
}

impl Kafka {
    /// Produces records (key, value) with acks=all; every one is acknowledged, or the test fails.
    pub(crate) fn produce(&self, topic: &str, records: impl IntoIterator<Item = (Option<String>, String)>) -> Produced {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap()).set("enable.idempotence", "true").set("linger.ms", "5");
        let producer: BaseProducer<Reports> = config.create_with_context(Reports::default()).expect("a producer");
        let mut sent = 0;
        for (key, value) in records {
            let mut record = BaseRecord::<String, String>::to(topic).payload(&value);
            record.key = key.as_ref();
            sent += 1;
            while let Err((error, returned)) = producer.send(record) {
                assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), "cannot send to {topic}");
                producer.poll(Duration::from_millis(50));
                record = returned;
            }
            producer.poll(Duration::ZERO);
        }
        producer.flush(Duration::from_secs(60)).expect("all records are acknowledged in time");
        let reports = std::mem::take(&mut *producer.context().0.lock().expect("no report panicked"));
        assert_eq!(reports.len(), sent, "every record has its report");
        Produced(reports.into_iter().map(|report| report.expect("every record is acknowledged")).collect())
    }
}

#[derive(Default)]
struct Reports(Mutex<Vec<Result<Acknowledged, KafkaError>>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let report = match result {
            Ok(message) => {
                let key = message.key().map(|key| String::from_utf8_lossy(key).into_owned());
                Ok((message.partition(), message.offset(), key))
            }
            Err((error, _)) => Err(error.clone()),
        };
        self.0.lock().expect("no report panicked").push(report);
    }
}
