//! Dead letters: what cannot be done is written to another topic, acknowledged, before its offset can be committed.

mod cluster;

use std::time::Duration;

use serde::Deserialize;
use waterwheel::{DeadLetter, DeadLetterOrigin, Failure, Json, Message, Raw, Retry};

#[derive(Deserialize)]
struct Order {
    cents: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let orders =
        cluster::Orders::new(&[("ann", r#"{"cents":100}"#), ("bob", r#"{"cents":0}"#), ("eve", "this is no JSON")])
            .await?;

    let worker = orders
        .client
        .worker("billing")
        .topic("orders")
        .retry(Retry::exponential(Duration::from_millis(10), Duration::from_secs(1)).attempts(3))
        .dead_letter(DeadLetter::topic("{topic}.{group}.dlt"))
        .handler(charge)
        .build()?;
    let handle = worker.handle();
    let report = worker.run_until(orders.finished(handle)).await?;
    println!("{} charged, {} dead letters", report.counts.succeeded, report.counts.dead_lettered);

    // A dead letter is the record byte for byte, and headers that say where it was and why it is here.
    let reader = orders.client.worker("undertaker").topic("orders.billing.dlt").handler(bury).build()?;
    let handle = reader.handle();
    let (watched, letters) = (reader.handle(), report.counts.dead_lettered);
    let all_read = async move {
        while watched.counts().succeeded < letters {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    reader
        .run_until(async {
            tokio::select! {
                () = orders.finished(handle) => {}
                () = all_read => {}
            }
        })
        .await?;
    Ok(())
}

async fn charge(order: Message<Json<Order>>) -> Result<(), Failure> {
    match order.body.cents {
        0 => Err(Failure::dead_letter("nothing to charge: no retry will help")),
        _ => Ok(()),
    }
}

async fn bury(letter: Message<Raw>) -> Result<(), Failure> {
    let Some(origin) = DeadLetterOrigin::of(&letter)? else { return Ok(()) };
    println!("dead letter of offset {}: {} after {} attempts", origin.offset, origin.error_class, origin.attempts);
    Ok(())
}
