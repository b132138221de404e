//! What no engine can pass: all the work shared out over the handlers that may run at once, or the longest chain of
//! records that have to wait for each other, whichever takes longer.

use std::collections::HashMap;

use super::workloads::Workload;
use crate::bench::Mode;

/// Seconds after which a record that failed is tried again.
const RETRY: f64 = 1.0;

/// Records a second, where each handler waits that many microseconds; `None` where none waits.
pub(super) fn bound(workload: &Workload, wait_us: f64) -> Option<f64> {
    if workload.work.is_zero() || wait_us <= 0.0 {
        return None;
    }
    let wait = wait_us / 1e6;
    let (mut total, mut chains) = (0.0, HashMap::<u64, f64>::new());
    for place in workload.data.places() {
        let fails = (place.partition as u64 * 7919 + place.offset) % 100 < workload.fail_pct;
        total += if fails { 2.0 * wait } else { wait };
        let chain = match workload.mode {
            Mode::Partition => place.partition as u64,
            Mode::Key => place.key,
            // Nothing waits, but for its own retry.
            Mode::Unordered | Mode::Raw | Mode::Pull => continue,
        };
        *chains.entry(chain).or_default() += if fails { 2.0 * wait + RETRY } else { wait };
    }
    let longest = chains.into_values().fold(total / workload.concurrency as f64, f64::max);
    Some(workload.data.records as f64 / longest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::data::{Data, Spread};

    fn workload(mode: Mode, keys: u64, concurrency: usize, fail_pct: u64) -> Workload {
        let data = Data { partitions: 2, records: 1_000, size: 1, keys, spread: Spread::Even };
        let work = Duration::from_millis(10);
        Workload { name: "w", data, mode, concurrency, work, fail_pct, idle_policies: false, series: None }
    }

    fn rounded(workload: &Workload, wait_us: f64) -> Option<u64> {
        bound(workload, wait_us).map(|rate| rate.round() as u64)
    }

    #[test]
    fn a_bound_is_the_concurrency_or_the_longest_chain() {
        // 1,000 records of 10 ms: 10 s of work.
        assert_eq!(rounded(&workload(Mode::Unordered, 10, 20, 0), 10_000.0), Some(2_000));
        assert_eq!(rounded(&workload(Mode::Key, 100, 20, 0), 10_000.0), Some(2_000));
        // Ten chains of a second each.
        assert_eq!(rounded(&workload(Mode::Key, 10, 20, 0), 10_000.0), Some(1_000));
        assert_eq!(rounded(&workload(Mode::Partition, 10, 20, 0), 10_000.0), Some(200));
        // As the handlers really waited.
        assert_eq!(rounded(&workload(Mode::Partition, 10, 20, 0), 12_500.0), Some(160));
    }

    #[test]
    fn a_failure_costs_its_chain_the_wait_for_its_retry() {
        // Of 100 keys each has ten records; half of the first partition's chains, offsets 0 and 100 and so on, have one or
        // more that fail: 11 x 10 ms and a second.
        let one = bound(&workload(Mode::Key, 100, 100, 1), 10_000.0).unwrap();
        assert!(one < 1_000.0 / 1.1, "{one}");
        assert_eq!(rounded(&workload(Mode::Unordered, 100, 100, 1), 10_000.0), Some(9_901));
    }

    #[test]
    fn without_waiting_there_is_no_bound() {
        assert_eq!(bound(&workload(Mode::Key, 10, 20, 0), 0.0), None);
        let idle = Workload { work: Duration::ZERO, ..workload(Mode::Key, 10, 20, 0) };
        assert_eq!(bound(&idle, 5.0), None);
    }
}
