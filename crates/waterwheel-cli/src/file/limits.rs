//! `[worker.breaker]`, `[worker.rate_limit]`, `[worker.adaptive]`: what holds starts back.

use std::time::Duration;

use waterwheel::{Adaptive, Breaker, RateLimit};

use super::fields::Table;
use super::worker::{MAX_CONCURRENCY, positive};

/// What holds a worker's starts back.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LimitsSpec {
    pub(crate) breaker: Option<Breaker>,
    /// Each class has its own; `None`: there is one for all.
    pub(crate) breaker_by: Option<By>,
    pub(crate) rate: Option<RateLimit>,
    pub(crate) adaptive: Option<Adaptive>,
}

/// What says which class a record is of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum By {
    Topic,
    /// The value of the header of that name.
    Header(String),
}

const MOST: u64 = 1_000_000_000;

pub(super) fn read(table: &Table<'_>, topics: Option<&[String]>) -> LimitsSpec {
    let (breaker, breaker_by) = breaker(table).unzip();
    LimitsSpec { breaker, breaker_by: breaker_by.flatten(), rate: rate(table, topics), adaptive: adaptive(table) }
}

fn breaker(table: &Table<'_>) -> Option<(Breaker, Option<By>)> {
    let section = table.table("breaker")?;
    section.known(&["failures", "failure_rate", "window", "least", "open_for", "at_most", "probes", "by"]);
    let window = positive(&section, "window");
    let mut breaker = match (section.has("failures"), section.has("failure_rate")) {
        (true, true) => {
            section.fail("failure_rate", "does not go with failures", "one of them says when it opens");
            return None;
        }
        (true, false) => {
            for key in ["window", "least"].into_iter().filter(|key| section.has(key)) {
                section.fail(key, "has no effect with failures", "leave it out, or write failure_rate");
            }
            Breaker::consecutive(section.integer("failures", 1..=1_000_000)? as u32)
        }
        (false, true) => {
            let share = section.float("failure_rate", 0.001..=0.999)?;
            let least = section.integer("least", 1..=1_000_000).unwrap_or(10) as u32;
            Breaker::failure_rate(share, window.unwrap_or(Duration::from_secs(10))).least(least)
        }
        (false, false) => {
            section.missing("failures", "say when it opens, as failures = 5 or failure_rate = 0.5");
            return None;
        }
    };
    let open_for = positive(&section, "open_for").unwrap_or(Duration::from_secs(10));
    breaker = breaker.open_for(open_for);
    if let Some(at_most) = positive(&section, "at_most") {
        if at_most < open_for {
            section.fail("at_most", "is less than open_for", "make it at least as long");
        }
        breaker = breaker.at_most(at_most);
    }
    let by = section.string("by").and_then(|text| by(&section, &text));
    Some((breaker.probes(section.integer("probes", 1..=1_000).unwrap_or(1) as u32), by))
}

fn by(section: &Table<'_>, text: &str) -> Option<By> {
    match text.strip_prefix("header:") {
        Some(name) if !name.is_empty() => Some(By::Header(name.to_owned())),
        None if text == "topic" => Some(By::Topic),
        _ => {
            section.fail("by", format!("is {text:?}"), "write \"topic\", or \"header:\" and a header's name");
            None
        }
    }
}

fn rate(table: &Table<'_>, topics: Option<&[String]>) -> Option<RateLimit> {
    let section = table.table("rate_limit")?;
    section.known(&["records", "bytes", "burst", "burst_bytes", "group_wide"]);
    let size = |name| section.size(name).inspect(|bytes| no_zero(&section, name, *bytes));
    let (records, bytes) = (section.integer("records", 1..=MOST), size("bytes"));
    let mut limit = match (records, bytes) {
        (Some(records), Some(bytes)) => RateLimit::records(records).and_bytes(bytes),
        (Some(records), None) => RateLimit::records(records),
        (None, Some(bytes)) => RateLimit::bytes(bytes),
        (None, None) => {
            if !section.has("records") && !section.has("bytes") {
                section.missing("records", "say how many a second, as records = 1000 or bytes = \"10MiB\"");
            }
            return None;
        }
    };
    for (burst, rate) in [("burst", "records"), ("burst_bytes", "bytes")] {
        if section.has(burst) && !section.has(rate) {
            section.fail(burst, format!("has no effect without {rate}"), "leave it out");
        }
    }
    if let Some(burst) = section.integer("burst", 1..=MOST) {
        limit = limit.burst(burst);
    }
    if let Some(burst) = size("burst_bytes") {
        limit = limit.burst_bytes(burst);
    }
    if section.truth("group_wide").unwrap_or(false) {
        if topics.is_some_and(|topics| topics.iter().any(|topic| topic.starts_with('^'))) {
            let problem = "needs topics by their names: of a pattern nobody knows how many partitions there are";
            section.fail("group_wide", problem, "name the topics");
        }
        limit = limit.group_wide();
    }
    Some(limit)
}

fn no_zero(section: &Table<'_>, name: &str, bytes: u64) {
    if bytes == 0 {
        section.fail(name, "is zero", "at least \"1B\"");
    }
}

fn adaptive(table: &Table<'_>) -> Option<Adaptive> {
    let section = table.table("adaptive")?;
    section.known(&["floor", "ceiling", "tolerate_failures"]);
    if table.has("concurrency") {
        table.fail("concurrency", "has no effect with adaptive", "its ceiling takes its place: leave it out");
    }
    let floor = section.integer("floor", 1..=MAX_CONCURRENCY).unwrap_or(8);
    let ceiling = section.integer("ceiling", 1..=MAX_CONCURRENCY).unwrap_or(1_000);
    if ceiling < floor {
        section.fail("ceiling", format!("is below the floor, {floor}"), "make it at least as large");
        return None;
    }
    let adaptive = Adaptive::between(floor as usize, ceiling as usize);
    Some(match section.float("tolerate_failures", 0.0..=1.0) {
        Some(share) => adaptive.tolerate_failures(share),
        None => adaptive,
    })
}
