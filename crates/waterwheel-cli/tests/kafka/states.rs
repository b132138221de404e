//! Starting, stopping, health and probes on a real Kafka.

use std::time::Duration;

use rustix::process::Signal;
use waterwheel::{CheckKind, Client, DeadLetter, Error, Failure, HealthLevel, Message, Raw, WorkerHandle, WorkerState};

use crate::support::{Cluster, Kafka, PATIENCE, Probed, Protocol, Trial, is_whole, topic_name, wait_until};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The worst of a check and its causes, as health tells them now.
fn check(handle: &WorkerHandle, kind: CheckKind) -> (HealthLevel, String) {
    let health = runtime().block_on(handle.health());
    let causes: Vec<_> = health.causes.iter().filter(|cause| cause.check == kind).collect();
    let level = causes.iter().map(|cause| cause.level).max().unwrap_or(HealthLevel::Ok);
    (level, causes.iter().map(|cause| cause.text.clone()).collect::<Vec<_>>().join("; "))
}

async fn fine(_: Message<Raw>) -> Result<(), Failure> {
    Ok(())
}

/// Brokers make a topic that is asked for carelessly.
#[test]
fn health_names_missing_topics_and_makes_none() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("states-missing");
    let letters = format!("{topic}.dlt");
    let client = Client::new(kafka.bootstrap()).expect("the address is right");
    let worker = client.worker(format!("g-{topic}")).topic(&*topic).dead_letter(DeadLetter::topic(&*letters));
    let worker = worker.start_when_healthy().check_every(Duration::from_millis(100)).handler(fine);
    let worker = worker.build().expect("a worker");
    let handle = worker.handle();
    let thread = std::thread::spawn(move || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(worker.run())
            .map_err(Box::new)
    });
    wait_until(PATIENCE, "the topic to be missed", || check(&handle, CheckKind::Topics).0 == HealthLevel::Critical);
    assert_eq!(check(&handle, CheckKind::Topics).1, format!("topics missing: {topic}"));
    assert_eq!(
        check(&handle, CheckKind::DeadLetters),
        (HealthLevel::Warning, format!("dead-letter topics missing: {letters}"))
    );
    assert_eq!(check(&handle, CheckKind::Brokers).0, HealthLevel::Ok);
    assert_eq!(handle.state(), WorkerState::Starting);
    let there = runtime().block_on(client.partitions_of(&*topic));
    assert!(matches!(there, Err(Error::Kafka(error)) if error.is_unknown_topic()), "health made the topic");
    if Kafka::has_tools() {
        let listed = kafka.tool("topics", &["--list"]);
        assert!(!listed.contains(&*topic), "{listed}");
    }

    kafka.create_topic(&topic, 1, &[]);
    wait_until(PATIENCE, "it to join", || handle.is_ready());
    wait_until(PATIENCE, "health to know of it", || check(&handle, CheckKind::Topics).0 == HealthLevel::Ok);
    assert_eq!(check(&handle, CheckKind::DeadLetters).0, HealthLevel::Warning, "that one is still missing");
    handle.close();
    thread.join().expect("it does not panic").expect("it ends in order");
}

#[test]
fn a_wrong_password_is_not_retried_for_ever_by_a_worker_that_waits_for_health_or_not() {
    let Some(kafka) = Cluster::of(1).secure().start() else { return };
    let client = Client::builder()
        .property("bootstrap.servers", kafka.bootstrap_sasl())
        .property("security.protocol", "sasl_ssl")
        .property("ssl.ca.location", kafka.tls_file("ca.pem").to_string_lossy().into_owned())
        .property("sasl.mechanism", "PLAIN")
        .property("sasl.username", "alice")
        .property("sasl.password", "not-it");
    let client = client.build().expect("sound properties");
    for waits in [true, false] {
        let worker = client.worker("refused").topic("t");
        let worker = if waits { worker.start_when_healthy() } else { worker };
        let worker = worker.handler(fine).build().expect("a worker");
        let handle = worker.handle();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let ended = runtime.expect("a runtime").block_on(async { tokio::time::timeout(PATIENCE, worker.run()).await });
        let Ok(ended) = ended else { panic!("it is tried for ever (waits for health: {waits})") };
        let Err(failed) = ended else { panic!("it ended as if it were well") };
        assert!(matches!(&failed.error, Error::Kafka(error) if error.is_unauthorised()), "{}", failed.error);
        assert_eq!(handle.state(), WorkerState::Closed);
        let (level, why) = check(&handle, CheckKind::Worker);
        assert_eq!((level, why.contains("uthenticat")), (HealthLevel::Critical, true), "{why}");
        assert!(!runtime_is_live(&handle), "a worker that failed is of no use");
    }
}

fn runtime_is_live(handle: &WorkerHandle) -> bool {
    runtime().block_on(handle.is_live())
}

#[test]
fn a_run_serves_probes_and_metrics_of_its_workers() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("states-ops");
    kafka.create_topic(&topic, 2, &[]);
    kafka.produce(&topic, (0..500).map(|n| (Some(format!("k{n}")), format!("v{n}"))));
    let text = format!(
        "[kafka]\n\"bootstrap.servers\" = \"{}\"\n[ops]\nlisten = \"127.0.0.1:0\"\n[[worker]]\nname = \"w\"\n\
         topics = [\"{topic}\"]\ngroup = \"g-{topic}\"\n[worker.handler]\nkind = \"print\"\n",
        kafka.bootstrap()
    );
    let mut run = Probed::run(&text, &[]);
    wait_until(PATIENCE, "it to be ready", || run.status("/readyz") == 200);
    assert_eq!((run.status("/startupz"), run.status("/livez")), (200, 200));
    let lags = |text: &str| {
        let lags = text.lines().filter(|line| line.starts_with("waterwheel_consumer_lag{"));
        lags.map(|line| line.rsplit(' ').next().and_then(|lag| lag.parse::<f64>().ok())).collect::<Vec<_>>()
    };
    wait_until(PATIENCE, "lag to be told, and to be none", || lags(&run.get("/metrics").1) == [Some(0.0), Some(0.0)]);
    let metrics = run.get("/metrics").1;
    let settled = format!("waterwheel_records_settled_total{{worker=\"w\",group=\"g-{topic}\",outcome=\"ok\"}} 500");
    assert!(metrics.contains(&settled), "{metrics}");
    let (status, health) = run.get("/healthz");
    let health: serde_json::Value = serde_json::from_str(&health).expect("JSON");
    assert_eq!((status, &health["status"]), (200, &"ok".into()), "{health:#}");
    run.process.signal(Signal::TERM);
    assert_eq!(run.process.wait(PATIENCE).code(), Some(0), "{}", run.process.stderr());
}

/// Stops and starts one member again and again while records come, beside another one. What is lost, comes twice or out of
/// order is found by the audit. The long form has 100 stops instead of 5.
#[test]
fn a_member_that_is_stopped_and_started_again_loses_nothing_and_repeats_nothing() {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, "states-again", 4);
    let properties = Protocol::Consumer.properties();
    let handler = async |_: Message<Raw>| {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok::<_, Failure>(())
    };
    let stays = trial.inside(&properties, |builder| builder.concurrency(8), handler);
    let comes_and_goes = trial.inside(&properties, |builder| builder.concurrency(8), handler);
    let runtime = runtime();
    for _ in 0..if is_whole() { 100 } else { 5 } {
        trial.produce(200, 50);
        let wait = Duration::from_millis(trial.random(1_500));
        // It may be caught on the way, or be there.
        runtime.block_on(comes_and_goes.handle.wait_for(WorkerState::Consuming, wait));
        let stopped = runtime.block_on(comes_and_goes.handle.stop_and_wait(Duration::from_secs(40)));
        assert!(stopped, "{:?}", comes_and_goes.handle.state());
        comes_and_goes.handle.start();
    }
    trial.await_done(PATIENCE * 2);
    comes_and_goes.stop();
    stays.stop();
    trial.assert_all_committed();
    trial.judge_undisturbed();
}
