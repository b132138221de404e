//! Table: the last value of every key, kept in memory from a topic's beginning, and up to date from then on.

mod cluster;

use waterwheel::TableEntry;

fn text(price: Option<TableEntry>) -> String {
    price.map_or("nothing".to_owned(), |price| String::from_utf8_lossy(price.value()).into_owned())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let orders = cluster::Orders::new(&[("apple", "3"), ("pear", "4"), ("apple", "5")]).await?;
    // The table is there at once, and fills while the history runs.
    let (prices, history) = orders.client.history("orders").latest_per_key()?;
    let handle = history.handle();

    let ready = async {
        assert!(handle.caught_up().await, "it ends by itself only with an error");
        println!("{} prices, apple at {}", prices.len(), text(prices.get("apple")));
        // A server would wait here for what changes, of one key or of all (`changes`), while the history goes on.
        let plum = prices.watch(*b"plum");
        println!("plum at {}", text(plum.get()));
        orders.finished(handle.worker().clone()).await;
    };
    history.run_until(ready).await?;
    Ok(())
}
