//! Being asked to stop: the first signal (or key) ends in order, the second at once.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

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
    pub(crate) async fn reach(&mut self, times: u32) {
        // The sender lives in the task that counts signals.
        let _ = self.asked.wait_for(|asked| *asked >= times).await;
    }
}

/// Begins to count. Must be called in a Tokio runtime.
pub(crate) fn requests() -> (Requests, Asked) {
    let (sender, asked) = watch::channel(0);
    let requests = Requests(Arc::new(sender));
    let mut signals = JoinSet::new();
    let counter = requests.clone();
    signals.spawn(async move {
        loop {
            waterwheel::signal::shutdown().await;
            counter.add();
        }
    });
    (requests, Asked { asked, _signals: signals })
}
