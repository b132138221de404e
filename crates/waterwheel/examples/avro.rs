//! Avro with a schema registry: written by one version of a schema, read by a program that knows a later one.

mod registry;

use std::time::Duration;

use registry::TestRegistry;
use serde::{Deserialize, Serialize};
use waterwheel::avro::AvroSchema;
use waterwheel::embedded::Cluster;
use waterwheel::registry::{Registry, SchemaText};
use waterwheel::{Client, Failure, Message, ProducerRecord, decoded};

const FIRST: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
    {"name": "customer", "type": "string"}, {"name": "cents", "type": "int"}]}"#;

/// One field is new, with a default for orders that lack it; one is wider.
const SECOND: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
    {"name": "customer", "type": "string"}, {"name": "cents", "type": "long"},
    {"name": "currency", "type": "string", "default": "EUR"}]}"#;

#[derive(Serialize)]
struct FirstOrder {
    customer: String,
    cents: i32,
}

#[derive(Deserialize)]
struct Order {
    customer: String,
    cents: i64,
    currency: String,
}

async fn charge(order: Message<Order>) -> Result<(), Failure> {
    println!("{} pays {} cents in {}", order.body.customer, order.body.cents, order.body.currency);
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.create_topic("orders", 1)?;
    let client = Client::new(cluster.bootstrap_servers())?;
    // A registry of the outside, or one in this process.
    let address = match std::env::var("SCHEMA_REGISTRY") {
        Ok(address) => address,
        Err(_) => TestRegistry::start().await.1,
    };
    let registry = Registry::new(&address)?;
    produce(&client, &registry).await?;

    // `reader`: defaults are those of the schema. Without it they would be those of the type (`#[serde(default)]`).
    let second = registry.avro().reader(AvroSchema::parse(SECOND)?);
    let worker = client.worker("billing").topic("orders").handler(decoded(second, charge)).build()?;
    let handle = worker.handle();
    let all_charged = async {
        while handle.counts().succeeded < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let report = worker.run_until(all_charged).await?;
    println!("{} orders charged", report.counts.succeeded);
    Ok(())
}

async fn produce(client: &Client, registry: &Registry) -> anyhow::Result<()> {
    // Registering from a program suits an example. Elsewhere a deployment does it, and the program only looks it up.
    let first = registry.avro().schema(SchemaText::avro(FIRST)).auto_register();
    let producer = client.producer()?;
    for (customer, cents) in [("anna", 120), ("bert", 80), ("anna", 60)] {
        let order = FirstOrder { customer: customer.to_owned(), cents };
        producer.send(ProducerRecord::to("orders").key(customer).value_by(&first, &order).await?).await?;
    }
    producer.close(Duration::from_secs(5)).await;
    Ok(())
}
