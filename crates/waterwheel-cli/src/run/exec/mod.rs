//! `kind = "exec"`: the handler is a program. Its processes are kept running here, and get records by the protocol.

mod process;
pub(crate) mod protocol;
mod roster;

use std::collections::HashMap;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use waterwheel::{Failure, Message};

use self::process::{Process, Wanted};
use self::protocol::{Answer, Said};
use self::roster::{Fate, Now, Order, Roster, Ticket};
use crate::body::Shown;
use crate::exit::{Exit, Failure as Ended};
use crate::program::is_program;
use crate::records::{JsonAs, View, push_record};

/// What a record that could not be run waits before it asks for a process again.
const AGAIN: Duration = Duration::from_millis(50);

/// Lines that may wait for a process to read them: what it may have in work, and the greeting.
const LINES: usize = 10_001;

/// The processes of one worker's handler. Cheap to clone.
#[derive(Clone)]
pub(in crate::run) struct Pool(Arc<Shared>);

struct Shared {
    worker: String,
    command: Vec<String>,
    timeout: Duration,
    /// Ids name the topic, too.
    several_topics: bool,
    began: Instant,
    state: Mutex<State>,
    /// There is something for [`Pool::run`] to do.
    wake: Notify,
}

struct State {
    roster: Roster,
    waiting: HashMap<Ticket, oneshot::Sender<Fate>>,
    seats: Vec<Option<Line>>,
    /// For [`Pool::run`].
    starts: Vec<usize>,
    /// What [`Pool::run`] waits for; `None` while it is not waiting for a time.
    sleeps_until: Option<Now>,
    /// Why a process is not there.
    trouble: Vec<Option<String>>,
}

/// The way to a process that runs.
struct Line {
    lines: mpsc::Sender<Vec<u8>>,
    wanted: watch::Sender<Wanted>,
}

impl Pool {
    pub(in crate::run) fn new(
        worker: String,
        command: Vec<String>,
        processes: u32,
        timeout: Duration,
        several_topics: bool,
    ) -> Self {
        let processes = processes as usize;
        let state = State {
            roster: Roster::new(processes, timeout),
            waiting: HashMap::new(),
            seats: (0..=processes).map(|_| None).collect(),
            starts: Vec::new(),
            sleeps_until: None,
            trouble: vec![None; processes + 1],
        };
        Self(Arc::new(Shared {
            worker,
            command,
            timeout,
            several_topics,
            began: Instant::now(),
            state: Mutex::new(state),
            wake: Notify::new(),
        }))
    }

    /// Has a process work on a record.
    pub(in crate::run) async fn handle(self, message: Message<Shown>) -> Result<(), Failure> {
        let shared = &*self.0;
        let record = message.record();
        let id = if shared.several_topics {
            format!("{}-{}-{}", record.topic(), record.partition(), record.offset())
        } else {
            format!("{}-{}", record.partition(), record.offset())
        };
        let mut line = Vec::with_capacity(256 + record.value().map_or(0, <[u8]>::len));
        let view = View::of(record).with_value(&message.body);
        push_record(&mut line, &view, JsonAs::InPlace, Some((&id, message.attempt())));
        line.push(b'\n');
        let place = (record.topic_partition().topic.clone(), record.partition(), record.offset());
        let (teller, mut told) = oneshot::channel();
        let ticket = shared.with(|state, now| {
            let ticket = state.roster.submit(place, id, line, now);
            state.waiting.insert(ticket, teller);
            ticket
        });
        let _guard = DropJob { shared, ticket };
        let fate = tokio::select! {
            biased;
            fate = &mut told => fate,
            () = message.cancelled() => {
                // Not begun: another member may as well. Begun: it may go on until the drain's deadline.
                if shared.with(|state, _| state.roster.withdraw(ticket)) {
                    return Err(Failure::uncounted(AGAIN, "no process had taken it before its partition was drained"));
                }
                told.await
            }
        };
        shared.outcome(fate.unwrap_or(Fate::NotRun))
    }

    /// Keeps the processes running until `end` is [`Wanted::End`] (they end in order) or [`Wanted::Kill`].
    async fn serve(&self, end: &mut watch::Receiver<Wanted>) {
        let mut processes = JoinSet::new();
        let shared = &self.0;
        let mut closing = Wanted::Work;
        loop {
            let wanted = *end.borrow_and_update();
            if wanted > closing {
                closing = wanted;
                shared.with(|state, _| {
                    state.roster.close();
                    state.seats.iter().flatten().for_each(|seat| {
                        seat.wanted.send_replace(closing);
                    });
                });
            }
            if closing > Wanted::Work && processes.is_empty() {
                return;
            }
            let until = shared.with(|state, now| {
                state.roster.tick(now);
                state.obey();
                for seat in std::mem::take(&mut state.starts) {
                    if let Some(process) = shared.start(seat, state, now) {
                        processes.spawn(process);
                    }
                }
                state.sleeps_until = state.roster.next_timer();
                state.sleeps_until
            });
            let timer = async {
                match until {
                    Some(until) => tokio::time::sleep_until(shared.began + until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shared.wake.notified() => {}
                () = timer => {}
                Some(_) = processes.join_next(), if !processes.is_empty() => {}
                // Without a sender nobody wants it any more; that is seen when the whole future is dropped.
                Ok(()) = end.changed() => {}
            }
        }
    }

    /// One line of what is wrong, if anything is.
    pub(in crate::run) fn trouble(&self) -> Option<String> {
        let state = self.0.state();
        let (ready, all, waiting) = state.roster.readiness();
        if ready == all {
            return None;
        }
        let why = state.trouble.iter().flatten().next().map(|why| format!(": {why}")).unwrap_or_default();
        Some(format!("{ready} of {all} handler processes ready, {waiting} records wait for one{why}"))
    }
}

/// Runs a pool's processes.
pub(in crate::run) struct Processes {
    pool: Pool,
    end: watch::Receiver<Wanted>,
}

/// Ends a pool's processes.
pub(in crate::run) struct Ending(watch::Sender<Wanted>);

impl Pool {
    /// What runs the processes, and what ends them.
    pub(in crate::run) fn processes(&self) -> (Processes, Ending) {
        let (sender, end) = watch::channel(Wanted::Work);
        (Processes { pool: self.clone(), end }, Ending(sender))
    }

    /// Finds out whether the program can be started at all: one that cannot is a mistake in the file.
    pub(in crate::run) fn check(&self) -> Result<(), Ended> {
        let shared = &self.0;
        let program = shared.command.first().map_or("", String::as_str);
        if is_program(program) {
            return Ok(());
        }
        let message =
            format!("worker {:?}: the handler's program {program:?} is not there, or not executable", shared.worker);
        Err(Ended::new(Exit::Usage, message)
            .hint("handler.command names it; it is looked for in PATH unless it holds a /"))
    }
}

impl Processes {
    pub(in crate::run) async fn run(mut self) {
        self.pool.serve(&mut self.end).await;
    }
}

impl Ending {
    /// In order: told to end, then given 5 s.
    pub(in crate::run) fn end(&self) {
        self.at_least(Wanted::End);
    }

    /// At once.
    pub(in crate::run) fn kill(&self) {
        self.at_least(Wanted::Kill);
    }

    fn at_least(&self, least: Wanted) {
        self.0.send_if_modified(|wanted| {
            let is_more = least > *wanted;
            *wanted = least.max(*wanted);
            is_more
        });
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then does what follows.
    fn with<T>(&self, change: impl FnOnce(&mut State, Now) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state, self.began.elapsed());
        state.obey();
        let is_sooner = match (state.roster.next_timer(), state.sleeps_until) {
            (Some(timer), Some(sleeps_until)) => timer < sleeps_until,
            (timer, None) => timer.is_some(),
            (None, Some(_)) => false,
        };
        if is_sooner || !state.starts.is_empty() {
            self.wake.notify_one();
        }
        result
    }

    /// What the worker is told.
    fn outcome(&self, fate: Fate) -> Result<(), Failure> {
        match fate {
            Fate::Answered(Answer::Ok) => Ok(()),
            Fate::Answered(Answer::Retry { after: None, reason }) => Err(Failure::retry(reason)),
            Fate::Answered(Answer::Retry { after: Some(after), reason }) => Err(Failure::retry_after(after, reason)),
            Fate::Answered(Answer::DeadLetter { reason }) => Err(Failure::dead_letter(reason)),
            Fate::Answered(Answer::Skip { reason }) => Err(Failure::skip(reason)),
            Fate::TimedOut => Err(Failure::timed_out(format!("no answer within {:?}", self.timeout))),
            Fate::Crashed => Err(Failure::retry("the handler's process ended while it had this record alone")),
            Fate::NotRun => Err(Failure::uncounted(AGAIN, "the handler's process ended")),
        }
    }

    /// Starts a process; what is returned serves it until its end.
    fn start(self: &Arc<Self>, seat: usize, state: &mut State, now: Now) -> Option<impl Future<Output = ()> + use<>> {
        let process = match Process::start(&self.command) {
            Ok(process) => process,
            Err(error) => {
                self.ended(seat, &format!("cannot be started: {error}"), state, now);
                return None;
            }
        };
        let (lines, to_write) = mpsc::channel(LINES);
        // The channel is new: there is room.
        let _ = lines.try_send(protocol::hello(&self.worker));
        let (wanted, is_wanted) = watch::channel(Wanted::Work);
        state.seats[seat] = Some(Line { lines, wanted });
        let shared = self.clone();
        Some(async move {
            let ended = process.serve(to_write, is_wanted, |line| shared.hear(seat, line)).await;
            let why = ended.map_or_else(|error| format!("is lost: {error}"), how_it_ended);
            shared.with(|state, now| {
                state.seats[seat] = None;
                shared.ended(seat, &why, state, now);
            });
        })
    }

    /// A process is not there (any more).
    fn ended(&self, seat: usize, why: &str, state: &mut State, now: Now) {
        let name = self.name_of(seat, state);
        match state.roster.exited(seat, now) {
            Some(wait) => {
                tracing::warn!("{name} {why}; starting it again in {wait:?}");
                state.trouble[seat] = Some(format!("{name} {why}"));
            }
            None => tracing::debug!("{name} {why}"),
        }
    }

    fn name_of(&self, seat: usize, state: &State) -> String {
        if state.roster.is_lone(seat) {
            format!("worker {:?}: the process for suspects", self.worker)
        } else {
            format!("worker {:?}: handler process {}", self.worker, seat + 1)
        }
    }

    /// A process has written a line.
    fn hear(&self, seat: usize, line: Result<&[u8], String>) {
        let said = line.and_then(protocol::parse);
        self.with(|state, now| {
            let taken = match said {
                Ok(Said::Ready { concurrency }) => {
                    state.trouble[seat] = None;
                    state.roster.ready(seat, concurrency as usize, now).map_err(str::to_owned)
                }
                Ok(Said::Answer { id, answer }) => {
                    state.roster.answered(seat, &id, answer, now).map_err(|fault| format!("{fault}{}", shown(&id)))
                }
                Err(fault) => Err(fault),
            };
            if let Err(fault) = taken {
                tracing::error!("{} breaks the protocol and is ended: {fault}", self.name_of(seat, state));
                state.roster.broken(seat);
            }
        });
    }
}

impl State {
    fn obey(&mut self) {
        while let Some(order) = self.roster.poll_order() {
            match order {
                Order::Start { seat } => self.starts.push(seat),
                Order::Send { seat, line } => {
                    // There is room for all that it may have in work; one that has ended is seen to have.
                    let sent = self.seats[seat].as_ref().map(|seat| seat.lines.try_send(line));
                    if !matches!(sent, Some(Ok(()))) {
                        tracing::debug!(seat, "a record came too late for its process");
                    }
                }
                Order::Kill { seat } => self.want(seat, Wanted::Kill),
                Order::Retire { seat } => self.want(seat, Wanted::End),
                Order::Tell { ticket, fate } => {
                    if let Some(waiting) = self.waiting.remove(&ticket) {
                        // Whoever waited may have gone.
                        let _ = waiting.send(fate);
                    }
                }
            }
        }
    }

    fn want(&self, seat: usize, wanted: Wanted) {
        if let Some(seat) = &self.seats[seat] {
            seat.wanted.send_replace(wanted);
        }
    }
}

/// Tells the roster when the worker drops an attempt.
struct DropJob<'a> {
    shared: &'a Shared,
    ticket: Ticket,
}

impl Drop for DropJob<'_> {
    fn drop(&mut self) {
        self.shared.with(|state, _| {
            state.waiting.remove(&self.ticket);
            state.roster.drop_job(self.ticket);
        });
    }
}

/// An id as it may stand in a message: only one that looks like ours, for it could be anything.
fn shown(id: &str) -> String {
    let is_ours = id.len() <= 300
        && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && id.rsplitn(3, '-').take(2).all(|number| number.parse::<i64>().is_ok());
    if is_ours { format!(" ({id})") } else { String::new() }
}

fn how_it_ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
