//! A producer: records one by one, many at once, what a failure says, and what was written at the end.

use std::time::Duration;

use waterwheel::embedded::Cluster;
use waterwheel::{Client, Compression, Delivered, Interceptor, ProducerRecord, SendFailure, SendStage};

/// Says what fails.
struct Complains;

impl Interceptor for Complains {
    fn after(&self, record: &ProducerRecord, outcome: Result<&Delivered, &SendFailure>) {
        if let Err(failure) = outcome {
            println!("a record for {} failed: {}", record.topic(), failure.error());
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // A small Kafka in this process; with one of yours: Client::new("host:9092").
    let cluster = Cluster::start(1)?;
    cluster.create_topic("orders", 2)?;
    let producer = Client::new(cluster.bootstrap_servers())?
        .producer_builder()
        .compression(Compression::Lz4)
        .linger(Duration::from_millis(20))
        .queue_records(1_000)
        .interceptor(Complains)
        .build()?;

    // One by one, each with its answer.
    let at = producer.send(ProducerRecord::to("orders").key("anna").value("12").header("source", "web")).await?;
    println!("written to partition {}, offset {:?}", at.partition, at.offset);

    // Many under way: a full queue gives the record back, and says when there is room.
    let mut answers = Vec::new();
    for n in 0..5_000 {
        let record = ProducerRecord::to("orders").key(format!("customer-{}", n % 100)).value(n.to_string());
        let answer = match producer.enqueue(record) {
            Err(failure) if failure.stage() == SendStage::QueueFull => {
                producer.enqueue_within(failure.into_record(), Duration::from_secs(30)).await?
            }
            put_in => put_in?,
        };
        answers.push(answer);
    }
    let mut acknowledged = 0;
    for answer in answers {
        match answer.await {
            Ok(_) => acknowledged += 1,
            Err(failure) if failure.is_retriable() && !failure.possibly_written() => {
                producer.send(failure.into_record()).await?;
                acknowledged += 1;
            }
            Err(failure) => return Err(failure.into()),
        }
    }

    // A list: one answer for all.
    let list = (0..1_000).map(|n| ProducerRecord::to("orders").key("list").value(n.to_string())).collect();
    if let Err(failures) = producer.send_all(list).await {
        anyhow::bail!("{} of a list failed", failures.len());
    }
    let left = producer.close(Duration::from_secs(10)).await;
    println!("{acknowledged} acknowledged one by one, {left} left");
    Ok(())
}
