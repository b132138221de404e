//! The figures of one `consume` or `produce`, as the line of the side-by-side protocol and for people; and the line as any
//! program that speaks it prints it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Not;

use serde::{Deserialize, Serialize};

use crate::exit::Failure;
use crate::global::Output;
use crate::words::grouped;

/// In the order in which the line has them.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) arm: String,
    pub(super) mode: &'static str,
    /// Distinct records handled (or acknowledged).
    pub(super) records: u64,
    /// From the process's start to the first record.
    pub(super) join_s: f64,
    /// From the first record to the end of the last.
    pub(super) steady_s: f64,
    pub(super) rate: f64,
    pub(super) cpu_s: f64,
    pub(super) rss_mib: f64,
    /// Most handlers that waited at once.
    pub(super) peak_in_flight: usize,
    /// The mean that handlers really waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wait_us: Option<u64>,
    /// How long each `send` took: the median, and all but a hundredth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p50_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p99_us: Option<u64>,
    /// What the run does not keep of what the others promise.
    #[serde(rename = "unsafe", skip_serializing_if = "Option::is_none")]
    pub(super) is_unsafe: Option<&'static str>,
    #[serde(skip_serializing_if = "Not::not")]
    pub(super) stalled: bool,
    #[serde(skip_serializing_if = "Not::not")]
    pub(super) embedded: bool,
}

impl Figures {
    /// On stdout: the line, or a table.
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
        let mut text = format!("{}, mode {}\n\n", self.arm, self.mode);
        let mut row = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<16}{value:>16}");
        };
        row("records", grouped(self.records));
        row("a second", grouped(self.rate.round() as u64));
        row("join", format!("{:.3} s", self.join_s));
        row("steady", format!("{:.3} s", self.steady_s));
        row("CPU", format!("{:.3} s", self.cpu_s));
        row("peak resident", format!("{:.1} MiB", self.rss_mib));
        if let Some(wait) = self.wait_us {
            row("peak in work", grouped(self.peak_in_flight as u64));
            row("handlers waited", format!("{} µs", grouped(wait)));
        }
        for (name, time) in [("send, median", self.p50_us), ("send, p99", self.p99_us)] {
            if let Some(time) = time {
                row(name, format!("{} µs", grouped(time)));
            }
        }
        if let Some(why) = self.is_unsafe {
            text.push_str(&format!("\nunsafe: {why}\n"));
        }
        if self.stalled {
            text.push_str("\nstalled: no progress for 120 s\n");
        }
        text
    }
}

/// What is read of a program's line.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Told {
    pub(super) arm: Option<String>,
    pub(super) unsupported: Option<String>,
    pub(super) records: u64,
    pub(super) join_s: f64,
    pub(super) rate: f64,
    pub(super) cpu_s: f64,
    pub(super) rss_mib: f64,
    pub(super) wait_us: Option<f64>,
}

impl Told {
    /// `None` where the line is no JSON object of that kind.
    pub(super) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        Figures {
            arm: "waterwheel-0".to_owned(),
            mode: "key",
            records: 25_000,
            join_s: 0.204,
            steady_s: 0.512,
            rate: 48_828.125,
            cpu_s: 0.271,
            rss_mib: 31.5,
            peak_in_flight: 0,
            wait_us: None,
            p50_us: None,
            p99_us: None,
            is_unsafe: None,
            stalled: false,
            embedded: false,
        }
    }

    #[test]
    fn the_line_has_the_protocols_fields_in_its_order() {
        let line = serde_json::to_string(&figures()).unwrap();
        assert_eq!(
            line,
            r#"{"arm":"waterwheel-0","mode":"key","records":25000,"join_s":0.204,"steady_s":0.512,"rate":48828.125,"cpu_s":0.271,"rss_mib":31.5,"peak_in_flight":0}"#
        );
        let told = Told::parse(&line).unwrap();
        assert_eq!((told.records, told.rate, told.wait_us), (25_000, 48_828.125, None));
        let more = Figures { wait_us: Some(1123), is_unsafe: Some("why"), stalled: true, embedded: true, ..figures() };
        let line = serde_json::to_string(&more).unwrap();
        assert!(line.ends_with(r#""wait_us":1123,"unsafe":"why","stalled":true,"embedded":true}"#), "{line}");
    }

    #[test]
    fn the_table_is_aligned() {
        let more = Figures { wait_us: Some(1123), peak_in_flight: 1000, stalled: true, ..figures() };
        assert_eq!(
            more.table(),
            "waterwheel-0, mode key\n\n\
             records                   25,000\n\
             a second                  48,828\n\
             join                     0.204 s\n\
             steady                   0.512 s\n\
             CPU                      0.271 s\n\
             peak resident           31.5 MiB\n\
             peak in work               1,000\n\
             handlers waited         1,123 µs\n\
             \nstalled: no progress for 120 s\n"
        );
    }

    #[test]
    fn other_programs_lines_are_read_too() {
        let told = Told::parse(r#"{"arm":"a-1","mode":"key","unsupported":"no such mode"}"#).unwrap();
        assert_eq!(told.unsupported.as_deref(), Some("no such mode"));
        assert_eq!(Told::parse(r#"{"arm":"a","wait_us":1000.5,"rate":3}"#).unwrap().wait_us, Some(1000.5));
        assert_eq!(Told::parse("warning: x"), None);
    }
}
