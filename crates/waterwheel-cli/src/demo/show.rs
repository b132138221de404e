//! The acts of a demo, one after the other.
//!
//! ```text
//! first member ─▶ second joins ─▶ second leaves ─▶ producing ends ─▶ all is finished ─▶ members leave ─▶ audit
//!        └────────────── asked to stop ──────────────────▲
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};
use waterwheel::embedded::Cluster;
use waterwheel::{Client, Counts, WorkerState};

use super::journals::Journals;
use super::lines::Lines;
use super::plan::{DEAD_LETTERS, PARTITIONS, Plan, TOPIC};
use super::produce::{self, Produced, produce};
use super::report::{Summary, audit};
use super::screen::Screen;
use super::watch::{View, Watch};
use super::work::{Member, Strangers};
use crate::exit::{Exit, Failure};
use crate::stop::Asked;

/// How often everything is looked at.
const BEAT: Duration = Duration::from_millis(150);
/// How long nothing may be finished of what is left, once producing has ended. With what is left after that the audit fails.
const STALLED: Duration = Duration::from_secs(30);

/// Where a demo is shown.
pub(super) enum Stage {
    Lines(Lines),
    Screen(Screen),
}

impl Stage {
    fn show(&mut self, view: &View, act: Act) -> std::io::Result<()> {
        match self {
            Stage::Lines(lines) => lines.show(view, act),
            Stage::Screen(screen) => screen.show(view, act)?,
        }
        Ok(())
    }
}

/// What is going on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Producing,
    Finishing,
    Leaving,
}

/// How a demo ended.
pub(super) enum End {
    InOrder,
    /// Asked twice.
    AtOnce,
}

/// Why a beat was the last one.
enum Cut {
    AtOnce,
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Cut {
    fn from(error: E) -> Self {
        Cut::Failed(error.into())
    }
}

/// A demo that runs.
pub(super) struct Show<'a> {
    plan: Plan,
    journals: &'a mut Journals,
    produced: Arc<Produced>,
    strangers: Arc<Strangers>,
    watch: Watch,
    members: Vec<Member>,
    /// Members that there have been.
    joined: usize,
    ended: produce::Ended,
    beat: Interval,
    /// Last: the others are its clients.
    cluster: Cluster,
}

impl<'a> Show<'a> {
    /// Starts the cluster.
    pub(super) fn open(plan: Plan, journals: &'a mut Journals) -> Result<Self, Failure> {
        let cluster = Cluster::start(1)?;
        for (topic, partitions) in [(TOPIC, PARTITIONS), (DEAD_LETTERS, 1)] {
            cluster.create_topic(topic, partitions)?;
        }
        let produced = Arc::<Produced>::default();
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Ok(Self {
            plan,
            journals,
            watch: Watch::new(produced.clone()),
            produced,
            strangers: Arc::default(),
            members: Vec::new(),
            joined: 0,
            ended: produce::Ended::default(),
            beat,
            cluster,
        })
    }

    pub(super) fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Runs from the first act to the last.
    pub(super) async fn run(&mut self, stage: &mut Stage, asked: &Asked) -> Result<End, Failure> {
        match self.acts(stage, asked).await {
            Ok(()) => Ok(End::InOrder),
            Err(Cut::AtOnce) => {
                self.members.iter().for_each(|member| member.handle.close_now());
                // It ends with the process: its clients, which end later, shall not complain of it.
                std::mem::forget(self.cluster.clone());
                Ok(End::AtOnce)
            }
            Err(Cut::Failed(failure)) => Err(failure),
        }
    }

    async fn acts(&mut self, stage: &mut Stage, asked: &Asked) -> Result<(), Cut> {
        let (stop, stopped) = watch::channel(false);
        let mut producing = self.begin_producing(stopped)?;
        self.join('A')?;
        while asked.times() == 0 && self.watch.elapsed() < self.plan.length && !producing.is_empty() {
            self.beat(stage, asked, Act::Producing).await?;
            self.second_member()?;
            self.take_ended(&mut producing)?;
        }
        stop.send_replace(true);
        while !producing.is_empty() {
            self.beat(stage, asked, Act::Finishing).await?;
            self.take_ended(&mut producing)?;
        }
        self.finish(stage, asked).await?;
        // The second member first, as if the first went on: its partitions come back in order.
        while let Some(last) = self.members.last() {
            last.handle.close();
            self.beat(stage, asked, Act::Leaving).await?;
        }
        Ok(())
    }

    /// Waits until the members have finished what was produced, for as long as they get on with it.
    async fn finish(&mut self, stage: &mut Stage, asked: &Asked) -> Result<(), Cut> {
        let (mut since, mut finished) = (self.watch.elapsed(), 0);
        while self.watch.elapsed() < since + STALLED {
            self.beat(stage, asked, Act::Finishing).await?;
            if self.watch.is_finished() {
                break;
            }
            let counts = self.watch.counts();
            let now = counts.succeeded + counts.dead_lettered;
            if now != finished {
                (since, finished) = (self.watch.elapsed(), now);
            }
        }
        Ok(())
    }

    /// The second member comes and goes.
    fn second_member(&mut self) -> Result<(), Cut> {
        let elapsed = self.watch.elapsed();
        if self.joined == 1 && elapsed >= self.plan.joins() {
            self.join('B')?;
        }
        if let Some(second) = self.members.get(1)
            && elapsed >= self.plan.leaves()
            && !matches!(second.handle.state(), WorkerState::Closing | WorkerState::Closed)
        {
            self.watch.tell(second.name, "leaves");
            second.handle.close();
        }
        Ok(())
    }

    fn join(&mut self, name: char) -> Result<(), Failure> {
        let journal = self.journals.member(name)?;
        let brokers = self.cluster.bootstrap_servers();
        let member = Member::join(name, &brokers, &self.plan, journal, self.strangers.clone())?;
        self.watch.member(name, member.handle.clone());
        self.watch.tell(name, "joins");
        self.members.push(member);
        self.joined += 1;
        Ok(())
    }

    /// Waits for the next beat, and looks and shows. The last one if a member failed, or if asked to stop at once.
    async fn beat(&mut self, stage: &mut Stage, asked: &Asked, act: Act) -> Result<(), Cut> {
        self.beat.tick().await;
        if asked.times() > 1 {
            return Err(Cut::AtOnce);
        }
        let mut index = 0;
        while let Some(member) = self.members.get_mut(index) {
            match member.ended() {
                None => index += 1,
                Some(Ok(_)) => {
                    self.watch.tell(member.name, "has left");
                    self.members.remove(index);
                }
                Some(Err(error)) => return Err(Failure::from(error).into()),
            }
        }
        let view = self.watch.look().await;
        stage.show(&view, act)?;
        Ok(())
    }

    fn begin_producing(
        &self,
        stop: watch::Receiver<bool>,
    ) -> Result<JoinSet<std::io::Result<produce::Ended>>, Failure> {
        let client = Client::builder()
            .brokers(self.cluster.bootstrap_servers())
            .client_id("waterwheel-demo-producer")
            // The cluster counts batches, and keeps 100,000.
            .property("linger.ms", "20")
            .build()?;
        let producer = client.producer()?;
        let (plan, produced, list) = (self.plan.clone(), self.produced.clone(), self.journals.produced());
        let mut producing = JoinSet::new();
        producing.spawn(async move { produce(producer, plan, &produced, &list, stop).await });
        Ok(producing)
    }

    fn take_ended(&mut self, producing: &mut JoinSet<std::io::Result<produce::Ended>>) -> Result<(), Failure> {
        match producing.try_join_next() {
            None => Ok(()),
            Some(Ok(ended)) => {
                self.ended = ended?;
                Ok(())
            }
            Some(Err(panic)) => Err(Failure::new(Exit::Failed, panic)),
        }
    }

    /// The audit of what was done; after the last act.
    pub(super) fn summary(&self) -> Result<Summary, Failure> {
        let strangers = self.strangers.all();
        self.journals.add_produced(&strangers)?;
        let counts: Counts = self.watch.counts();
        Ok(Summary {
            seed: self.plan.seed,
            seconds: self.watch.elapsed().as_secs_f64(),
            members: self.joined,
            unacknowledged: self.ended.failed,
            written_by_others: strangers.len() as u64,
            full: self.ended.full,
            ..Summary::new(audit(self.journals)?, &counts)
        })
    }
}
