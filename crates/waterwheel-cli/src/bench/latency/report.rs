//! What a measurement says.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Not;
use std::time::Duration;

use serde::Serialize;

use super::Latency;
use super::measure::Ended;
use super::pairs::Pairs;
use super::schedule::LATE;
use crate::bench::place::Brokers;
use crate::bench::run::rounded;
use crate::exit::{Exit, Failure, say};
use crate::global::Output;
use crate::words::grouped;

/// Latencies, and how far they are to be trusted.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    arm: String,
    mode: &'static str,
    rate: u32,
    duration_s: f64,
    warm_up_s: f64,
    work_us: u64,
    concurrency: u32,
    /// Records that count and whose end was seen.
    records: u64,
    /// Records that were sent, warm-up included, and whose end was not seen in time.
    unseen: u64,
    #[serde(skip)]
    first_unseen: Option<(usize, i64)>,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    #[serde(rename = "p99_9_ms")]
    p999_ms: f64,
    max_ms: f64,
    /// Records that count and were sent more than 1 ms after they were due.
    late: u64,
    latest_ms: f64,
    #[serde(skip_serializing_if = "Not::not")]
    interrupted: bool,
    #[serde(skip_serializing_if = "Not::not")]
    embedded: bool,
    #[serde(skip)]
    garbage: u64,
    #[serde(skip)]
    timeout: Duration,
}

fn ms(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1000.0)
}

impl Report {
    pub(super) fn new(
        asked: &Latency,
        brokers: &Brokers,
        arm: String,
        ended: Ended,
        pairs: &Pairs,
        garbage: u64,
    ) -> Self {
        let latency = |quantile| rounded(pairs.histogram().value_at_quantile(quantile) as f64 / 1000.0);
        Self {
            arm,
            mode: asked.mode.name(),
            rate: asked.rate,
            duration_s: rounded(asked.duration.as_secs_f64()),
            warm_up_s: rounded(asked.warm_up.as_secs_f64()),
            work_us: asked.work_us,
            concurrency: asked.concurrency,
            records: pairs.histogram().len(),
            // After an interruption, what was under way is nobody's fault.
            unseen: if ended.is_interrupted { 0 } else { ended.kept.sent.saturating_sub(pairs.paired()) },
            first_unseen: pairs.first_unseen(),
            p50_ms: latency(0.5),
            p90_ms: latency(0.9),
            p99_ms: latency(0.99),
            p999_ms: latency(0.999),
            max_ms: latency(1.0),
            late: ended.kept.late,
            latest_ms: ms(ended.kept.latest),
            interrupted: ended.is_interrupted,
            embedded: brokers.are_embedded(),
            garbage: garbage + pairs.strays(),
            timeout: asked.timeout,
        }
    }

    /// Whether it was interrupted before the first record that counts.
    pub(super) fn is_empty(&self) -> bool {
        self.interrupted && self.records == 0
    }

    /// On stdout.
    pub(super) fn print(&self, output: Output) -> Result<(), Failure> {
        let text = match output {
            Output::Table => self.table(),
            Output::Json | Output::Ndjson => {
                let line = serde_json::to_string(self).map_err(std::io::Error::from)?;
                format!("{line}\n")
            }
        };
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }

    fn table(&self) -> String {
        let mut text = format!(
            "{}, mode {}\n{} records/s for {} s after {} s of warm-up, {} µs of work each\n\
             from when a record was due to be sent to the end of its handler:\n\n",
            self.arm,
            self.mode,
            grouped(u64::from(self.rate)),
            self.duration_s,
            self.warm_up_s,
            grouped(self.work_us),
        );
        let mut row = |name: &str, value: String, more: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<12}{value:>14}{more}");
        };
        let rows = [
            ("p50", self.p50_ms),
            ("p90", self.p90_ms),
            ("p99", self.p99_ms),
            ("p99.9", self.p999_ms),
            ("max", self.max_ms),
        ];
        for (name, latency) in rows {
            row(name, format!("{latency:.3} ms"), "");
        }
        row("records", grouped(self.records), "");
        let more = format!("  by more than {} ms, {:.3} ms at most", LATE.as_millis(), self.latest_ms);
        row("sent late", grouped(self.late), if self.late == 0 { "" } else { &more });
        if self.unseen > 0 {
            row("unseen", grouped(self.unseen), "  in none of the figures above");
        }
        text
    }

    /// How the verb ends.
    pub(super) fn verdict(&self) -> Result<Exit, Failure> {
        if self.garbage > 0 {
            say(format_args!(
                "warning: lines of the consumer's journal that are none of its format, or of no record of this run: {}",
                grouped(self.garbage)
            ));
        }
        if self.interrupted {
            say("interrupted: the figures are of what was sent until then");
            return Ok(Exit::DrainedLate);
        }
        if self.unseen == 0 {
            return Ok(Exit::Done);
        }
        let first = self.first_unseen.map_or_else(String::new, |(partition, offset)| {
            format!(", the first of them at offset {offset} of partition {partition}")
        });
        let message = format!(
            "{} records were not handled within {} of the last one's sending{first}",
            grouped(self.unseen),
            humantime::format_duration(self.timeout),
        );
        Err(Failure::new(Exit::ConditionNotMet, message)
            .hint("the consumer cannot keep up, or loses records: try a lower --rate or a longer --timeout"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            arm: "waterwheel-0".to_owned(),
            mode: "key",
            rate: 1000,
            duration_s: 30.0,
            warm_up_s: 5.0,
            work_us: 100,
            concurrency: 256,
            records: 30_000,
            unseen: 0,
            first_unseen: None,
            p50_ms: 1.234,
            p90_ms: 2.0,
            p99_ms: 12.5,
            p999_ms: 123.456,
            max_ms: 1234.567,
            late: 0,
            latest_ms: 0.4,
            interrupted: false,
            embedded: false,
            garbage: 0,
            timeout: Duration::from_secs(30),
        }
    }

    #[test]
    fn the_table_is_aligned_and_fits_80_columns() {
        let text = Report { late: 12, latest_ms: 3.2, unseen: 7, ..report() }.table();
        assert_eq!(
            text,
            "waterwheel-0, mode key\n\
             1,000 records/s for 30 s after 5 s of warm-up, 100 µs of work each\n\
             from when a record was due to be sent to the end of its handler:\n\n\
             p50               1.234 ms\n\
             p90               2.000 ms\n\
             p99              12.500 ms\n\
             p99.9           123.456 ms\n\
             max            1234.567 ms\n\
             records             30,000\n\
             sent late               12  by more than 1 ms, 3.200 ms at most\n\
             unseen                   7  in none of the figures above\n"
        );
    }

    #[test]
    fn json_has_milliseconds() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!((&json["p99_9_ms"], &json["records"], &json["late"]), (&123.456.into(), &30_000.into(), &0.into()));
        assert!(json.get("interrupted").is_none() && json.get("garbage").is_none());
    }

    #[test]
    fn what_was_not_handled_is_a_failure() {
        assert!(matches!(report().verdict(), Ok(Exit::Done)));
        assert!(matches!(Report { interrupted: true, ..report() }.verdict(), Ok(Exit::DrainedLate)));
        let failure = Report { unseen: 1_234, first_unseen: Some((3, 17)), ..report() }.verdict().unwrap_err();
        assert_eq!(failure.exit(), Exit::ConditionNotMet);
    }
}
