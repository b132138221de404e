//! How far a history has come, on stderr: a bar where that is a terminal, else a line each 10 s.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use waterwheel::HistoryHandle;

use crate::exit::say;
use crate::global::Global;
use crate::log::Hold;
use crate::words::{grouped, minutes};

/// How often the bar is drawn.
const DRAW: Duration = Duration::from_millis(200);
/// How often a line is said.
const LINE: Duration = Duration::from_secs(10);

pub(super) struct Progress {
    shape: Shape,
}

enum Shape {
    None,
    Lines,
    /// Lines of the log would spoil it.
    Bar(ProgressBar, Hold),
}

impl Progress {
    /// `writes`: whether records are written meanwhile, which are not to mix with a bar on one terminal.
    pub(super) fn new(global: &Global, writes: bool) -> Self {
        let shape = if global.is_quiet() || writes && std::io::stdout().is_terminal() {
            Shape::None
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            // Without a style of its own it has the usual one.
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} % of {len} offsets{msg}") {
                bar.set_style(style);
            }
            Shape::Bar(bar, Hold::begin())
        } else {
            Shape::Lines
        };
        Self { shape }
    }

    /// Shows it until this is dropped.
    pub(super) async fn show(&self, handle: &HistoryHandle) -> Infallible {
        loop {
            match &self.shape {
                Shape::None => std::future::pending().await,
                Shape::Lines => {
                    tokio::time::sleep(LINE).await;
                    let now = handle.progress();
                    let done = now.total() - now.remaining().min(now.total());
                    say(format_args!("{} of {} offsets{}", grouped(done), grouped(now.total()), pace(&now)));
                }
                Shape::Bar(bar, _) => {
                    tokio::time::sleep(DRAW).await;
                    let now = handle.progress();
                    bar.set_length(now.total());
                    bar.set_position(now.total() - now.remaining().min(now.total()));
                    bar.set_message(pace(&now));
                }
            }
        }
    }

    /// It is caught up.
    pub(super) fn done(&self, now: &waterwheel::Progress) {
        if let Shape::Bar(bar, _) = &self.shape {
            bar.finish_and_clear();
        }
        if !matches!(self.shape, Shape::None) {
            say(format_args!("caught up: {} offsets of {} partitions", grouped(now.total()), now.partitions.len()));
        }
    }
}

/// Rate and time left, as far as they are known.
fn pace(now: &waterwheel::Progress) -> String {
    let rate = now.rate.map(|rate| format!(", {}/s", grouped(rate as u64)));
    let left = now.eta().map(|left| format!(", {} left", minutes(left)));
    rate.into_iter().chain(left).collect()
}
