//! The workloads, by name: what lies in the topic, and what the handlers do.

use std::time::Duration;

use crate::bench::Mode;
use crate::bench::data::{Data, Spread};

/// One workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) data: Data,
    pub(super) mode: Mode,
    pub(super) concurrency: usize,
    /// How long each handler waits.
    pub(super) work: Duration,
    /// Percent of the records that fail the first time and are tried again after a second.
    pub(super) fail_pct: u64,
    /// With every policy, none of which has anything to do.
    pub(super) idle_policies: bool,
    /// The series that it is of, whose first one the others' costs are told against.
    pub(super) series: Option<&'static str>,
}

const fn data(partitions: usize, records: u64, size: usize, keys: u64) -> Data {
    Data { partitions, records, size, keys, spread: Spread::Even }
}

const NO_WORK: Data = data(8, 3_000_000, 100, 10_000);
const SOME_WORK: Data = data(8, 25_000, 50, 1_000);
const HOT_KEYS: Data = Data { spread: Spread::Zipf, ..data(24, 4_000, 100, 1_000) };

const fn plain(name: &'static str, data: Data, mode: Mode, concurrency: usize, work_ms: u64) -> Workload {
    let work = Duration::from_millis(work_ms);
    Workload { name, data, mode, concurrency, work, fail_pct: 0, idle_policies: false, series: None }
}

/// Of a series: key order.
const fn growth(series: &'static str, name: &'static str, data: Data, concurrency: usize, work_ms: u64) -> Workload {
    Workload { series: Some(series), ..plain(name, data, Mode::Key, concurrency, work_ms) }
}

/// All of them; series last, each beginning with its smallest.
///
/// In the series of records in work the handlers wait the longer the more there are, so that the records a second are of
/// one size from 100 on: where fewer come at a time, each costs more, because less is done at each awakening. The longest
/// of them last 10 s, of partitions 3 s, so that the start is no part of the figure.
const ALL: [Workload; 24] = [
    plain("key0", NO_WORK, Mode::Key, 1_000, 0),
    Workload { idle_policies: true, ..plain("key0-policies", NO_WORK, Mode::Key, 1_000, 0) },
    plain("part0", NO_WORK, Mode::Partition, 8, 0),
    plain("unord0", NO_WORK, Mode::Unordered, 1_000, 0),
    plain("key1ms", SOME_WORK, Mode::Key, 1_000, 1),
    plain("key10ms", SOME_WORK, Mode::Key, 1_000, 10),
    plain("key100ms", SOME_WORK, Mode::Key, 1_000, 100),
    plain("key5000x100ms", data(8, 50_000, 50, 5_000), Mode::Key, 5_000, 100),
    plain("unord10ms", SOME_WORK, Mode::Unordered, 1_000, 10),
    plain("part20ms", data(24, 10_000, 100, 10_000), Mode::Partition, 24, 20),
    plain("zipf10ms", HOT_KEYS, Mode::Key, 1_000, 10),
    Workload { fail_pct: 1, ..plain("zipf10ms-fail1", HOT_KEYS, Mode::Key, 1_000, 10) },
    growth("partitions", "partitions-1", data(1, 6_000_000, 100, 10_000), 1_000, 0),
    growth("partitions", "partitions-10", data(10, 6_000_000, 100, 10_000), 1_000, 0),
    growth("partitions", "partitions-100", data(100, 6_000_000, 100, 10_000), 1_000, 0),
    growth("partitions", "partitions-1000", data(1_000, 6_000_000, 100, 10_000), 1_000, 0),
    growth("keys", "keys-10", data(8, 2_000_000, 100, 10), 1_000, 0),
    growth("keys", "keys-1000", data(8, 2_000_000, 100, 1_000), 1_000, 0),
    growth("keys", "keys-100000", data(8, 2_000_000, 100, 100_000), 1_000, 0),
    growth("keys", "keys-1000000", data(8, 2_000_000, 100, 1_000_000), 1_000, 0),
    growth("in-work", "in-work-1", data(8, 2_000, 100, 100_000), 1, 1),
    growth("in-work", "in-work-100", data(8, 200_000, 100, 100_000), 100, 1),
    growth("in-work", "in-work-1000", data(8, 300_000, 100, 100_000), 1_000, 10),
    growth("in-work", "in-work-20000", data(8, 2_000_000, 100, 100_000), 20_000, 100),
];

/// The names of all workloads, for a help text.
pub(super) fn names() -> String {
    let plain = ALL.iter().filter(|w| w.series.is_none()).map(|w| w.name).collect::<Vec<_>>().join(", ");
    let growth = ALL.iter().filter(|w| w.series.is_some()).map(|w| w.name).collect::<Vec<_>>().join(", ");
    format!("Workloads: {plain}\n\nOf growth: {growth}")
}

/// Those of a list of names: `all` is all but the series, `growth` the series.
pub(super) fn chosen(list: &str) -> Result<Vec<Workload>, String> {
    let mut chosen: Vec<Workload> = Vec::new();
    for name in list.split(',').map(str::trim) {
        let before = chosen.len();
        let is_meant = |w: &Workload| match name {
            "all" => w.series.is_none(),
            "growth" => w.series.is_some(),
            name => w.name == name,
        };
        let mut is_known = false;
        for workload in ALL.iter().filter(|w| is_meant(w)) {
            is_known = true;
            if !chosen[..before].contains(workload) {
                chosen.push(*workload);
            }
        }
        if !is_known {
            return Err(format!("no workload is called {name:?}; waterwheel help bench worker names them"));
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_names_are_workloads() {
        let names = |list: &str| chosen(list).unwrap().iter().map(|w| w.name).collect::<Vec<_>>();
        assert_eq!(names("key0"), ["key0"]);
        assert_eq!(names("part20ms, key0,part20ms"), ["part20ms", "key0"]);
        assert_eq!((names("all").len(), names("growth").len(), names("growth,all,key0").len()), (12, 12, 24));
        assert_eq!(
            chosen("key0,key7").unwrap_err(),
            "no workload is called \"key7\"; waterwheel help bench worker names them"
        );
        assert!(chosen("").is_err() && chosen("key0,,part0").is_err());
    }

    #[test]
    fn names_are_the_workloads_own() {
        for (at, workload) in ALL.iter().enumerate() {
            assert!(ALL[..at].iter().all(|other| other.name != workload.name), "{}", workload.name);
            assert!(workload.series.is_none_or(|series| workload.name.starts_with(series)), "{}", workload.name);
            assert!(workload.name.len() <= 15, "{}: the table has 15 columns for it", workload.name);
        }
    }
}
