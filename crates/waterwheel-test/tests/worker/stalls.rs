//! Stuck records: a key that hangs for ever beside others that run.

use std::time::Duration;

use waterwheel::{
    DeadLetter, Event, Execution, Handler, HealthLevel, Message, OnStall, Raw, Retry, WorkerBuilder, WorkerHandle,
};
use waterwheel_test::Cluster;

use crate::support::{Gate, Journal, eventually, fill, member, run, start};

const STALL: Duration = Duration::from_secs(30);

/// Hangs at the first record of key `k0`, which is that of offset 0.
fn hanging(journal: &Journal) -> impl Handler<Raw> + use<> {
    let (journal, never) = (journal.clone(), Gate::closed());
    move |message: Message<Raw>| {
        let (attempt, never) = (journal.begin(0, &message), never.clone());
        async move {
            if message.offset() == 0 {
                never.pass().await;
            }
            attempt.done()
        }
    }
}

/// A record that hangs, 1,000 of other keys, and one behind it.
async fn hung_key() -> Cluster {
    let cluster = Cluster::new().topic("t", 1).topic("failed", 1).patience(Duration::from_secs(300));
    fill(&cluster, 1_001).await;
    cluster.produce("t", "k0", "v").await;
    cluster
}

fn stalling(cluster: &Cluster, policy: OnStall) -> WorkerBuilder {
    let builder = member(&cluster.client()).stall_after(STALL).on_stall(policy);
    builder.retry(Retry::fixed(Duration::from_secs(5)).attempts(2)).dead_letter(DeadLetter::topic("failed"))
}

async fn is_critical(handle: &WorkerHandle) -> bool {
    handle.health().await.level == HealthLevel::Critical
}

#[test]
fn a_key_that_hangs_for_ever_holds_up_none_of_a_thousand_others_and_is_told_once() {
    run(async {
        let (cluster, journal) = (hung_key().await, Journal::default());
        let worker = start(stalling(&cluster, OnStall::Warn).handler(hanging(&journal)).build().unwrap());
        let mut events = worker.handle.events();
        eventually("the others to be done", || journal.done().len() == 1_000).await;
        assert!(worker.handle.is_live().await && !is_critical(&worker.handle).await);
        let age = loop {
            if let Some(Event::Stalled { offset: 0, attempts: 1, age, .. }) = events.next().await {
                break age;
            }
        };
        assert!((STALL..STALL + Duration::from_secs(10)).contains(&age), "{age:?}");
        assert!(!worker.handle.is_live().await && is_critical(&worker.handle).await);
        cluster.advance(Duration::from_secs(60)).await;
        let more = futures_util::FutureExt::now_or_never(events.next());
        assert!(!matches!(more, Some(Some(Event::Stalled { .. }))), "{more:?}");
        assert_eq!(cluster.committed("g", "t", 0).unwrap().offset, 0);
        worker.handle.close_now();
        worker.ended().await.unwrap();
    });
}

#[test]
fn a_stuck_record_that_goes_to_the_dead_letter_topic_lets_its_key_go_on() {
    run(async {
        let (cluster, journal) = (hung_key().await, Journal::default());
        let worker = start(stalling(&cluster, OnStall::DeadLetter).handler(hanging(&journal)).build().unwrap());
        cluster.assert_finished("g", "t").await;
        cluster.assert_dead_lettered("failed", 1).await;
        assert_eq!((journal.done().len(), journal.running()), (1_001, 0));
        let counts = worker.stop().await.counts;
        assert_eq!((counts.attempts, counts.timed_out, counts.dead_lettered), (1_002, 1, 1));
    });
}

#[test]
fn a_stuck_record_that_is_timed_out_has_its_attempts() {
    run(async {
        let (cluster, journal) = (hung_key().await, Journal::default());
        let worker = start(stalling(&cluster, OnStall::TimeOut).handler(hanging(&journal)).build().unwrap());
        cluster.assert_finished("g", "t").await;
        let counts = worker.stop().await.counts;
        assert_eq!((counts.timed_out, counts.retried, counts.dead_lettered), (2, 1, 1));
    });
}

#[test]
fn a_stuck_record_that_is_parked_makes_its_key_wait_and_nothing_else() {
    run(async {
        let (cluster, journal) = (hung_key().await, Journal::default());
        let worker = start(stalling(&cluster, OnStall::Park).handler(hanging(&journal)).build().unwrap());
        let mut events = worker.handle.events();
        while !matches!(events.next().await, Some(Event::Parked { offset: 0, .. })) {}
        assert_eq!((journal.done().len(), journal.running()), (1_000, 0));
        assert!(is_critical(&worker.handle).await);
        cluster.advance(Duration::from_secs(60)).await;
        assert_eq!((journal.done().len(), cluster.committed("g", "t", 0).unwrap().offset), (1_000, 0));
        assert!(worker.stop().await.counts.timed_out > 1, "it is tried on");
    });
}

#[test]
fn a_stuck_record_that_stops_the_worker_is_not_finished() {
    run(async {
        let (cluster, journal) = (hung_key().await, Journal::default());
        let worker = start(stalling(&cluster, OnStall::Stop).handler(hanging(&journal)).build().unwrap());
        let error = worker.ended().await.unwrap_err();
        assert!(error.to_string().contains("t-0@0"), "{error}");
        assert_eq!(cluster.committed("g", "t", 0).unwrap().offset, 0);
    });
}

#[test]
fn a_policy_that_could_not_act_is_refused() {
    let cluster = Cluster::new();
    let refused = |builder: WorkerBuilder| {
        let built = builder.handler(async |_: Message<Raw>| anyhow::Ok(())).build();
        built.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let stalling = |policy| member(&cluster.client()).stall_after(STALL).on_stall(policy);
    assert!(refused(stalling(OnStall::Park).execution(Execution::Blocking)).contains("blocks its thread"));
    assert!(refused(stalling(OnStall::DeadLetter)).contains("no dead-letter topic"));
    assert!(refused(stalling(OnStall::TimeOut).handler_timeout(STALL)).contains("has no effect"));
    assert_eq!(refused(stalling(OnStall::TimeOut).handler_timeout(STALL * 2)), "");
}
