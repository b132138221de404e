//! What the metrics of delays, limits, stuck records and followed keys say. (That every metric of the table is there is
//! tested with the probes.)

use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use waterwheel::{
    Adaptive, AfterDeadLetter, Breaker, BreakerState, DeadLetter, Event, Execution, Failure, Message, OnStall,
    ProducerRecord, RateLimit, Raw, Retry,
};
use waterwheel_test::Cluster;

use crate::support::{Gate, Journal, eventually, fill, gated, member, run, start};

/// Runs a test whose workers, which are all on its thread, have a recorder of their own.
fn recorded(test: impl AsyncFnOnce(Shown)) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let shown = Shown(recorder.handle());
    metrics::with_local_recorder(&recorder, || run(test(shown)));
}

/// What a scrape shows.
struct Shown(PrometheusHandle);

impl Shown {
    /// The value of a metric of the worker, with that behind its own labels.
    fn value(&self, name: &str, labels: &str) -> Option<f64> {
        let text = self.0.render();
        let series = format!("{name}{{worker=\"g\",group=\"g\"{labels}}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
    }

    /// Waits until that metric has that value.
    #[track_caller]
    fn says<'a>(&'a self, name: &'a str, labels: &'a str, value: f64) -> impl Future<Output = ()> + 'a {
        eventually(name, move || self.value(name, labels) == Some(value))
    }
}

const P0: &str = ",topic=\"t\",partition=\"0\"";

#[test]
fn what_waits_for_its_delay_is_shown_and_for_how_long_it_holds_the_commit() {
    recorded(async |shown| {
        let cluster = Cluster::new().topic("t", 1);
        let (journal, gate) = (Journal::default(), Gate::closed());
        fill(&cluster, 3).await;
        // The year 9999.
        let ahead = ProducerRecord::to("t").key("k").value("v").timestamp_millis(253_370_764_800_000);
        cluster.produce_record(ahead).await;
        let worker = member(&cluster.client()).process_delay(Duration::from_secs(60));
        let worker = start(worker.handler(gated(&journal, &gate, &[])).build().unwrap());
        shown.says("waterwheel_records_delayed", "", 4.0).await;
        assert_eq!(shown.value("waterwheel_records_buffered", ""), Some(4.0));
        assert_eq!(shown.value("waterwheel_partitions_paused", ",reason=\"delayed\""), Some(1.0));
        assert_eq!(shown.value("waterwheel_record_times_disagreed_total", ""), Some(1.0));
        cluster.advance(Duration::from_secs(40)).await;
        for age in ["waterwheel_consumer_lag_time_seconds", "waterwheel_consumer_head_age_seconds"] {
            let age_is = shown.value(age, P0).unwrap();
            assert!((35.0..55.0).contains(&age_is), "{age}: {age_is}");
        }
        shown.says("waterwheel_records_delayed", "", 0.0).await;
        shown.says("waterwheel_consumer_head_age_seconds", P0, 0.0).await;
        assert_eq!(shown.value("waterwheel_consumer_lag_time_seconds", P0), Some(0.0));
        assert_eq!(shown.value("waterwheel_partitions_paused", ",reason=\"delayed\""), Some(0.0));
        worker.stop().await;
    });
}

#[test]
fn a_breaker_is_shown_as_it_opens_and_closes() {
    recorded(async |shown| {
        let cluster = Cluster::new().topic("t", 2);
        fill(&cluster, 50).await;
        let gate = Gate::closed();
        let service = gate.clone();
        let handler = move |_: Message<Raw>| {
            let there = futures_util::FutureExt::now_or_never(service.pass()).is_some();
            async move { if there { Ok(()) } else { Err(Failure::retry("no service")) } }
        };
        let worker = member(&cluster.client()).retry(Retry::fixed(Duration::from_millis(50)).forever());
        let worker = worker.breaker(Breaker::consecutive(3).open_for(Duration::from_secs(60)));
        let worker = start(worker.handler(handler).build().unwrap());
        shown.says("waterwheel_breaker_state", "", 2.0).await;
        shown.says("waterwheel_partitions_paused", ",reason=\"breaker\"", 2.0).await;
        assert_eq!(shown.value("waterwheel_breaker_opened_total", ""), Some(1.0));
        assert_eq!(shown.value("waterwheel_health", ",check=\"handlers\""), Some(1.0));
        gate.open();
        shown.says("waterwheel_breaker_state", "", 0.0).await;
        shown.says("waterwheel_records_settled_total", ",outcome=\"ok\"", 50.0).await;
        assert_eq!(shown.value("waterwheel_breaker_opened_total", ""), Some(1.0));
        shown.says("waterwheel_partitions_paused", ",reason=\"breaker\"", 0.0).await;
        worker.stop().await;
    });
}

#[test]
fn only_attempts_that_ran_are_counted_and_timed_where_classes_hold_records_back() {
    for execution in [Execution::Inline, Execution::Spawn] {
        recorded(async |shown| {
            let cluster = Cluster::new().topic("t", 1);
            fill(&cluster, 50).await;
            let (journal, gate) = (Journal::default(), Gate::closed());
            let (book, service) = (journal.clone(), gate.clone());
            // Each probe takes a second, in which the others are looked at again and again.
            let handler = move |message: Message<Raw>| {
                let attempt = book.begin(0, &message);
                let there = futures_util::FutureExt::now_or_never(service.pass()).is_some();
                async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    if there { attempt.done() } else { attempt.failed() }
                }
            };
            let worker = member(&cluster.client()).execution(execution).time_attempts();
            let worker = worker.retry(Retry::fixed(Duration::from_millis(50)).forever());
            let breaker = Breaker::consecutive(3).open_for(Duration::from_secs(5));
            let worker = start(worker.breaker_by(breaker, |_| Some("all".into())).handler(handler).build().unwrap());
            let mut events = worker.handle.events();
            let mut opened = 0;
            while opened < 4 {
                let event = events.next().await.unwrap();
                opened += u32::from(matches!(event, Event::BreakerChanged { state: BreakerState::Open, .. }));
            }
            gate.open();
            cluster.assert_finished("g", "t").await;
            let ran = journal.entries().len();
            assert!((53..=110).contains(&ran), "{ran}: 50 at once, a probe each time, and then all");
            shown.says("waterwheel_attempts_total", "", ran as f64).await;
            assert_eq!(shown.value("messaging_process_duration_seconds_count", ""), Some(ran as f64));
            assert_eq!(worker.stop().await.counts.attempts, ran as u64, "{execution:?}");
        });
    }
}

#[test]
fn rates_are_shown_as_this_members_share_and_the_adaptive_limit_as_it_moves() {
    recorded(async |shown| {
        let cluster = Cluster::new().topic("t", 4);
        fill(&cluster, 2_000).await;
        let handler = async |_: Message<Raw>| {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok::<_, Failure>(())
        };
        let limit = || RateLimit::records(200).and_bytes(100_000).group_wide();
        let worker = member(&cluster.client()).rate_limit(limit()).adaptive(Adaptive::between(4, 16));
        let worker = start(worker.handler(handler).build().unwrap());
        shown.says("waterwheel_rate_limit", ",unit=\"records\"", 200.0).await;
        assert_eq!(shown.value("waterwheel_rate_limit", ",unit=\"bytes\""), Some(100_000.0));
        shown.says("waterwheel_partitions_paused", ",reason=\"rate_limit\"", 4.0).await;
        eventually("the limit to move", || {
            shown.value("waterwheel_concurrency_limit_moves_total", ",reason=\"room\"").is_some_and(|moves| moves > 0.0)
        })
        .await;
        let now = shown.value("waterwheel_concurrency_limit", "").unwrap();
        assert!(now > 4.0 && now <= 16.0, "{now}");
        let base = shown.value("waterwheel_concurrency_base_latency_seconds", "").unwrap();
        assert!((0.02..0.03).contains(&base), "{base}");

        // Another member, with other labels, takes half of the partitions.
        let other = cluster.host().client().worker("other").group("g").topic("t").rate_limit(limit());
        let other = start(other.handler(handler).build().unwrap());
        shown.says("waterwheel_rate_limit", ",unit=\"records\"", 100.0).await;
        assert_eq!(shown.value("waterwheel_rate_limit", ",unit=\"bytes\""), Some(50_000.0));
        other.stop().await;
        worker.stop().await;
    });
}

#[test]
fn a_stuck_record_is_shown_by_its_age_and_what_follows_its_letter_is_counted() {
    recorded(async |shown| {
        let cluster = Cluster::new().topic("t", 1).topic("failed", 1);
        let (journal, gate) = (Journal::default(), Gate::closed());
        fill(&cluster, 5).await;
        cluster.produce("t", "k0", "v").await;
        let worker = member(&cluster.client()).stall_after(Duration::from_secs(60)).on_stall(OnStall::DeadLetter);
        let worker = worker.dead_letter(DeadLetter::topic("failed")).after_dead_letter(AfterDeadLetter::Follow);
        let worker = start(worker.handler(gated(&journal, &gate, &[0])).build().unwrap());
        shown.says("waterwheel_consumer_commit_gap", P0, 4.0).await;
        cluster.advance(Duration::from_secs(40)).await;
        for age in ["waterwheel_oldest_attempt_seconds", "waterwheel_consumer_head_age_seconds"] {
            let age_is = shown.value(age, P0).unwrap();
            assert!((35.0..55.0).contains(&age_is), "{age}: {age_is}");
        }
        assert_eq!(shown.value("waterwheel_records_followed_total", ""), Some(0.0));
        shown.says("waterwheel_records_followed_total", "", 1.0).await;
        assert_eq!(shown.value("waterwheel_handler_timeouts_total", ""), Some(1.0));
        assert_eq!(shown.value("waterwheel_records_settled_total", ",outcome=\"dead_lettered\""), Some(2.0));
        shown.says("waterwheel_oldest_attempt_seconds", P0, 0.0).await;
        shown.says("waterwheel_consumer_commit_gap", P0, 0.0).await;
        worker.stop().await;
    });
}
