//! Failures and retries: the key waits, the others go on, and each failure says what is to follow.

mod cluster;

use std::time::Duration;

use waterwheel::{Failure, Message, Retry, Utf8};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let orders = cluster::Orders::new(&[("ann", "flaky"), ("ann", "fine"), ("bob", "busy"), ("eve", "void")]).await?;

    let worker = orders
        .client
        .worker("shipping")
        .topic("orders")
        // The wait doubles from 50 ms up to a second. After ten attempts the record is parked: tried on each second, and
        // `WorkerHandle::health` is critical.
        .retry(Retry::exponential(Duration::from_millis(50), Duration::from_secs(1)).attempts(10))
        // An attempt that takes longer is dropped, and has failed.
        .handler_timeout(Duration::from_secs(5))
        .handler(ship)
        .build()?;

    let handle = worker.handle();
    let report = worker.run_until(orders.finished(handle)).await?;
    println!(
        "{} shipped, {} skipped, {} retries",
        report.counts.succeeded, report.counts.skipped, report.counts.retried
    );
    Ok(())
}

async fn ship(order: Message<Utf8>) -> Result<(), Failure> {
    let first = order.attempt() == 1;
    println!("{} attempt {}", &*order.body, order.attempt());
    match &*order.body {
        // Any error will do: `?` on it means the worker's policy.
        "flaky" if first => Err(std::io::Error::other("the carrier hung up"))?,
        // Whoever is asked knows when to ask again.
        "busy" if first => Err(Failure::retry_after(Duration::from_millis(20), "the carrier is busy")),
        // Known not to need any work.
        "void" => Err(Failure::skip("cancelled by the customer")),
        _ => Ok(()),
    }
}
