//! A demo on the terminal.
//!
//! The terminal is as it was before when this is dropped, and after a panic.

use std::io;
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::DefaultTerminal;

use super::draw::{Frame, draw};
use super::plan::Plan;
use super::show::Act;
use super::watch::View;
use crate::exit::Failure;
use crate::log::Hold;
use crate::stop::Requests;

/// The terminal while a demo has it.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    seed: u64,
    length: Duration,
    place: String,
    colored: bool,
    stop: Requests,
    /// Last: what was logged appears once the screen is left.
    _log: Hold,
}

impl Screen {
    pub(super) fn open(plan: &Plan, place: String, colored: bool, stop: Requests) -> Result<Self, Failure> {
        let log = Hold::begin();
        // Restores the terminal in a panic, too.
        let terminal = ratatui::try_init()?;
        Ok(Self { terminal, seed: plan.seed, length: plan.length, place, colored, stop, _log: log })
    }

    /// Reads the keys pressed and draws.
    pub(super) fn show(&mut self, view: &View, act: Act) -> io::Result<()> {
        while event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
                && asks_to_stop(key.code, key.modifiers)
            {
                self.stop.add();
            }
        }
        let frame =
            Frame { view, act, seed: self.seed, length: self.length, place: &self.place, colored: self.colored };
        self.terminal.draw(|area| draw(&frame, area))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A panic has restored it already, and its message stands where the cursor would go back to.
        if std::thread::panicking() {
            return;
        }
        // A terminal that is gone needs no restoring.
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
    }
}

/// In raw mode Ctrl-C is a key like others.
fn asks_to_stop(code: KeyCode, modifiers: KeyModifiers) -> bool {
    match code {
        KeyCode::Char('c' | 'C') => modifiers.contains(KeyModifiers::CONTROL),
        KeyCode::Char('q' | 'Q') => true,
        _ => false,
    }
}
