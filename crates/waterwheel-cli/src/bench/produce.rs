//! `bench produce`.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::time::Duration;

use waterwheel::{Client, ProducerRecord};

use super::Produce;
use super::run::Run;
use crate::exit::{Exit, Failure};

/// Records sent at once.
const BATCH: u64 = 1000;

/// Batches under way: together a little less than the client's queue holds (100,000 records).
const UNDER_WAY: usize = 90;

impl Produce {
    pub(super) async fn run(self, client: Client) -> Result<Exit, Failure> {
        let producer = client.producer()?;
        let value = ProducerRecord::to(&*self.topic).value(vec![b'x'; self.size]);
        let records: Vec<ProducerRecord> = (0..self.keys.max(1)).map(|k| value.clone().key(format!("k{k}"))).collect();
        let run = Run::new(self.count);
        run.begin();
        let mut sends = FuturesUnordered::new();
        let mut sent = 0;
        while sent < self.count || !sends.is_empty() {
            while sent < self.count && sends.len() < UNDER_WAY {
                let n = BATCH.min(self.count - sent);
                let place = |i: u64| ((sent + i) % records.len() as u64) as usize;
                let batch: Vec<ProducerRecord> = (0..n).map(|i| records[place(i)].clone()).collect();
                let producer = &producer;
                sends.push(async move { producer.send_all(batch).await.map(|()| n) });
                sent += n;
            }
            match sends.next().await {
                Some(Ok(acknowledged)) => run.add(acknowledged),
                Some(Err(failures)) => {
                    let first = failures.first().map(ToString::to_string).unwrap_or_default();
                    let message = format!("{} records were not acknowledged: {first}", failures.len());
                    return Err(Failure::new(Exit::Failed, message));
                }
                None => {}
            }
        }
        println!("{}", run.line("produce", []));
        producer.close(Duration::from_secs(5)).await;
        Ok(Exit::Done)
    }
}
