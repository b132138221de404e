//! A worker's life: sessions one after another, as its handles wish, until it is closed or cannot go on (I11).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};
use waterwheel_core::lifecycle::{Move, WorkerState};
use waterwheel_core::retry::Retry;

use super::monitor::Monitor;
use super::{Report, RunError, WorkerBuilder, WorkerHandle};
use crate::client::{Admin, Properties};
use crate::config::ConfigError;
use crate::connection::Client;
use crate::driver::classes::Classes;
use crate::driver::clock::{Clock, wall_ms};
use crate::driver::coordinator::{Ask, Ended, Wishes};
use crate::driver::gate::{Gate, Listeners};
use crate::driver::hooking::Hooking;
use crate::driver::pool::Pool;
use crate::driver::shard::{Common, Work};
use crate::driver::tally::Tally;
use crate::driver::watched::Watch;
use crate::error::{Error, KafkaError};
use crate::health::{Survey, Trouble};

/// Events that a reader may be behind before it misses some.
const EVENTS: usize = 1024;

/// What may be asked and not be answered yet, of a session, or between two of them.
const ASKS: usize = 16;

/// The longest wait between two looks whether the cluster is there.
const BACK_OFF_CAP: Duration = Duration::from_secs(30);

/// A worker that is built, but for what works on its records.
pub(crate) struct Built {
    pub(super) builder: WorkerBuilder,
    pub(super) properties: Properties,
    pub(super) shards: usize,
    /// What the transactional ids of its shards begin with, in every session.
    pub(super) transactional_id: String,
    pub(super) asks: mpsc::Receiver<Ask>,
    /// What was asked while there was no session, for the next one.
    pub(super) held: Vec<Ask>,
    pub(super) state: ClosedWhenDropped,
    pub(super) handle: WorkerHandle,
    /// What is asked about the cluster, once the worker has been started.
    survey: Arc<OnceLock<Survey>>,
}

impl Built {
    /// Checks the configuration. Nothing connects before [`run`](Self::run).
    pub(crate) fn new(builder: WorkerBuilder) -> Result<Self, ConfigError> {
        let builder = builder.placed()?;
        let properties = builder.check()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = builder.shards.unwrap_or(cores).min(builder.concurrency);
        let clock = Clock::start(builder.client.backend().time());
        let (tally, events) = (Arc::new(Tally::default()), broadcast::Sender::new(EVENTS));
        let hooks = Hooking::new(builder.watching.hooks(), builder.stall_after, tally.clone());
        let listeners = Listeners { events: events.clone(), hooks: hooks.clone(), tally: tally.clone() };
        let gate = Gate::new(&builder.policies, &listeners, clock.now());
        let classes = builder.by_class().map(|by| Arc::new(Classes::new(by, clock, &listeners)));
        let common = Arc::new(Common {
            clock,
            pool: Arc::new(Pool::new(builder.concurrency, shards)),
            tally,
            events,
            notifications: broadcast::Sender::new(EVENTS),
            execution: builder.execution,
            on_drain_deadline: builder.on_drain_deadline,
            witness: builder.witness.clone(),
            hooks,
            spans: builder.watching.spans().map(|spans| (spans, builder.group_name().into())),
            gate,
            classes,
            tiers: builder.tier_topics(),
        });
        let wishes = Wishes { stopped: builder.start_stopped, ..Wishes::default() };
        let (asks, asks_in) = mpsc::channel(ASKS);
        let state = Arc::new(watch::Sender::new(WorkerState::Initialising));
        let handle = WorkerHandle {
            name: builder.name.clone(),
            group: builder.group_name().into(),
            wishes: Arc::new(watch::Sender::new(wishes)),
            asks,
            state: state.subscribe(),
            common,
            trouble: Arc::new(Trouble::new(builder.stall_after)),
        };
        let survey = Arc::default();
        let (state, held) = (ClosedWhenDropped(state), Vec::new());
        let transactional_id = builder.transactional_id();
        Ok(Self { builder, properties, shards, transactional_id, asks: asks_in, held, state, handle, survey })
    }

    /// Of the cluster that its topics are on.
    pub(crate) fn client(&self) -> &Client {
        &self.builder.client
    }

    pub(crate) fn handle(&self) -> &WorkerHandle {
        &self.handle
    }

    pub(crate) fn common(&self) -> &Arc<Common> {
        &self.handle.common
    }

    /// Who looks on at its attempts, if anybody does.
    pub(super) fn watch(&self) -> Option<Arc<Watch>> {
        self.builder.watching.watch(self.common(), self.handle.name(), self.handle.group())
    }

    /// Lives until it is closed or cannot go on. `work` makes what each shard of each session does with its records.
    pub(crate) async fn run<W: Work>(mut self, mut work: impl FnMut() -> W) -> Result<Report, RunError> {
        let course = self.builder.course.clone();
        let monitor = Monitor::new(self.handle.clone(), course, self.survey.clone(), self.builder.check_every);
        let hooks = self.builder.watching.begin(&self.handle);
        let mut report = Report::default();
        let error = tokio::select! {
            error = self.live(&mut work, &mut report) => error,
            never = monitor.run() => match never {},
        };
        if let Some((hooks, _ending)) = hooks {
            hooks.end().await;
        }
        report.counts = self.handle.counts();
        match error {
            None => Ok(report),
            Some(error) => {
                self.handle.trouble.failed(error.to_string());
                Err(RunError { error, report })
            }
        }
    }

    /// The same, closed in order once `shutdown` ends.
    pub(super) async fn run_until<W: Work>(
        self,
        shutdown: impl Future<Output = ()>,
        work: impl FnMut() -> W,
    ) -> Result<Report, RunError> {
        let handle = self.handle.clone();
        let run = self.run(work);
        tokio::pin!(run, shutdown);
        tokio::select! {
            ended = &mut run => ended,
            () = &mut shutdown => {
                handle.close();
                run.await
            }
        }
    }

    async fn live<W: Work>(&mut self, work: &mut impl FnMut() -> W, report: &mut Report) -> Option<Error> {
        let mut wishes = self.handle.wishes.subscribe();
        let begins_stopped = wishes.borrow().stopped;
        self.advance(if begins_stopped { Move::RunStopped } else { Move::Run });
        loop {
            // Rests until it is to start or to end.
            self.wished(&mut wishes, |wishes| !wishes.stopped || wishes.close.is_some()).await;
            if wishes.borrow().close.is_some() {
                self.advance(Move::Close);
                return None;
            }
            self.advance(Move::Start);
            let ended = self.start(work, &mut wishes).await;
            report.cut_off.extend(ended.late.cut_off);
            report.uncommitted.extend(ended.late.uncommitted);
            if ended.error.is_some() || wishes.borrow().close.is_some() {
                self.advance(Move::Close);
                return ended.error;
            }
            self.handle.trouble.left();
            // Where it was told to stop before it had a session.
            self.advance(Move::Stop);
            self.advance(Move::Rested);
        }
    }

    /// A session, once there is something to work on, if that is to be waited for.
    async fn start<W: Work>(&mut self, work: &mut impl FnMut() -> W, wishes: &mut watch::Receiver<Wishes>) -> Ended {
        let survey = match self.survey() {
            Ok(survey) => survey,
            Err(error) => return Ended::at_once(Some(error.into())),
        };
        if self.builder.start_when_healthy {
            let trouble = self.handle.trouble.clone();
            let refused = tokio::select! {
                biased;
                () = self.wished(wishes, |wishes| wishes.stopped || wishes.close.is_some()) => Some(None),
                refused = healthy(&survey, &trouble) => refused.map(|error| Some(error.into())),
            };
            if let Some(error) = refused {
                return Ended::at_once(error);
            }
        }
        self.session(survey.admin, work).await
    }

    /// What asks about the cluster, made when it is first needed.
    fn survey(&self) -> Result<Survey, KafkaError> {
        if let Some(survey) = self.survey.get() {
            return Ok(survey.clone());
        }
        let admin: Arc<dyn Admin> = self.builder.client.backend().admin(&self.properties)?;
        let (topics, dead_letters) = (self.builder.exact_topics(), self.builder.dead_letter_topics());
        let tiers = self.builder.tier_names();
        Ok(self.survey.get_or_init(|| Survey { admin, topics, dead_letters, tiers }).clone())
    }

    /// Waits for a wish. Whoever asks for a view meanwhile hears that there is none; what else is asked is for the next
    /// session.
    async fn wished(&mut self, wishes: &mut watch::Receiver<Wishes>, is: impl FnMut(&Wishes) -> bool) {
        let wished = wishes.wait_for(is);
        tokio::pin!(wished);
        loop {
            tokio::select! {
                biased;
                // The handle here keeps the sender.
                _ = &mut wished => return,
                Some(ask) = self.asks.recv(), if self.held.len() < ASKS => {
                    if !matches!(ask, Ask::View(_) | Ask::Explain { .. }) {
                        self.held.push(ask);
                    }
                }
            }
        }
    }

    fn advance(&self, what: Move) {
        self.state.0.send_if_modified(|state| {
            let before = std::mem::replace(state, state.after(what));
            *state != before
        });
    }
}

/// Asks until the brokers answer and the topics are there; an error where asking again could not help. Waits with full
/// jitter, so that workers that wait for one cluster do not all ask at once.
async fn healthy(survey: &Survey, trouble: &Trouble) -> Option<KafkaError> {
    let back_off = Retry::exponential(Duration::from_millis(200), BACK_OFF_CAP).jitter(1.0);
    let mut tries = 0;
    loop {
        let found = survey.look().await;
        let (is_ready, refusal) = (found.is_ready(), found.refusal().cloned());
        trouble.surveyed(found);
        if is_ready || refusal.is_some() {
            return refusal;
        }
        tries += 1;
        #[expect(clippy::cast_sign_loss, reason = "a seed")]
        tokio::time::sleep(back_off.wait(tries, wall_ms() as u64)).await;
    }
}

/// Makes the state [`WorkerState::Closed`] however the worker ends, also when it is dropped.
pub(super) struct ClosedWhenDropped(Arc<watch::Sender<WorkerState>>);

impl ClosedWhenDropped {
    pub(super) fn sender(&self) -> &Arc<watch::Sender<WorkerState>> {
        &self.0
    }
}

impl Drop for ClosedWhenDropped {
    fn drop(&mut self) {
        self.0.send_replace(WorkerState::Closed);
    }
}
