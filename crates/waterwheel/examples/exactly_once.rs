//! A worker that works exactly once: an invoice for each order, in one transaction with the offsets of the orders.
//!
//! `cargo run --example exactly_once` runs it on a cluster in this process; `WATERWHEEL_BROKERS=localhost:9092` on yours,
//! where the topics `orders` and `invoices` have to be there.

mod cluster;

use waterwheel::{ExactlyOnce, Failure, Message, Outputs, ProducerRecord, Utf8};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let orders = cluster::Orders::new(&[("ann", "1200"), ("bob", "350"), ("ann", "0"), ("ann", "80")]).await?;
    let worker =
        orders.client.worker("invoices").topic("orders").exactly_once(ExactlyOnce::new()).transform(invoice).build()?;

    let handle = worker.handle();
    let report = worker.run_until(orders.finished(handle)).await?;
    println!("{} orders, {} transactions aborted", report.counts.succeeded, report.counts.transactions_aborted);
    Ok(())
}

/// What is returned is written, and what it was made of is committed, in one transaction. Nothing is made of a free order.
async fn invoice(order: Message<Utf8>) -> Result<Outputs, Failure> {
    let cents: u64 = order.body.0.parse().map_err(Failure::dead_letter)?;
    if cents == 0 {
        return Ok(Outputs::default());
    }
    let customer = order.key().unwrap_or_default();
    let text = format!("{} pays {cents} cents", String::from_utf8_lossy(customer));
    println!("{text}");
    Ok(ProducerRecord::to("invoices").key(customer).value(text).into())
}
