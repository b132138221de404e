//! `run`: runs the workers of worker files until a signal, or until one of them cannot go on.

mod embedded;
pub(crate) mod exec;
mod forward;
mod ops;
mod print;
mod status;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use waterwheel::config::overlay;
use waterwheel::registry::Registry;
use waterwheel::{Client, Report, RunError, WorkerHandle};

use self::embedded::Embedded;
use self::print::Printer;
use self::status::Watched;
use self::worker::Work;
use crate::exit::{Exit, Failure, say};
use crate::file::{HandlerSpec, WorkerFile, WorkerSpec};
use crate::global::Global;
use crate::journal::Journal;
use crate::runtime;
use crate::stop::Signals;

/// How long copies may take to be acknowledged at the end.
const FORWARD_CLOSE: Duration = Duration::from_secs(5);

/// Run the workers of worker files
#[derive(clap::Args)]
#[command(after_help = "The first SIGTERM or SIGINT drains, the second stops at once. `--brokers embedded` runs \
    the workers against a cluster in this process.")]
pub(crate) struct Run {
    /// Worker files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Write every start and end of a handler to this file, for audits; for one worker with one topic
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,

    /// Serve probes and metrics there, as 127.0.0.1:9464; goes before `[ops]` of the worker files
    #[arg(long, value_name = "ADDRESS")]
    ops: Option<SocketAddr>,
}

impl Run {
    pub(crate) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        let files = self.load(global)?;
        let journal = self.open_journal(&files)?;
        let ops = self.ops.or(ops::address(&files)?);
        runtime::block_on(run(files, journal, ops, global))
    }

    /// All mistakes of all files are told before anything starts.
    fn load(&self, global: &Global) -> Result<Vec<WorkerFile>, Failure> {
        let upper = global.properties()?;
        let mut files = Vec::new();
        let mut is_sound = true;
        for path in &self.files {
            match WorkerFile::load(path, &upper) {
                Ok(mut file) => {
                    for warning in &file.warnings {
                        say(format_args!("warning: {warning}"));
                    }
                    file.kafka = overlay(file.kafka, upper.clone());
                    files.push(file);
                }
                Err(errors) => {
                    is_sound = false;
                    errors.iter().for_each(say);
                }
            }
        }
        if !is_sound {
            return Err(Failure::silent(Exit::Usage));
        }
        let mut names: Vec<&str> = files.iter().flat_map(|f| &f.workers).map(|w| w.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(files),
            Some(pair) => Err(Failure::new(Exit::Usage, format!("two workers are called {:?}", pair[0]))
                .hint("give each its own name")),
        }
    }

    fn open_journal(&self, files: &[WorkerFile]) -> Result<Option<Arc<Journal>>, Failure> {
        let Some(path) = &self.journal else { return Ok(None) };
        let workers: Vec<&WorkerSpec> = files.iter().flat_map(|f| &f.workers).collect();
        let is_of_one = matches!(&workers[..], [worker] if matches!(&worker.topics[..], [t] if !t.starts_with('^')));
        if !is_of_one {
            let message =
                "--journal: a journal is of one worker with one topic, since its lines name the partition only";
            return Err(
                Failure::new(Exit::Usage, message).hint("run the workers apart, each with a journal of its own")
            );
        }
        if workers.iter().any(|worker| worker.retry_tiers.is_some()) {
            let message = "--journal: a worker with [worker.retry_tiers] reads their topics, too, and lines name the partition only";
            return Err(Failure::new(Exit::Usage, message).hint("leave it out; compare what is in the topics instead"));
        }
        if workers.iter().any(|worker| worker.exactly_once.is_some()) {
            let message =
                "--journal: attempts of a worker with [worker.exactly_once] may be void, and a journal cannot tell";
            let hint = "leave it out; compare what is in the topics instead";
            return Err(Failure::new(Exit::Usage, message).hint(hint));
        }
        match Journal::open(path) {
            Ok(journal) => Ok(Some(Arc::new(journal))),
            Err(error) => Err(Failure::new(Exit::Usage, format!("--journal {}: {error}", path.display()))),
        }
    }
}

/// One worker of the run.
struct Running {
    handle: WorkerHandle,
    /// `None` where its copies go out in transactions of its own.
    work: Option<Work>,
    drain_timeout: Duration,
    ending: Option<exec::Ending>,
}

/// All workers, and what they need.
#[derive(Default)]
struct Fleet {
    running: Vec<Running>,
    workers: JoinSet<(usize, Result<Report, RunError>)>,
    pools: JoinSet<()>,
    printer: Option<Printer>,
}

impl Fleet {
    fn add(
        &mut self,
        spec: &WorkerSpec,
        client: &Client,
        registry: Option<&Registry>,
        journal: Option<Arc<Journal>>,
    ) -> Result<(), Failure> {
        if matches!(spec.handler, HandlerSpec::Print) && self.printer.is_none() {
            self.printer = Some(Printer::start()?);
        }
        if let (Some(how), HandlerSpec::Forward { topic }) = (&spec.exactly_once, &spec.handler) {
            let worker = worker::build_exact(spec, how, client, registry, topic)?;
            self.start(worker.handle(), None, spec, None, worker.run());
            return Ok(());
        }
        let Some(work) = Work::new(spec, client, self.printer.as_ref())? else { return Ok(()) };
        let mut ending = None;
        if let Work::Exec(pool) = &work {
            pool.check()?;
            let (processes, end) = pool.processes();
            ending = Some(end);
            self.pools.spawn(processes.run());
        }
        let worker = worker::build(spec, client, work.clone(), registry, journal)?;
        self.start(worker.handle(), Some(work), spec, ending, worker.run());
        Ok(())
    }

    fn start(
        &mut self,
        handle: WorkerHandle,
        work: Option<Work>,
        spec: &WorkerSpec,
        ending: Option<exec::Ending>,
        run: impl Future<Output = Result<Report, RunError>> + Send + 'static,
    ) {
        let number = self.running.len();
        self.running.push(Running { handle, work, drain_timeout: spec.drain_timeout, ending });
        self.workers.spawn(async move { (number, run.await) });
    }

    fn watched(&self) -> Vec<Watched> {
        let pool = |work: &Option<Work>| match work {
            Some(Work::Exec(pool)) => Some(pool.clone()),
            Some(Work::Print(_) | Work::Forward(_)) | None => None,
        };
        self.running.iter().map(|r| Watched { handle: r.handle.clone(), pool: pool(&r.work) }).collect()
    }

    fn stop(&self) {
        self.running.iter().for_each(|running| running.handle.close());
    }

    fn stop_now(&self) {
        for running in &self.running {
            running.handle.close_now();
            if let Some(ending) = &running.ending {
                ending.kill();
            }
        }
    }

    fn longest_drain(&self) -> Duration {
        self.running.iter().map(|r| r.drain_timeout).max().unwrap_or_default()
    }

    /// Until all workers and their processes have ended.
    async fn run(&mut self, signals: &mut Signals) -> Outcome {
        let mut outcome = Outcome::default();
        let mut is_stopping = false;
        let printer = self.printer.clone();
        let gone = async {
            match &printer {
                Some(printer) => printer.gone().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(gone);
        let mut is_read = true;
        while !self.workers.is_empty() || !self.pools.is_empty() {
            tokio::select! {
                () = signals.next() => {
                    if is_stopping {
                        say("stopping at once");
                        self.stop_now();
                    } else {
                        let limit = humantime::format_duration(self.longest_drain());
                        say(format_args!("draining for at most {limit}; a second signal stops at once"));
                        self.stop();
                    }
                    is_stopping = true;
                }
                () = &mut gone, if is_read => {
                    is_read = false;
                    is_stopping = true;
                    self.stop();
                }
                Some(ended) = self.workers.join_next(), if !self.workers.is_empty() => {
                    let is_fatal = self.ended(ended, &mut outcome).await;
                    if is_fatal && !is_stopping {
                        is_stopping = true;
                        self.stop();
                    }
                }
                Some(_) = self.pools.join_next(), if !self.pools.is_empty() => {}
            }
        }
        outcome
    }

    /// A worker has ended; whether the others have to end, too.
    async fn ended(
        &self,
        ended: Result<(usize, Result<Report, RunError>), tokio::task::JoinError>,
        outcome: &mut Outcome,
    ) -> bool {
        let (number, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                outcome.fail(Failure::new(Exit::Failed, format!("a worker broke down: {error}")));
                return true;
            }
        };
        let running = &self.running[number];
        if let Some(ending) = &running.ending {
            ending.end();
        }
        let refused = match &running.work {
            Some(Work::Forward(forwarder)) => {
                forwarder.close(FORWARD_CLOSE).await;
                forwarder.refused()
            }
            Some(Work::Exec(_) | Work::Print(_)) | None => None,
        };
        let name = running.handle.name();
        let (report, failure) = match result {
            Ok(report) => (report, None),
            Err(RunError { error, report }) => {
                (report, Some(Failure::from(refused.map_or(error, Into::into)).about(format_args!("worker {name:?}"))))
            }
        };
        outcome.is_late |= !report.is_clean();
        for (partition, attempts) in &report.cut_off {
            say(format_args!("{name}: {attempts} attempts of {partition} were cut off; their records come again"));
        }
        for partition in &report.uncommitted {
            say(format_args!("{name}: {partition} has no last commit; what finished since the one before comes again"));
        }
        let is_fatal = failure.is_some();
        if let Some(failure) = failure {
            outcome.fail(failure);
        }
        is_fatal
    }
}

/// How the workers ended.
#[derive(Default)]
struct Outcome {
    /// The first failure.
    failure: Option<Failure>,
    is_late: bool,
}

impl Outcome {
    fn fail(&mut self, failure: Failure) {
        match &self.failure {
            None => self.failure = Some(failure),
            Some(_) => {
                failure.report();
            }
        }
    }
}

async fn run(
    files: Vec<WorkerFile>,
    journal: Option<Arc<Journal>>,
    ops: Option<SocketAddr>,
    global: &Global,
) -> Result<Exit, Failure> {
    let mut signals = Signals::new()?;
    // Before any worker: an address that cannot be had is a mistake to be told at once.
    let ops = match ops {
        Some(address) => Some(ops::listen(address).await?),
        None => None,
    };
    let mut embedded = Embedded::default();
    let mut fleet = Fleet::default();
    for file in files {
        let mut kafka = file.kafka;
        embedded.fill_in(&mut kafka, &file.workers)?;
        let client = Client::builder().properties(kafka).build()?;
        for spec in &file.workers {
            fleet.add(spec, &client, file.registry.as_ref(), journal.clone())?;
        }
    }
    let mut reports = JoinSet::new();
    if !global.is_quiet() {
        reports.spawn(status::report(fleet.watched()));
    }
    if let Some(ops) = ops {
        let ops = fleet.running.iter().fold(ops, |ops, running| ops.worker(&running.handle));
        reports.spawn(async move { match ops.serve().await {} });
    }
    let outcome = fleet.run(&mut signals).await;
    drop(reports);
    drop(embedded);
    if let Some(failure) = outcome.failure {
        return Err(failure);
    }
    if let Some(error) = journal.as_deref().and_then(Journal::broken) {
        return Err(Failure::new(Exit::Failed, format!("the journal is not whole: {error}")));
    }
    Ok(if outcome.is_late { Exit::DrainedLate } else { Exit::Done })
}
