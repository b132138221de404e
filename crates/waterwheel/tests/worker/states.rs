//! States: stopping and starting a worker without ending its run, and waiting for what it is asked.

use std::net::TcpListener;
use std::time::Duration;

use waterwheel::{CheckKind, Client, HealthLevel, Message, Raw, Worker, WorkerState};

use crate::support::{
    Boxed, Diary, Gate, PATIENCE, boxed, committed, eventually, fill, gated, member_of, run, spawn, start, topic,
    unique, worker_on,
};

type Plain = Worker<Raw, Boxed<Raw>>;

fn idle(client: &Client) -> Plain {
    let worker = client.worker(unique("idle")).topic("t").start_stopped();
    worker.handler(boxed(async |_: Message<Raw>| anyhow::Ok(()))).build().unwrap()
}

/// A broker that takes connections and says nothing.
fn black_hole() -> (TcpListener, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let client = Client::new(listener.local_addr().unwrap().to_string()).unwrap();
    (listener, client)
}

#[test]
fn a_stopped_worker_starts_again_with_its_handler_and_its_counts() {
    run(async {
        let topic = topic(2);
        fill(&topic, 20, |i| format!("k{i}")).await;
        let (diary, open, group) = (Diary::default(), Gate::closed(), unique("group"));
        open.open();
        let running = start(member_of(&group, &topic).handler(boxed(gated(&diary, &open))).build().unwrap());
        for round in 1..=3 {
            eventually("all of it", || diary.count() == 20 * round).await;
            assert!(running.handle.stop_and_wait(PATIENCE).await);
            assert_eq!(running.handle.state(), WorkerState::Stopped);
            assert!(running.handle.snapshot().await.is_none(), "there is nobody to ask, and no wait for that");
            assert_eq!(running.handle.health().await.level, HealthLevel::Ok, "it is as it was told to be");
            let ends: i64 = (0..2).filter_map(|p| committed(&group, &topic, p)).map(|(offset, _)| offset).sum();
            assert_eq!(ends, 20 * round as i64, "everything is committed");
            fill(&topic, 20, |i| format!("k{i}")).await;
            running.handle.start();
        }
        eventually("the rest", || diary.count() == 80).await;
        let report = running.stop().await;
        assert_eq!((report.counts.succeeded, report.is_clean()), (80, true));
        assert_eq!(diary.begun().iter().filter(|s| s.attempt > 1).count(), 0);
    });
}

#[test]
fn a_worker_that_begins_stopped_connects_to_nothing_before_its_start() {
    run(async {
        let (listener, client) = black_hole();
        let running = start(idle(&client));
        assert!(running.handle.wait_for(WorkerState::Stopped, PATIENCE).await);
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        running.handle.start();
        eventually("a connection", || listener.accept().is_ok()).await;
        assert_eq!(running.handle.state(), WorkerState::Starting);
        running.stop().await;
    });
}

/// Seen elsewhere: a stop that waited for a flag which was set at once, and returned with the handler still running; and
/// one that held a lock which its own handlers needed.
#[test]
fn a_stop_that_was_waited_for_does_not_return_early_nor_hang() {
    run(async {
        let topic = topic(3);
        let (diary, never, group) = (Diary::default(), Gate::closed(), unique("group"));
        let worker = member_of(&group, &topic).concurrency(4).drain_timeout(Duration::from_millis(50));
        let running = start(worker.handler(boxed(gated(&diary, &never))).build().unwrap());
        fill(&topic, 40, |i| format!("k{}", i % 7)).await;
        for round in 1..=5 {
            eventually("four at once", || diary.running() == 4).await;
            assert!(running.handle.stop_and_wait(PATIENCE).await);
            assert_eq!((diary.running(), diary.dropped()), (0, 4 * round), "nothing runs");
            running.handle.start();
        }
        running.stop().await;
    });
}

#[test]
fn no_call_blocks_without_a_deadline_where_a_broker_says_nothing() {
    run(async {
        let (_listener, client) = black_hole();
        let running = start(idle(&client));
        let handle = running.handle.clone();
        handle.start();
        assert!(!handle.wait_for(WorkerState::Consuming, Duration::from_millis(200)).await);
        assert!(handle.snapshot().await.is_some());
        assert_eq!(handle.health().await.level, HealthLevel::Critical);
        assert!(handle.is_live().await, "a restart would not help");
        assert!(!handle.is_ready());
        // Leaving a group that was never joined takes a second at most, ending the clients five.
        assert!(handle.stop_and_wait(Duration::from_secs(10)).await);
        handle.start();
        let report = tokio::time::timeout(Duration::from_secs(10), running.stop()).await.expect("within its deadline");
        assert!(report.is_clean());
    });
}

#[test]
fn a_start_that_waits_for_health_says_what_it_waits_for_and_can_be_taken_back() {
    run(async {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = Client::new(format!("127.0.0.1:{port}")).unwrap();
        let worker = client.worker(unique("waits")).topic("t").start_when_healthy();
        let running = start(worker.handler(boxed(async |_: Message<Raw>| anyhow::Ok(()))).build().unwrap());
        let handle = running.handle.clone();
        assert!(handle.wait_for(WorkerState::Starting, PATIENCE).await);
        assert!(!handle.wait_for(WorkerState::Consuming, Duration::from_millis(100)).await);
        assert!(handle.stop_and_wait(Duration::from_secs(2)).await);
        handle.start();
        assert!(handle.wait_for(WorkerState::Starting, PATIENCE).await);
        tokio::time::timeout(Duration::from_secs(2), running.stop()).await.expect("at once");

        let topic = topic(1);
        let running = start(
            worker_on(&topic)
                .start_when_healthy()
                .handler(boxed(async |_: Message<Raw>| anyhow::Ok(())))
                .build()
                .unwrap(),
        );
        assert!(running.handle.wait_for(WorkerState::Consuming, PATIENCE).await, "what it waits for is there");
        running.stop().await;
    });
}

/// Health is more than a broker that answers.
#[test]
fn a_stuck_handler_is_not_healthy_though_its_broker_is_reached() {
    run(async {
        let topic = topic(1);
        fill(&topic, 1, |_| "k".to_owned()).await;
        let (diary, gate) = (Diary::default(), Gate::closed());
        let worker = worker_on(&topic).stall_after(Duration::from_millis(100));
        let running = start(worker.handler(boxed(gated(&diary, &gate))).build().unwrap());
        eventually("it runs", || diary.running() == 1).await;
        while running.handle.is_live().await {
            tokio::task::yield_now().await;
        }
        let health = running.handle.health().await;
        assert_eq!((health.level, health.causes[0].check), (HealthLevel::Critical, CheckKind::Handlers), "{health:?}");
        gate.open();
        eventually("its end", || diary.count() == 1).await;
        while running.handle.health().await.level != HealthLevel::Ok {
            tokio::task::yield_now().await;
        }
        assert!(running.handle.is_live().await);
        running.stop().await;
    });
}

/// A generator that is good enough to choose among five calls.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Schedules of one test; `WATERWHEEL_SCHEDULES` says another number.
fn schedules() -> u64 {
    std::env::var("WATERWHEEL_SCHEDULES").ok().and_then(|n| n.parse().ok()).unwrap_or(100)
}

#[test]
fn starts_stops_and_closes_in_any_order_end_within_their_deadline() {
    let deadline = Duration::from_secs(10);
    let seed = std::env::var("WATERWHEEL_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    // Each schedule is of one worker; a few go on side by side, as workers of one process would.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let topic = topic(2);
        fill(&topic, 10, |i| format!("k{i}")).await;
        let lanes = (0..4_u64).map(|lane| {
            let topic = topic.clone();
            spawn(async move {
                for number in (lane..schedules()).step_by(4) {
                    one_schedule(&topic, Dice(seed + number), deadline).await;
                }
            })
        });
        for lane in lanes.collect::<Vec<_>>() {
            lane.await.unwrap();
        }
    });
}

async fn one_schedule(topic: &str, mut dice: Dice, deadline: Duration) {
    let told = dice.0;
    let reachable = dice.roll(4) > 0;
    let (_listener, away) = black_hole();
    let builder = if reachable { worker_on(topic) } else { away.worker(unique("away")).topic(topic) };
    let builder = if dice.roll(2) == 0 { builder.start_stopped() } else { builder };
    let builder = if dice.roll(4) == 0 { builder.start_when_healthy() } else { builder };
    let diary = Diary::default();
    let gate = Gate::closed();
    if dice.roll(3) > 0 {
        gate.open();
    }
    let builder = builder.drain_timeout(Duration::from_millis(100)).shards(2);
    let running = start(builder.handler(boxed(gated(&diary, &gate))).build().unwrap());
    let handle = running.handle.clone();
    for _ in 0..dice.roll(8) {
        match dice.roll(6) {
            0 | 1 => handle.start(),
            2 => handle.stop(),
            3 => {
                assert!(handle.stop_and_wait(deadline).await, "seed {told}: {:?}", handle.state());
                assert_eq!(diary.running(), 0, "seed {told}: stopped, and something runs");
            }
            4 => drop(handle.wait_for(WorkerState::Consuming, Duration::from_millis(dice.roll(200))).await),
            _ => tokio::task::yield_now().await,
        }
        assert_ne!(handle.state(), WorkerState::Closed, "seed {told}");
    }
    if dice.roll(3) == 0 {
        handle.close_now();
    }
    let ended = tokio::time::timeout(deadline, running.stop()).await;
    ended.unwrap_or_else(|_| panic!("seed {told}: not closed, but {:?}", handle.state()));
    assert_eq!((handle.state(), diary.running()), (WorkerState::Closed, 0), "seed {told}");
    assert!(!handle.wait_for(WorkerState::Starting, deadline).await, "what is closed does not come back");
}
