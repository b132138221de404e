//! How far something has come, on stderr: a bar where that is a terminal, else a line each 10 s.

use std::convert::Infallible;
use std::fmt::Display;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::exit::say;
use crate::global::Global;
use crate::log::Hold;

/// How often the bar is drawn.
const DRAW: Duration = Duration::from_millis(200);
/// How often a line is said.
const LINE: Duration = Duration::from_secs(10);

pub(crate) struct Progress {
    shape: Shape,
}

enum Shape {
    None,
    Lines,
    /// Lines of the log would spoil it.
    Bar(ProgressBar, Hold),
}

/// How far it is now.
pub(crate) struct Look {
    pub(crate) done: u64,
    /// `None`: nobody knows.
    pub(crate) total: Option<u64>,
    /// What stands behind the bar.
    pub(crate) beside: String,
    /// What a line says.
    pub(crate) line: String,
}

impl Progress {
    /// `writes`: whether stdout is written meanwhile, which is not to mix with a bar on one terminal.
    pub(crate) fn new(global: &Global, writes: bool) -> Self {
        let shape = if global.is_quiet() || writes && std::io::stdout().is_terminal() {
            Shape::None
        } else if std::io::stderr().is_terminal() {
            Shape::Bar(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()), Hold::begin())
        } else {
            Shape::Lines
        };
        Self { shape }
    }

    /// None at all.
    pub(crate) fn none() -> Self {
        Self { shape: Shape::None }
    }

    /// Shows it until this is dropped.
    pub(crate) async fn show(&self, look: impl Fn() -> Look) -> Infallible {
        match &self.shape {
            Shape::None => std::future::pending().await,
            Shape::Lines => loop {
                tokio::time::sleep(LINE).await;
                say(look().line);
            },
            Shape::Bar(bar, _) => {
                let template = if look().total.is_some() { "{bar:25} {percent:>3} % {msg}" } else { "{spinner} {msg}" };
                // Without a style of its own it has the usual one.
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style);
                }
                loop {
                    tokio::time::sleep(DRAW).await;
                    let now = look();
                    if let Some(total) = now.total {
                        bar.set_length(total);
                    }
                    bar.set_position(now.done);
                    bar.set_message(now.beside);
                    bar.tick();
                }
            }
        }
    }

    /// Says something beside it.
    pub(crate) fn say(&self, line: impl Display) {
        match &self.shape {
            Shape::Bar(bar, _) => bar.suspend(|| say(line)),
            _ => say(line),
        }
    }

    /// It has come to its end, of which that is said where anything was shown.
    pub(crate) fn done(&self, line: impl Display) {
        self.clear();
        if !matches!(self.shape, Shape::None) {
            say(line);
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        if let Shape::Bar(bar, _) = &self.shape {
            bar.finish_and_clear();
        }
    }
}
