//! A consumer: partitions pulled side by side by tasks of the program's own, with what the group does told meanwhile.

mod cluster;

use futures_util::StreamExt;
use waterwheel::{Notification, Utf8};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let orders = cluster::Orders::new(&[("anna", "tea"), ("bert", "rice"), ("anna", "milk"), ("cleo", "salt")]).await?;

    let partitions = orders.client.consumer("pantry").topic("orders").decode::<Utf8>().start_partitions()?;
    let (handle, mut told) = (partitions.worker().clone(), partitions.notifications());
    let notes = async {
        while let Some(notification) = told.next().await {
            match notification {
                Notification::Assigned { claimed, .. } => println!("{} partitions came", claimed.len()),
                Notification::Revoked { released, .. } => {
                    println!("{} partitions went back", released.len());
                    break;
                }
                _ => {}
            }
        }
    };
    // Each partition is a stream that ends when it leaves; up to 16 of them are read side by side.
    let work = partitions.for_each_concurrent(16, |partition| {
        partition.for_each(|delivery| async move {
            println!("{} wants {}", String::from_utf8_lossy(delivery.key().unwrap_or_default()), delivery.body.0);
            delivery.finish();
        })
    });
    let end = async {
        orders.finished(handle.clone()).await;
        // In order: what is finished is committed before the partitions go back.
        handle.close();
    };
    tokio::join!(work, notes, end);
    Ok(())
}
