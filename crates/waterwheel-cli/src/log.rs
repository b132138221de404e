//! Where the log goes: to stderr, or held back while a screen is up, which lines in between would spoil.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

/// Lines held back at most; older ones go.
const LINES: usize = 200;

static HELD: Mutex<Option<VecDeque<Vec<u8>>>> = Mutex::new(None);

/// Writes one line of the log.
pub(crate) struct Writer;

/// For `tracing_subscriber`.
pub(crate) fn writer() -> Writer {
    Writer
}

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *HELD.lock().unwrap_or_else(PoisonError::into_inner) {
            None => io::stderr().write_all(line)?,
            Some(held) => {
                if held.len() == LINES {
                    held.pop_front();
                }
                held.push_back(line.to_vec());
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Holds the log back until it is dropped, if it would go to the terminal.
pub(crate) struct Hold(());

impl Hold {
    pub(crate) fn begin() -> Self {
        if io::stderr().is_terminal() {
            HELD.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
        }
        Hold(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
        for line in held.into_iter().flatten() {
            // Nobody may be listening.
            let _ = io::stderr().write_all(&line);
        }
    }
}
