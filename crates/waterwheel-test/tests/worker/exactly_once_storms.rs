//! Storms: members that work exactly once die, are cut off and rebalanced while steps of their transactions fail, at random
//! by a seed. When all is calm again, input and output are compared.

use std::time::Duration;

use waterwheel::{ExactlyOnce, Failure, Message, ProducerRecord, Raw, Retry};
use waterwheel_test::{Cluster, Host, Lasts, Request};

use crate::support::{Dice, Running, assert_exactly_once, output, run, start_transform};

const SEEDS: u64 = 60;
const STEPS: usize = 60;
const PARTITIONS: u64 = 5;

struct Storm {
    dice: Dice,
    cluster: Cluster,
    members: Vec<(Host, Running)>,
    protocol: (&'static str, &'static str),
    aborted: u64,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let protocol = match dice.below(3) {
            0 => ("partition.assignment.strategy", "range"),
            1 => ("partition.assignment.strategy", "cooperative-sticky"),
            _ => ("group.protocol", "consumer"),
        };
        let cluster = Cluster::new().topic("t", PARTITIONS as usize).topic("out", 3).patience(Duration::from_secs(600));
        let slow = [Request::Fetch, Request::Produce, Request::Join, Request::Committed, Request::AddOffsets];
        for request in slow.into_iter().chain([Request::EndTransaction, Request::InitProducer]) {
            cluster.slow(request, Duration::from_millis(dice.below(8)));
        }
        Self { dice, cluster, members: Vec::new(), protocol, aborted: 0 }
    }

    fn join(&mut self) {
        let host = self.cluster.host();
        let transform = async |message: Message<Raw>| {
            let offset = message.offset().unsigned_abs();
            tokio::time::sleep(Duration::from_millis(offset * 7 % 20)).await;
            if message.attempt() == 1 && offset % 11 == 3 {
                return Err(Failure::retry("asked for by the test"));
            }
            Ok(output(&message))
        };
        let how = ExactlyOnce::new().every(Duration::from_millis(20 + self.dice.below(100)));
        let retry = Retry::exponential(Duration::from_millis(20), Duration::from_millis(100)).forever();
        let (name, value) = self.protocol;
        let builder = host.client().worker("g").topic("t").shards(2).retry(retry).concurrency(8);
        let builder = builder.drain_timeout(Duration::from_secs(5)).property(name, value).exactly_once(how);
        self.members.push((host, start_transform(builder.transform(transform).build().unwrap())));
    }

    fn any(&mut self) -> Option<usize> {
        let members = self.members.len() as u64;
        (members > 0).then(|| self.dice.below(members) as usize)
    }

    fn leave(&mut self) -> Option<(Host, Running)> {
        let at = self.any()?;
        let (host, member) = self.members.swap_remove(at);
        self.aborted += member.handle.counts().transactions_aborted;
        Some((host, member))
    }

    async fn step(&mut self) {
        match self.dice.below(18) {
            0..5 => {
                for _ in 0..self.dice.below(60) {
                    let (partition, key) = (self.dice.below(PARTITIONS) as i32, self.dice.below(12));
                    self.cluster
                        .produce_record(ProducerRecord::to("t").partition(partition).key(format!("k{key}")))
                        .await;
                }
            }
            5 | 6 if self.members.len() < 4 => self.join(),
            7 => {
                if let Some((_, member)) = self.leave() {
                    member.stop().await;
                }
            }
            8 | 9 => {
                if let Some((host, member)) = self.leave() {
                    member.kill(host).await;
                }
            }
            10 => {
                if let Some(at) = self.any() {
                    self.cluster.throw_out("g", &self.members[at].0);
                }
            }
            11 => {
                let Some(at) = self.any() else { return };
                let host = self.members[at].0.clone();
                match self.dice.below(2) {
                    0 => host.cut_off(),
                    _ => host.cut_off_from_groups(),
                }
                self.cluster.advance(Duration::from_secs(self.dice.below(60))).await;
                host.heal();
            }
            12 => self.cluster.rebalance("g"),
            13 => {
                let code = [14, 16, 22, 27, -195][self.dice.below(5) as usize];
                self.cluster.fail(Request::AddOffsets, code, Lasts::Times(1 + self.dice.below(3) as usize));
            }
            14 => {
                // Who is fenced again and again gives up.
                let (code, most) =
                    [(14, 3), (16, 3), (47, 1), (48, 3), (90, 1), (-195, 3)][self.dice.below(6) as usize];
                self.cluster.fail(Request::EndTransaction, code, Lasts::Times(1 + self.dice.below(most) as usize));
            }
            15 => self.cluster.fail(Request::Produce, -192, Lasts::Times(1 + self.dice.below(3) as usize)),
            _ => self.cluster.advance(Duration::from_millis(self.dice.below(600))).await,
        }
    }

    async fn run(mut self, seed: u64) -> u64 {
        self.join();
        for _ in 0..STEPS {
            self.step().await;
        }
        // Calm: everything comes to rest.
        if self.members.is_empty() {
            self.join();
        }
        self.cluster.assert_finished("g", "t").await;
        while let Some((_, member)) = self.leave() {
            member.stop().await;
        }
        assert_exactly_once(&self.cluster, &[], &format!("seed {seed}"));
        self.aborted
    }
}

#[test]
fn no_storm_loses_or_repeats_an_output() {
    let only = std::env::var("STORM_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut aborted = 0;
    for seed in only.map_or(0..SEEDS, |seed: u64| seed..seed + 1) {
        run(async { aborted += Storm::new(seed).run(seed).await });
    }
    assert!(aborted > 0 || only.is_some(), "void: no transaction was aborted");
}
