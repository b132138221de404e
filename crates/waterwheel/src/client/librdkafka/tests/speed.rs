//! A measurement, not a test: `cargo test --release speed -- --ignored --nocapture`, with `WATERWHEEL_BOOTSTRAP`.

use super::super::handle::{Handle, Topic};
use super::super::properties::Role;
use super::super::reader::{Reader, Room};
use super::super::ready::{Ready, Signal, Token};
use super::super::siblings::{Setup, Siblings};
use super::*;
use crate::client::{Outgoing, Position};

/// Seconds to take as many records from four queues without copying them.
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn floor(kafka: &Kafka, topic: &str, count: usize) -> f64 {
    let handle = Handle::new(Role::Fetch, &Setup::new(&kafka.properties(&[]), &Siblings::new(None, None)), 0).unwrap();
    let topic = Arc::new(Topic::new(&handle, topic).unwrap());
    let ready = Arc::<Ready>::default();
    let start = std::time::Instant::now();
    let mut readers: Vec<_> = (0..4)
        .map(|p| Reader::start(&handle, topic.clone(), p, 0, Signal::new(ready.clone(), Token(p as u64))).unwrap())
        .collect();
    let (mut room, mut seen) = (Room::default(), 0);
    while seen < count {
        match ready.pop() {
            Some(Token(p)) => {
                let reader = &mut readers[p as usize];
                reader.signal().taken();
                let taken = reader.take(&mut room).len();
                seen += taken;
                if taken > 0 {
                    reader.signal().raise();
                }
            }
            None => std::thread::yield_now(),
        }
    }
    start.elapsed().as_secs_f64()
}

#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn speed_of_poll_fetch() {
    const COUNT: usize = 2_000_000;
    let Some(kafka) = Kafka::real() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let topic = kafka.topic(4).await;
        let producer = kafka.producer(&[("queue.buffering.max.messages", "2000000")]);
        let value = "v".repeat(100);
        let start = std::time::Instant::now();
        let template: Vec<Outgoing> = (0..4).map(|p| outgoing(&topic, p, "key", &value)).collect();
        let records = (0..COUNT).map(|i| template[i / 1_000 % 4].clone()).collect();
        assert!(send_all(&*producer, records).await.unwrap().failed.is_empty());
        println!("produced {:.2} M/s", COUNT as f64 / start.elapsed().as_secs_f64() / 1e6);
        for _ in 0..5 {
            println!("taken and thrown away {:.2} M/s", COUNT as f64 / floor(&kafka, &topic, COUNT) / 1e6);
            let fetcher = kafka.fetcher(&[]);
            fetcher.warm(std::slice::from_ref(&topic));
            let mut queue = fetcher.queue().unwrap();
            let start = std::time::Instant::now();
            for p in 0..4 {
                queue.add(assignment(p, 1, &topic, p as i32), Position::Beginning).unwrap();
            }
            let (mut seen, mut batches, mut bytes) = (0, 0, 0);
            while seen < COUNT {
                if let Fetched::Batch(batch) = next(&mut *queue).await {
                    seen += batch.len();
                    bytes += batch.pinned_bytes();
                    batches += 1;
                }
            }
            let took = start.elapsed();
            let stop = std::time::Instant::now();
            for p in 0..4 {
                queue.remove(PartitionId(p));
            }
            println!(
                "fetched {:.2} M/s in {batches} batches of {} bytes; removing four {:?}",
                COUNT as f64 / took.as_secs_f64() / 1e6,
                bytes / batches,
                stop.elapsed()
            );
        }
    });
}
