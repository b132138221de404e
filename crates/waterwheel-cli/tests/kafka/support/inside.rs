//! Members inside the test process, for handlers that a test steers. They keep journals like any other.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use waterwheel::{Client, Error, Handler, Raw, Report, RunError, WorkerBuilder, WorkerHandle};
use waterwheel_cli::journal::{Journal, Journaled};

use super::{PATIENCE, Trial, wait_until};

/// A worker on a thread and runtime of its own.
pub(crate) struct Inside {
    pub(crate) number: usize,
    pub(crate) handle: WorkerHandle,
    crash: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Option<Result<Report, RunError>>>>,
}

impl Trial<'_> {
    /// Starts a worker with that handler; `configure` sets what else it needs.
    pub(crate) fn inside<H: Handler<Raw>>(
        &mut self,
        properties: &[(&str, &str)],
        configure: impl FnOnce(WorkerBuilder) -> WorkerBuilder,
        handler: H,
    ) -> Inside {
        let (number, path) = self.new_journal();
        self.run(number, Some(open(&path)), properties, configure, handler)
    }

    /// The same without a journal, for more records than one would hold.
    pub(crate) fn inside_unseen<H: Handler<Raw>>(
        &mut self,
        properties: &[(&str, &str)],
        configure: impl FnOnce(WorkerBuilder) -> WorkerBuilder,
        handler: H,
    ) -> Inside {
        self.run(usize::MAX, None, properties, configure, handler)
    }

    fn run<H: Handler<Raw>>(
        &mut self,
        number: usize,
        journal: Option<Arc<Journal>>,
        properties: &[(&str, &str)],
        configure: impl FnOnce(WorkerBuilder) -> WorkerBuilder,
        handler: H,
    ) -> Inside {
        let mut properties: BTreeMap<String, String> =
            properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        properties.entry("bootstrap.servers".to_owned()).or_insert_with(|| self.kafka.bootstrap().to_owned());
        let client = Client::builder().properties(properties).build().expect("the properties are right");
        let mut builder = client.worker(&*self.group).topic(&*self.topic);
        if let Some(journal) = &journal {
            builder = builder.witness(journal.clone());
        }
        let worker = configure(builder).handler(Journaled::new(handler, journal)).build().expect("a worker");
        Inside::of(number, worker.handle(), worker.run())
    }
}

fn open(path: &Path) -> Arc<Journal> {
    Arc::new(Journal::open(path).expect("the journal was made by the trial"))
}

impl Inside {
    /// A worker that runs with that handle.
    pub(crate) fn of(
        number: usize,
        handle: WorkerHandle,
        worker: impl Future<Output = Result<Report, RunError>> + Send + 'static,
    ) -> Self {
        let (crash, crashed) = oneshot::channel();
        let run = move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
            let ended = runtime.block_on(async {
                tokio::select! {
                    ended = worker => Some(ended),
                    Ok(()) = crashed => None,
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(10));
            ended
        };
        Self { number, handle, crash: Some(crash), thread: Some(std::thread::spawn(run)) }
    }

    /// Stops it in order.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Report {
        self.handle.close();
        let ended = self.join();
        ended.expect("it was not made to crash").unwrap_or_else(|ended| panic!("the worker failed: {}", ended.error))
    }

    /// Drops its future: nothing is committed any more, the group is not told.
    #[track_caller]
    pub(crate) fn crash(mut self) {
        // It may have ended already.
        let _ = self.crash.take().map(|crash| crash.send(()));
        self.join();
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Result<Report, Error> {
        self.join().expect("it was not made to crash").map_err(|ended| ended.error)
    }

    fn join(&mut self) -> Option<Result<Report, RunError>> {
        let thread = self.thread.take().expect("it is joined once");
        wait_until(PATIENCE, "a worker to end", || thread.is_finished());
        thread.join().expect("the worker's thread does not panic")
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // A test that failed: the worker must not go on.
        let _ = self.crash.take().map(|crash| crash.send(()));
    }
}
