//! Who looks on at a worker: hooks, spans, and the times of its attempts.

use std::sync::Arc;

use super::{WorkerBuilder, WorkerHandle};
use crate::driver::hooking::{Ending, Hooking};
use crate::driver::shard::Common;
use crate::driver::watched::{Times, Watch};
use crate::hooks::{Call, Hook, caller};
use crate::metrics::attempt_times;
use crate::spans::Spans;

/// What was asked for.
#[derive(Default)]
pub(super) struct Watching {
    hooks: Vec<Box<dyn FnOnce(WorkerHandle) -> Call + Send>>,
    times: bool,
    spans: Option<Spans>,
}

impl WorkerBuilder {
    /// Adds a hook, which is told what the worker does. May be called several times: each hook has a thread and a queue of
    /// its own. Default: none, which costs nothing.
    pub fn hook(mut self, hook: impl Hook) -> Self {
        let hook = Arc::new(hook);
        self.watching.hooks.push(Box::new(move |handle| caller(hook, handle)));
        self
    }

    /// Makes OpenTelemetry spans of attempts, dead letters, outputs and commits: see [`Spans`](crate::Spans). Default: none.
    #[cfg(feature = "otel")]
    pub fn spans(mut self, spans: Spans) -> Self {
        self.watching.spans = Some(spans);
        self
    }

    /// Measures how long each attempt takes, as the histogram `messaging_process_duration_seconds` of the program's metrics
    /// recorder. Default: not measured; it costs two looks at the clock and a call of the recorder for each attempt.
    pub fn time_attempts(mut self) -> Self {
        self.watching.times = true;
        self
    }
}

impl Watching {
    pub(super) fn hooks(&self) -> usize {
        self.hooks.len()
    }

    pub(super) fn spans(&self) -> Option<Spans> {
        self.spans.clone()
    }

    /// Who looks on at attempts, if anybody does.
    pub(super) fn watch(&self, common: &Common, worker: &str, group: &str) -> Option<Arc<Watch>> {
        let labels = [("worker", worker.to_owned()), ("group", group.to_owned())];
        let times = self.times.then(|| Times::new(move || attempt_times(&labels)));
        let (hooks, spans) = (common.hooks.clone(), self.spans());
        if hooks.is_none() && spans.is_none() && times.is_none() && common.classes.is_none() {
            return None;
        }
        Some(Arc::new(Watch { clock: common.clock, hooks, spans, group: group.into(), times }))
    }

    /// Begins to call the hooks.
    pub(super) fn begin(&mut self, handle: &WorkerHandle) -> Option<(Arc<Hooking>, Ending)> {
        let common = handle.common.clone();
        let hooks = common.hooks.clone()?;
        let calls = self.hooks.drain(..).map(|make| make(handle.clone())).collect();
        let ending = hooks.begin(calls, common.clock, move |event| common.tell_listeners(event));
        Some((hooks, ending))
    }
}
