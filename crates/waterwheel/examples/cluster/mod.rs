//! What the examples work on: the cluster that `WATERWHEEL_BROKERS` names, or one in this process with a few orders in it, and a topic
//! for invoices.

use std::time::Duration;

use waterwheel::embedded::Cluster;
use waterwheel::{Client, ProducerRecord, WorkerHandle, signal};

pub(crate) struct Orders {
    pub(crate) client: Client,
    /// In this process, with so many orders; `None` for a cluster from outside.
    embedded: Option<(Cluster, u64)>,
}

impl Orders {
    /// Writes the orders (customer, value) to the topic `orders`, unless the cluster is one from outside.
    pub(crate) async fn new(orders: &[(&str, &str)]) -> anyhow::Result<Self> {
        if std::env::var_os("WATERWHEEL_BROKERS").is_some() {
            return Ok(Self { client: Client::from_env()?, embedded: None });
        }
        let cluster = Cluster::start(1)?;
        cluster.create_topic("orders", 2)?;
        cluster.create_topic("invoices", 1)?;
        let client = Client::new(cluster.bootstrap_servers())?;
        let producer = client.producer()?;
        for (customer, value) in orders {
            producer.send(ProducerRecord::to("orders").key(customer).value(value)).await?;
        }
        producer.close(Duration::from_secs(5)).await;
        Ok(Self { client, embedded: Some((cluster, orders.len() as u64)) })
    }

    /// When the example is over: at Ctrl-C, or when all orders of the cluster in this process are finished.
    pub(crate) async fn finished(&self, handle: WorkerHandle) {
        tokio::select! {
            () = signal::shutdown() => {}
            () = self.all_done(&handle) => {}
        }
    }

    async fn all_done(&self, handle: &WorkerHandle) {
        let Some((_, orders)) = &self.embedded else { return std::future::pending().await };
        loop {
            let counts = handle.counts();
            if counts.succeeded + counts.dead_lettered + counts.skipped >= *orders {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
