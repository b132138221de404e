//! A demo in lines on stderr, for logs and for terminals that are none.

use std::time::Duration;

use super::show::Act;
use super::watch::{Kind, View};
use crate::exit::say;
use crate::words::grouped;

/// Tells what is new.
#[derive(Default)]
pub(super) struct Lines {
    /// When the last line of figures was.
    last: Option<Duration>,
    /// Up to when events were told.
    told: Duration,
    /// Whether the end of producing was told.
    producing_ended: bool,
}

impl Lines {
    /// A line of figures a second, and what happened in the group as it happens.
    pub(super) fn show(&mut self, view: &View, act: Act) {
        if act != Act::Producing && !std::mem::replace(&mut self.producing_ended, true) {
            let at = view.elapsed.as_secs_f64();
            say(format_args!("{at:5.1} s  no more orders; finishing those written (Ctrl-C: stop at once)"));
        }
        for event in view.events.iter().filter(|e| e.at > self.told && matches!(e.kind, Kind::Group | Kind::Trouble)) {
            say(format_args!("{:5.1} s  {} {}", event.at.as_secs_f64(), event.member, event.text));
        }
        self.told = view.events.last().map_or(self.told, |event| event.at);
        if self.last.is_none_or(|last| view.elapsed.saturating_sub(last) >= Duration::from_secs(1)) {
            self.last = Some(view.elapsed);
            say(figures(view));
        }
    }
}

fn figures(view: &View) -> String {
    let mut line = format!(
        "{:5.1} s  produced {} ({:.0}/s)  finished {} ({:.0}/s)  in work {}  lag {}  retries {}  dead letters {} ",
        view.elapsed.as_secs_f64(),
        grouped(view.produced),
        view.produced_rate,
        grouped(view.finished),
        view.finished_rate,
        view.in_work,
        grouped(view.lag.unsigned_abs()),
        view.retries,
        view.dead_letters,
    );
    for member in ['A', 'B'] {
        let has = view.partitions.iter().filter(|row| row.owner == Some(member)).count();
        if has > 0 {
            line.push_str(&format!(" {member}: {has} partitions"));
        }
    }
    line
}
