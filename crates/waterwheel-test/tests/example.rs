//! A worker's test in ten lines; README.md shows it.

#![expect(clippy::disallowed_methods, reason = "a user's test spawns")]

use waterwheel::{Failure, Message, Utf8};
use waterwheel_test::{Cluster, Lasts, Request};

async fn charge(order: Message<Utf8>) -> Result<(), Failure> {
    println!("{} pays", order.body.0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_costs_nothing() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::new().topic("orders", 3);
    cluster.fail(Request::Commit, 16, Lasts::Times(3)); // the coordinator moves: Kafka's NOT_COORDINATOR
    cluster.produce("orders", "ann", "1200").await;
    let worker = cluster.client().worker("billing").topic("orders").handler(charge).build()?;
    let handle = worker.handle();
    let running = tokio::spawn(worker.run());
    cluster.assert_finished("billing", "orders").await;
    handle.close();
    assert_eq!(running.await??.counts.attempts, 1);
    Ok(())
}

#[test]
fn the_readme_shows_this_test() {
    let shown = include_str!("../README.md");
    let (_, code) = include_str!("example.rs").split_once("use waterwheel::").unwrap();
    let code = format!("use waterwheel::{}", code.split("\n#[test]").next().unwrap());
    assert!(shown.contains(code.trim_end()), "README.md shows another test than tests/example.rs");
}
