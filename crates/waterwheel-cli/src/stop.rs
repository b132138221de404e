//! Being asked to stop: the first signal (or key) ends in order, the second at once.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::exit::Failure;

/// Asks to stop, as a signal would.
#[derive(Clone)]
pub(crate) struct Requests(Arc<watch::Sender<u32>>);

impl Requests {
    pub(crate) fn add(&self) {
        self.0.send_modify(|asked| *asked += 1);
    }
}

/// How often someone has asked to stop; counts SIGTERM and SIGINT for as long as it lives.
pub(crate) struct Asked {
    asked: watch::Receiver<u32>,
    _signals: JoinSet<()>,
}

impl Asked {
    pub(crate) fn times(&self) -> u32 {
        *self.asked.borrow()
    }

    /// Waits until someone has asked that often.
    pub(crate) async fn reach(&self, times: u32) {
        // The sender lives in the task that counts signals.
        let _ = self.asked.clone().wait_for(|asked| *asked >= times).await;
    }
}

/// Begins to count. Must be called in a Tokio runtime, and before anything else is done: an earlier signal ends the process
/// by itself, without a word and by another status.
pub(crate) fn requests() -> Result<(Requests, Asked), Failure> {
    let mut caught = Signals::new()?;
    let (sender, asked) = watch::channel(0);
    let requests = Requests(Arc::new(sender));
    let mut signals = JoinSet::new();
    let counter = requests.clone();
    signals.spawn(async move {
        loop {
            caught.next().await;
            counter.add();
        }
    });
    Ok((requests, Asked { asked, _signals: signals }))
}

/// SIGTERM and SIGINT, caught as soon as this is made.
pub(crate) struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
