//! Events as lines of JSON on stdout.

use std::io::{self, Write};

use serde::Serialize;

use crate::words::now_ms;

/// Lines that are to be written, several with one `write(2)`.
#[derive(Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    broken: Option<io::Error>,
}

/// An event without anything beside its name.
#[derive(Serialize)]
pub(super) struct Nothing {}

#[derive(Serialize)]
struct Line<'a, T> {
    timestamp: u64,
    name: &'a str,
    #[serde(flatten)]
    event: T,
}

impl Lines {
    /// Adds an event.
    pub(super) fn add(&mut self, name: &str, event: impl Serialize) {
        let before = self.bytes.len();
        match serde_json::to_writer(&mut self.bytes, &Line { timestamp: now_ms(), name, event }) {
            Ok(()) => self.bytes.push(b'\n'),
            Err(error) => {
                self.bytes.truncate(before);
                self.broken.get_or_insert_with(|| error.into());
            }
        }
    }

    /// Writes what was added. `false` once nothing can be written any more.
    pub(super) fn write(&mut self) -> bool {
        if self.broken.is_none() && !self.bytes.is_empty() {
            let mut stdout = io::stdout().lock();
            if let Err(error) = stdout.write_all(&self.bytes).and_then(|()| stdout.flush()) {
                self.broken = Some(error);
            }
        }
        self.bytes.clear();
        self.broken.is_none()
    }

    /// Why nothing is written any more.
    pub(super) fn broken(&mut self) -> Option<io::Error> {
        self.broken.take()
    }
}

/// A key or value as text; what is no UTF-8 is replaced.
pub(super) fn text(bytes: Option<&[u8]>) -> Option<std::borrow::Cow<'_, str>> {
    bytes.map(String::from_utf8_lossy)
}
