//! Steering and watching: pause, resume, events, snapshot, health, close.

mod cluster;

use std::time::Duration;

use waterwheel::{Event, Failure, Message, Utf8, WorkerState};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let orders = cluster::Orders::new(&[("ann", "one"), ("bob", "two"), ("eve", "three")]).await?;
    let worker = orders.client.worker("packing").topic("orders").handler(pack).build()?;

    // A handle works before, while and after the worker runs; clones of it all steer the same worker.
    let handle = worker.handle();
    let mut events = handle.events();
    handle.pause();

    let steer = async {
        handle.wait_for(WorkerState::Consuming, Duration::from_secs(30)).await;
        // A stream of what happens. It never holds the worker up: who reads too slowly misses some, and is told so.
        while let Some(event) = events.next().await {
            if let Event::Assigned { partitions } = event {
                println!("assigned: {partitions:?}");
                break;
            }
        }
        while handle.snapshot().await.is_none_or(|s| s.partitions.len() < 2) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Paused: the worker keeps its partitions and starts nothing.
        for partition in handle.snapshot().await.into_iter().flat_map(|s| s.partitions) {
            println!("{}: next to finish {}, held by {:?}", partition.partition, partition.frontier, partition.held);
        }
        println!("health: {:?}", handle.health().await);

        handle.resume();
        orders.finished(handle.clone()).await;
        println!("so far: {} succeeded", handle.counts().succeeded);
        // In order, within the drain timeout. A second call, to `close_now`, would cut that short.
        handle.close();
    };
    let (report, ()) = tokio::join!(worker.run(), steer);
    let report = report?;
    println!("clean: {}, cut off: {:?}", report.is_clean(), report.cut_off);
    assert_eq!(handle.state(), WorkerState::Closed);
    Ok(())
}

async fn pack(order: Message<Utf8>) -> Result<(), Failure> {
    println!("packing {}", &*order.body);
    // Long work can see that its partition is about to go, and until when it may go on.
    tokio::select! {
        () = order.cancelled() => println!("to be done by {:?}", order.deadline()),
        () = tokio::time::sleep(Duration::from_millis(20)) => {}
    }
    Ok(())
}
