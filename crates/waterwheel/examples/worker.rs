//! A worker: typed orders, each customer's one at a time and in order, different customers' side by side.
//!
//! `cargo run --example worker` runs it on a cluster in this process; `WATERWHEEL_BROKERS=localhost:9092` on yours.

mod cluster;

use serde::Deserialize;
use waterwheel::{Failure, Json, Message};

#[derive(Deserialize)]
struct Order {
    customer: String,
    cents: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let orders = cluster::Orders::new(&[
        ("ann", r#"{"customer":"ann","cents":1200}"#),
        ("bob", r#"{"customer":"bob","cents":350}"#),
        ("ann", r#"{"customer":"ann","cents":80}"#),
    ])
    .await?;

    // Everything is checked here; nothing connects before `run`.
    let worker = orders.client.worker("billing").topic("orders").handler(charge).build()?;

    // Ctrl-C or SIGTERM: running handlers end, what is finished is committed, the group is left.
    let handle = worker.handle();
    let report = worker.run_until(orders.finished(handle)).await?;
    println!("{} orders charged, {} attempts", report.counts.succeeded, report.counts.attempts);
    Ok(())
}

async fn charge(order: Message<Json<Order>>) -> Result<(), Failure> {
    println!("{}@{}: {} pays {} cents", order.topic_partition(), order.offset(), order.body.customer, order.body.cents);
    Ok(())
}
