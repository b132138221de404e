//! Stdout, written by a thread of its own: whoever reads it slowly holds up the records, and not what else goes on.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::exit::Failure;

/// Bytes that wait for the reader before more has to wait.
const ROOM: usize = 1 << 20;

/// What is to be written. Cheap to clone. Its thread ends when it cannot write, else with the process.
#[derive(Clone)]
pub(crate) struct Out(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something waits.
    ready: Condvar,
    /// All that waited was taken, or nobody reads any more.
    taken: Notify,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    writing: bool,
    broken: Option<io::Error>,
    gone: bool,
}

impl Out {
    /// Begins to write to stdout.
    pub(crate) fn stdout() -> io::Result<Self> {
        Self::to(io::stdout())
    }

    fn to(writer: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), ready: Condvar::new(), taken: Notify::new() });
        let thread = shared.clone();
        std::thread::Builder::new().name("stdout".to_owned()).spawn(move || thread.write(writer))?;
        Ok(Self(shared))
    }

    /// Appends what `push` does, unless nobody reads any more.
    pub(crate) fn push(&self, push: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.state();
        if state.gone {
            return;
        }
        let was_empty = state.waiting.is_empty();
        push(&mut state.waiting);
        if was_empty {
            self.0.ready.notify_one();
        }
    }

    /// Whether more fits. What is pushed without asking fits, too.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.0.state();
        state.waiting.len() < ROOM || state.gone
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.state().gone
    }

    /// Waits until there is room.
    pub(crate) async fn room(&self) {
        self.until(|state| state.waiting.len() < ROOM).await;
    }

    /// Waits until nobody reads any more.
    pub(crate) async fn gone(&self) {
        self.until(|_| false).await;
    }

    /// Waits until all is written; an error if it cannot be. A reader that has gone away is none.
    pub(crate) async fn flush(&self) -> Result<(), Failure> {
        self.until(|state| state.waiting.is_empty() && !state.writing).await;
        match self.0.state().broken.take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    async fn until(&self, holds: impl Fn(&State) -> bool) {
        loop {
            let told = self.0.taken.notified();
            let mut told = std::pin::pin!(told);
            told.as_mut().enable();
            let is_over = {
                let state = self.0.state();
                state.gone || holds(&state)
            };
            if is_over {
                return;
            }
            told.await;
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, mut writer: impl Write) {
        let mut chunk = Vec::new();
        loop {
            let mut state = self.state();
            state.writing = false;
            self.taken.notify_waiters();
            while state.waiting.is_empty() {
                state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            chunk.clear();
            std::mem::swap(&mut chunk, &mut state.waiting);
            state.writing = true;
            drop(state);
            self.taken.notify_waiters();
            if let Err(error) = writer.write_all(&chunk).and_then(|()| writer.flush()) {
                let mut state = self.state();
                (state.writing, state.gone) = (false, true);
                state.waiting.clear();
                state.broken = (error.kind() != io::ErrorKind::BrokenPipe).then_some(error);
                drop(state);
                self.taken.notify_waiters();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes a chunk for each permission.
    struct Slow {
        permitted: mpsc::Receiver<io::Result<()>>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permitted.recv().unwrap()?;
            self.taken.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_slow_reader_is_waited_for_and_one_that_has_gone_is_not() {
        let (permit, permitted) = mpsc::sync_channel(10);
        let taken = Arc::new(Mutex::new(Vec::new()));
        let out = Out::to(Slow { permitted, taken: taken.clone() }).unwrap();
        out.push(|bytes| bytes.extend_from_slice(b"first"));
        // Taken, or about to be: the rest waits behind it.
        permit.send(Ok(())).unwrap();
        out.flush().await.unwrap();
        assert_eq!(*taken.lock().unwrap(), b"first");
        out.push(|bytes| bytes.resize(ROOM, b'x'));
        permit.send(Ok(())).unwrap();
        out.room().await;
        out.flush().await.unwrap();
        assert_eq!(taken.lock().unwrap().len(), 5 + ROOM);
        out.push(|bytes| bytes.push(b'y'));
        permit.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        out.gone().await;
        out.push(|bytes| bytes.push(b'z'));
        out.room().await;
        out.flush().await.expect("a reader that has gone is no failure");

        let (permit, permitted) = mpsc::sync_channel(10);
        let out = Out::to(Slow { permitted, taken }).unwrap();
        permit.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        out.push(|bytes| bytes.push(b'y'));
        assert!(out.flush().await.is_err());
    }
}
