use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::*;

/// A service that works on so many requests at once, each for 20 ms, give or take; the others wait, first come first
/// served. Always as many requests as the limit allows.
struct Service {
    knee: usize,
    takes: Duration,
    now: Now,
    /// When each that is worked on ends, and when it was begun by its sender.
    working: BinaryHeap<Reverse<(Now, Now)>>,
    waiting: VecDeque<Now>,
    dice: u64,
    /// Requests in a hundred that fail.
    failing: u64,
}

impl Service {
    fn of(knee: usize) -> Self {
        let (working, waiting) = (BinaryHeap::new(), VecDeque::new());
        let (takes, now) = (Duration::from_millis(20), Now::default());
        Self { knee, takes, now, working, waiting, dice: knee as u64, failing: 0 }
    }

    fn dice(&mut self, n: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % n
    }

    fn serve(&mut self) {
        while self.working.len() < self.knee {
            let Some(begun) = self.waiting.pop_front() else { return };
            let takes = self.takes.mul_f64(0.8 + self.dice(400) as f64 / 1_000.0);
            self.working.push(Reverse((self.now + takes, begun)));
        }
    }

    /// Lets a limit work with it, and returns its mean over the second half of that time.
    fn run(&mut self, limit: &mut Limit, time: Duration) -> f64 {
        let (begin, end) = (self.now, self.now + time);
        let (mut weighed, mut half) = (0.0, Duration::ZERO);
        while self.now < end {
            while self.waiting.len() + self.working.len() < limit.limit() {
                self.waiting.push_back(self.now);
            }
            self.serve();
            let Reverse((at, begun)) = self.working.pop().unwrap();
            if self.now.since(begin) > time / 2 {
                weighed += limit.limit() as f64 * at.since(self.now).as_secs_f64();
                half += at.since(self.now);
            }
            self.now = at;
            let (epoch, from) = limit.epoch();
            let mut sample = Sample { epoch, ..Sample::default() };
            let succeeded = self.dice(100) >= self.failing;
            sample.add(begun, at, from, succeeded);
            limit.take(&sample, at);
        }
        weighed / half.as_secs_f64()
    }
}

fn limit(floor: usize, ceiling: usize) -> Limit {
    Limit::new(Adaptive::between(floor, ceiling), Now::default())
}

#[track_caller]
fn assert_near(found: f64, knee: usize) {
    let knee = knee as f64;
    assert!((0.9 * knee..=1.1 * knee).contains(&found), "{found} for {knee}");
}

#[test]
fn the_knee_of_a_service_is_found() {
    for knee in [10, 20, 33, 100, 250, 1_000] {
        let mut limit = limit(4, 4_000);
        let found = Service::of(knee).run(&mut limit, Duration::from_secs(60));
        assert_near(found, knee);
    }
}

#[test]
fn a_change_of_the_knee_is_followed() {
    let (mut service, mut limit) = (Service::of(200), limit(4, 4_000));
    for knee in [200, 40, 600, 100, 1_000, 20] {
        service.knee = knee;
        assert_near(service.run(&mut limit, Duration::from_secs(120)), knee);
    }
}

#[test]
fn a_service_that_becomes_slower_is_not_taken_for_one_that_queues() {
    let (mut service, mut limit) = (Service::of(200), limit(4, 4_000));
    service.run(&mut limit, Duration::from_secs(60));
    service.takes = Duration::from_millis(70);
    assert_near(service.run(&mut limit, Duration::from_secs(120)), 200);
    assert!(limit.base().is_some_and(|base| (60..80).contains(&base.as_millis())), "{limit:?}");
    service.takes = Duration::from_millis(5);
    assert_near(service.run(&mut limit, Duration::from_secs(120)), 200);
}

#[test]
fn failures_shrink_it_to_the_floor_and_no_further() {
    let (mut service, mut limit) = (Service::of(100), limit(8, 1_000));
    service.run(&mut limit, Duration::from_secs(20));
    service.failing = 50;
    service.run(&mut limit, Duration::from_secs(20));
    assert_eq!((limit.limit(), limit.reason()), (8, Some(LimitReason::Failures)));
    service.failing = 5;
    assert_near(service.run(&mut limit, Duration::from_secs(60)), 100);
}

#[test]
fn a_limit_that_is_not_reached_does_not_grow() {
    let mut limit = limit(100, 1_000);
    let mut now = Now::default();
    for _ in 0..10_000 {
        now = now + Duration::from_millis(1);
        let (epoch, from) = limit.epoch();
        let mut sample = Sample { epoch, ..Sample::default() };
        // Twenty at once, which is a fifth of the limit.
        sample.add(from.max(now - Duration::from_millis(20)), now, from, true);
        limit.take(&sample, now);
    }
    assert_eq!(limit.limit(), 100);
}

#[test]
fn it_stays_between_floor_and_ceiling() {
    let (mut service, mut limit) = (Service::of(500), limit(16, 64));
    service.run(&mut limit, Duration::from_secs(10));
    assert_eq!(limit.limit(), 64);
    service.knee = 3;
    service.run(&mut limit, Duration::from_secs(30));
    assert!((16..=64).contains(&limit.limit()));
}
