//! The tasks of one worker. They end with it: dropping the set ends them all.

use tokio::task::JoinSet;

/// A worker's shards.
pub(crate) struct Tasks(JoinSet<()>);

impl Tasks {
    pub(crate) fn new() -> Self {
        Self(JoinSet::new())
    }

    /// Starts a task. Handlers are polled inside it: their use of the runtime must not make it yield, so it does so by
    /// itself.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(tokio::task::unconstrained(task));
    }

    /// Waits until a task ends; for ever where there is none.
    pub(crate) async fn one_ended(&mut self) {
        if self.0.join_next().await.is_none() {
            std::future::pending().await
        }
    }

    /// Ends all tasks at once.
    pub(crate) fn abort(&mut self) {
        self.0.abort_all();
    }

    /// Waits until all tasks have ended.
    pub(crate) async fn all_ended(&mut self) {
        while self.0.join_next().await.is_some() {}
    }
}
