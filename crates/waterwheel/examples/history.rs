//! History: a program that needs everything a topic holds before it can answer, and goes on listening after that.

mod cluster;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use waterwheel::{Failure, Message, Utf8};

type Prices = Arc<Mutex<HashMap<String, String>>>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let orders = cluster::Orders::new(&[("apple", "3"), ("pear", "4"), ("apple", "5")]).await?;
    let prices = Prices::default();

    let table = prices.clone();
    let keep = move |price: Message<Utf8>| {
        let key = String::from_utf8_lossy(price.key().unwrap_or_default()).into_owned();
        table.lock().unwrap_or_else(PoisonError::into_inner).insert(key, price.body.0.clone());
        std::future::ready(Ok::<_, Failure>(()))
    };
    // No group and no commits: each process that runs this sees everything, each time it starts.
    let history = orders.client.history("orders").handler(keep).build()?;
    let handle = history.handle();

    let ready = async {
        assert!(handle.caught_up().await, "it ends by itself only with an error");
        let progress = handle.progress();
        println!("{} records read, {} to go", progress.total(), progress.remaining());
        // A server would answer its first request now, while the history goes on.
        orders.finished(handle.worker().clone()).await;
    };
    history.run_until(ready).await?;
    let prices = prices.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{} prices, apple at {}", prices.len(), prices["apple"]);
    Ok(())
}
