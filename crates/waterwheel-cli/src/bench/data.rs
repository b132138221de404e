//! The records of a topic that a bench fills, and what follows from them: where each lies, whether the in-process cluster
//! can hold them, and how fast they can be worked on at all.
//!
//! Key number n goes to partition n modulo their number, and a topic is new, so every record's place is known without
//! asking: partitions are even, and a bound needs no list.

use waterwheel::ProducerRecord;

use crate::random::SplitMix;

/// What the in-process cluster keeps of a partition, less what sizes are wrong by (it drops the oldest beyond 5 MiB).
const PARTITION_BYTES: u64 = 4 << 20;
/// Bytes of a record beside its value, at most: a key of 8, framing, and its part of a batch's header.
const FRAMING: u64 = 32;

/// The records of a topic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Data {
    pub(super) partitions: usize,
    pub(super) records: u64,
    /// Bytes of each value.
    pub(super) size: usize,
    pub(super) keys: u64,
    pub(super) spread: Spread,
}

/// How often keys come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// In turn.
    Even,
    /// Key n in proportion to 1/(n + 1), at random but the same each time.
    Zipf,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) partition: usize,
    pub(super) offset: u64,
    pub(super) key: u64,
}

impl Data {
    /// All records, in the order in which they are sent.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let (keys, partitions) = (self.keys.max(1), self.partitions.max(1));
        let mut draw = Draw::new(self.spread, keys);
        let mut ends = vec![0; partitions];
        (0..self.records).map(move |n| {
            let key = draw.key(n);
            let partition = (key % partitions as u64) as usize;
            let offset = ends[partition];
            ends[partition] += 1;
            Place { partition, offset, key }
        })
    }

    /// The records to be sent.
    pub(super) fn outgoing(&self, topic: &str) -> impl Iterator<Item = ProducerRecord> + use<> {
        let plain = ProducerRecord::to(topic).value(vec![b'x'; self.size]);
        self.places().map(move |place| plain.clone().key(format!("k{}", place.key)).partition(place.partition as i32))
    }

    /// Records of the fullest partition.
    fn fullest(&self) -> u64 {
        match self.spread {
            Spread::Even => {
                // Of the keys of the first partition each comes once a round, and first in the last, unfinished one.
                let of_first = |keys: u64| keys.div_ceil(self.partitions.max(1) as u64);
                let keys = self.keys.max(1);
                self.records / keys * of_first(keys) + of_first(self.records % keys)
            }
            Spread::Zipf => self.places().fold(vec![0; self.partitions.max(1)], count).into_iter().max().unwrap_or(0),
        }
    }

    /// Whether the in-process cluster keeps all of them.
    pub(super) fn fits_embedded(&self) -> bool {
        self.fullest() * (self.size as u64 + FRAMING) <= PARTITION_BYTES
    }

    /// The same with no more records than the in-process cluster keeps; none if a single one is too large.
    pub(super) fn fitting_embedded(mut self) -> Self {
        if !self.fits_embedded() {
            // Both ends of what is left to search: fits, does not fit.
            let (mut fits, mut too_many) = (0, self.records);
            while too_many - fits > 1 {
                self.records = fits + (too_many - fits) / 2;
                if self.fits_embedded() { fits = self.records } else { too_many = self.records }
            }
            self.records = fits;
        }
        self
    }
}

fn count(mut records: Vec<u64>, place: Place) -> Vec<u64> {
    records[place.partition] += 1;
    records
}

/// Draws keys.
struct Draw {
    keys: u64,
    /// For each key the sum of the weights up to it; empty where keys come in turn.
    weights: Vec<f64>,
    random: SplitMix,
}

impl Draw {
    fn new(spread: Spread, keys: u64) -> Self {
        let weights = match spread {
            Spread::Even => Vec::new(),
            Spread::Zipf => (0..keys)
                .scan(0.0, |sum, n| {
                    *sum += 1.0 / (n + 1) as f64;
                    Some(*sum)
                })
                .collect(),
        };
        Self { keys, weights, random: SplitMix::default() }
    }

    fn key(&mut self, n: u64) -> u64 {
        let Some(all) = self.weights.last() else { return n % self.keys };
        let share = (self.random.next() >> 11) as f64 / (1u64 << 53) as f64;
        self.weights.partition_point(|weight| *weight <= share * all).min(self.weights.len() - 1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(partitions: usize, records: u64, keys: u64, spread: Spread) -> Data {
        Data { partitions, records, size: 100, keys, spread }
    }

    #[test]
    fn offsets_count_up_in_each_partition() {
        let places: Vec<_> = data(2, 6, 3, Spread::Even).places().collect();
        let expected = [(0, 0, 0), (1, 0, 1), (0, 1, 2), (0, 2, 0), (1, 1, 1), (0, 3, 2)];
        assert_eq!(places, expected.map(|(partition, offset, key)| Place { partition, offset, key }));
    }

    #[test]
    fn the_fullest_partition_is_known() {
        for (partitions, records, keys) in [(1, 10, 3), (2, 6, 3), (4, 7, 3), (3, 100, 10), (8, 25_000, 1_000)] {
            let data = data(partitions, records, keys, Spread::Even);
            let counted = data.places().fold(vec![0; partitions], count).into_iter().max();
            assert_eq!(Some(data.fullest()), counted, "{data:?}");
        }
    }

    #[test]
    fn the_first_key_of_zipf_comes_most_often() {
        let mut keys = vec![0u64; 1_000];
        for place in data(24, 12_000, 1_000, Spread::Zipf).places() {
            keys[place.key as usize] += 1;
        }
        // One over the 1,000th harmonic number is 13.4 %, half as much for the second.
        assert!((1_400..1_800).contains(&keys[0]) && (650..1_000).contains(&keys[1]), "{} {}", keys[0], keys[1]);
        assert!(keys.iter().filter(|n| **n > 0).count() > 800);
    }

    #[test]
    fn records_are_cut_to_what_the_embedded_cluster_keeps() {
        let small = data(8, 25_000, 1_000, Spread::Even);
        assert_eq!(small.fitting_embedded(), small);
        for spread in [Spread::Even, Spread::Zipf] {
            let cut = data(8, 3_000_000, 10_000, spread).fitting_embedded();
            assert!(cut.fits_embedded() && !Data { records: cut.records + 8, ..cut }.fits_embedded(), "{cut:?}");
        }
        assert_eq!(Data { size: 8 << 20, ..small }.fitting_embedded().records, 0);
    }
}
