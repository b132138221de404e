//! `kind = "print"`: each record as one JSON line on stdout, the envelope of the exec protocol without id and attempt.
//!
//! A record is finished when its line was written. A reader that stops reading holds the records up, not the worker: a
//! thread of its own writes. When the reader has gone, the worker stops in order.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use waterwheel::{Failure, Message};

use crate::body::Shown;
use crate::records::{JsonAs, View, push_record};

/// Lines that wait for the writer.
const LINES: usize = 1024;
/// Bytes that are written at once.
const CHUNK: usize = 1 << 16;

type Job = (Vec<u8>, oneshot::Sender<bool>);

/// Writes records to stdout. Cheap to clone; all workers of a run share one.
#[derive(Clone)]
pub(super) struct Printer {
    jobs: mpsc::Sender<Job>,
    gone: Arc<Notify>,
}

impl Printer {
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, to_write) = mpsc::channel(LINES);
        let gone = Arc::new(Notify::new());
        let teller = gone.clone();
        std::thread::Builder::new().name("print".to_owned()).spawn(move || {
            if let Err(error) = write(to_write, io::stdout()) {
                if error.kind() != io::ErrorKind::BrokenPipe {
                    tracing::error!(%error, "stdout cannot be written");
                }
                teller.notify_one();
            }
        })?;
        Ok(Self { jobs, gone })
    }

    /// Ends when nobody reads any more.
    pub(super) async fn gone(&self) {
        self.gone.notified().await;
    }

    pub(super) async fn handle(self, message: Message<Shown>) -> Result<(), Failure> {
        let mut line = Vec::with_capacity(256 + message.value().map_or(0, <[u8]>::len));
        let view = View::of(message.record()).with_value(&message.body);
        push_record(&mut line, &view, JsonAs::InPlace, None);
        line.push(b'\n');
        let (teller, written) = oneshot::channel();
        if self.jobs.send((line, teller)).await.is_ok() && written.await == Ok(true) {
            return Ok(());
        }
        Err(Failure::uncounted(Duration::from_secs(1), "stdout is closed"))
    }
}

/// Writes what comes, many lines at once when many wait; ends when nobody can send any more.
fn write(mut jobs: mpsc::Receiver<Job>, mut out: impl Write) -> io::Result<()> {
    let (mut chunk, mut tellers) = (Vec::new(), Vec::new());
    while let Some((line, teller)) = jobs.blocking_recv() {
        chunk.extend_from_slice(&line);
        tellers.push(teller);
        while chunk.len() < CHUNK
            && let Ok((line, teller)) = jobs.try_recv()
        {
            chunk.extend_from_slice(&line);
            tellers.push(teller);
        }
        let written = out.write_all(&chunk).and_then(|()| out.flush());
        for teller in tellers.drain(..) {
            // Its attempt may have been cut off.
            let _ = teller.send(written.is_ok());
        }
        written?;
        chunk.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_finished_when_it_is_written_and_not_when_its_reader_has_gone() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (jobs, to_write) = mpsc::channel(4);
        let (one, mut first) = oneshot::channel();
        let (two, mut second) = oneshot::channel();
        jobs.try_send((b"1\n".to_vec(), one)).unwrap();
        jobs.try_send((b"2\n".to_vec(), two)).unwrap();
        drop(jobs);
        let mut out = Vec::new();
        write(to_write, &mut out).unwrap();
        assert_eq!((out.as_slice(), first.try_recv(), second.try_recv()), (&b"1\n2\n"[..], Ok(true), Ok(true)));

        let (jobs, to_write) = mpsc::channel(4);
        let (one, mut first) = oneshot::channel();
        jobs.try_send((b"1\n".to_vec(), one)).unwrap();
        assert!(write(to_write, Gone).is_err());
        assert_eq!(first.try_recv(), Ok(false));
        assert!(jobs.is_closed());
    }
}
