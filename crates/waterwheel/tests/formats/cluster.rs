//! Records in and out of the cluster in this process.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use waterwheel::embedded::Cluster;
use waterwheel::{Client, Handler, Message, ProducerRecord, Raw, Record, Report, Worker};

const PATIENCE: Duration = Duration::from_secs(60);

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::start(1).unwrap())
}

pub(crate) fn client() -> Client {
    Client::new(cluster().bootstrap_servers()).unwrap()
}

pub(crate) fn topic(name: &str) {
    cluster().create_topic(name, 1).unwrap();
}

pub(crate) async fn send(records: impl IntoIterator<Item = ProducerRecord>) {
    let producer = client().producer().unwrap();
    for record in records {
        producer.send(record).await.unwrap();
    }
    producer.close(PATIENCE).await;
}

/// Runs a worker until the condition holds of it.
pub(crate) async fn run_until<H: Handler<Raw>>(worker: Worker<Raw, H>, mut holds: impl FnMut() -> bool) -> Report {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, worker.run_until(wait)).await.unwrap().unwrap()
}

/// The first records of a topic.
pub(crate) async fn read(topic: &str, count: usize) -> Vec<Record> {
    let read = Arc::new(Mutex::new(Vec::new()));
    let seen = read.clone();
    let handler = move |m: Message<Raw>| {
        read.lock().unwrap().push(m.record().detach());
        std::future::ready(anyhow::Ok(()))
    };
    let worker = client().worker(format!("read-{topic}")).topic(topic).handler(handler).build().unwrap();
    run_until(worker, || seen.lock().unwrap().len() >= count).await;
    let records = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(records.len(), count);
    records
}
