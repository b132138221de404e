//! The listener for probes and metrics, on the cluster in this process.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test's support ends the test")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use waterwheel::embedded::Cluster;
use waterwheel::metrics::{CLIENT_METRICS, METRICS, Metric, MetricKind};
use waterwheel::ops::{Ops, Prometheus, ReadyWhen};
use waterwheel::{Adaptive, Breaker, Client, Message, ProducerRecord, RateLimit, Raw};

const PATIENCE: Duration = Duration::from_secs(30);

/// Status and body of one request.
async fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: ops\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path}")).await
}

async fn eventually(address: SocketAddr, path: &str, what: impl Fn(u16, &str) -> bool) -> String {
    let wait = async {
        loop {
            let (status, body) = get(address, path).await;
            if what(status, &body) {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain for {path}"))
}

async fn fill(client: &Client, topic: &str, records: usize) {
    let producer = client.producer().unwrap();
    for n in 0..records {
        producer.send(ProducerRecord::to(topic).key(format!("canary{n}")).value("canary")).await.unwrap();
    }
    producer.close(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_tell_what_a_worker_does_and_metrics_are_those_of_the_table() {
    let cluster = Cluster::start(1).unwrap();
    cluster.create_topic("orders", 2).unwrap();
    let client = Client::builder().brokers(cluster.bootstrap_servers()).property("statistics.interval.ms", "100");
    let client = client.build().unwrap();
    fill(&client, "orders", 10).await;
    let gate = watch::Sender::new(false);
    let opened = gate.subscribe();
    let handler = move |_: Message<Raw>| {
        let mut opened = opened.clone();
        async move { opened.wait_for(|open| *open).await.map(drop) }
    };
    let worker = client.worker("packing").group("billing").topic("orders");
    let worker = worker
        .time_attempts()
        .breaker(Breaker::consecutive(100))
        .rate_limit(RateLimit::records(100_000).and_bytes(100_000_000))
        .adaptive(Adaptive::between(16, 64))
        .stall_after(Duration::from_millis(200))
        .check_every(Duration::from_millis(20))
        .start_stopped();
    let worker = worker.handler(handler).build().unwrap();
    let handle = worker.handle();

    let prometheus = Prometheus::install().unwrap();
    let ops = Ops::bind("127.0.0.1:0").await.unwrap().worker(&handle).metrics(move || prometheus.render());
    let at = ops.address().unwrap();
    let run = async {
        // Not running: nothing is started, and nothing is wrong with the process.
        assert_eq!(get(at, "/startupz").await, (503, "packing: initialising\n".to_owned()));
        assert_eq!(get(at, "/livez").await.0, 200);
        assert!(worker.run().await.unwrap().is_clean());
    };
    let steer = async {
        eventually(at, "/startupz", |status, _| status == 200).await;
        assert_eq!(get(at, "/readyz").await, (503, "packing: stopped\n".to_owned()));
        assert_eq!(get(at, "/healthz").await.0, 200, "it is as it was told to be");
        handle.start();
        eventually(at, "/readyz", |status, _| status == 200).await;

        // The handler hangs: the broker is there, and the worker is not well.
        eventually(at, "/livez", |status, _| status == 503).await;
        let body = eventually(at, "/healthz", |status, _| status == 503).await;
        let health: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(health["status"], "critical");
        let worker = &health["workers"][0];
        assert_eq!((&worker["worker"], &worker["group"]), (&"packing".into(), &"billing".into()));
        let check =
            |name: &str| worker["checks"].as_array().unwrap().iter().find(|c| c["check"] == name).unwrap().clone();
        assert_eq!(check("handlers")["status"], "critical", "{body}");
        assert_eq!(check("brokers")["status"], "ok", "{body}");
        // Ten records and a handler that hangs: the first of them holds its partition's commit.
        let body = eventually(at, "/explain?topic=orders&format=json", |status, _| status == 200).await;
        let told: serde_json::Value = serde_json::from_str(&body).unwrap();
        let heads = told["workers"][0]["partitions"].as_array().unwrap().iter().map(|p| &p["head"]["stage"]);
        assert!(heads.clone().count() == 2 && heads.clone().any(|stage| stage == "running"), "{body}");
        let (status, body) = get(at, "/explain?topic=orders&key=canary3").await;
        assert!(status == 200 && body.contains("the key: 1 in work") && !body.contains("canary"), "{body}");
        assert_eq!(get(at, "/explain?topic=elsewhere").await.0, 404);
        assert_eq!(get(at, "/explain").await.0, 400);
        gate.send_replace(true);
        eventually(at, "/livez", |status, _| status == 200).await;
        eventually(at, "/healthz", |status, _| status == 200).await;

        let settled = "waterwheel_records_settled_total{worker=\"packing\",group=\"billing\",outcome=\"ok\"} 10";
        eventually(at, "/metrics", |_, text| text.contains(settled)).await;
        let of_worker = METRICS.iter().chain(CLIENT_METRICS).filter(|metric| !metric.name.contains("history"));
        // Ten records tell nothing of how long an attempt takes.
        let of_worker = of_worker.filter(|metric| !metric.name.contains("base_latency"));
        let suffix = |metric: &Metric| if metric.kind == MetricKind::Histogram { "_bucket" } else { "" };
        let shows = |text: &str, metric: &Metric| text.contains(&format!("\n{}{}{{", metric.name, suffix(metric)));
        let all = |text: &str| of_worker.clone().all(|metric| shows(text, metric));
        let text = eventually(at, "/metrics", |_, text| all(text)).await;
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let name = line.split(['{', ' ']).next().unwrap();
            let mut table = METRICS.iter().chain(CLIENT_METRICS);
            let parts = ["_bucket", "_sum", "_count"];
            let whole = parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
            assert!(table.any(|metric| [name, whole].contains(&metric.name)), "not in the tables: {line}");
            assert!(!line.contains("canary"), "a label that holds a key or a payload: {line}");
        }

        assert_eq!(ask(at, "POST /livez").await.0, 405);
        assert_eq!(get(at, "/admin").await.0, 404);
        assert_eq!(ask(at, "HEAD /livez").await, (200, String::new()));
        handle.close();
        eventually(at, "/readyz", |status, _| status == 503).await;
    };
    tokio::select! {
        never = ops.serve() => match never {},
        _ = async { tokio::join!(run, steer) } => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_can_hold_readiness_back_until_it_has_caught_up() {
    let cluster = Cluster::start(1).unwrap();
    cluster.create_topic("prices", 1).unwrap();
    let client = Client::new(cluster.bootstrap_servers()).unwrap();
    fill(&client, "prices", 3).await;
    let gate = watch::Sender::new(false);
    let opened = gate.subscribe();
    let handler = move |_: Message<Raw>| {
        let mut opened = opened.clone();
        async move { opened.wait_for(|open| *open).await.map(drop) }
    };
    let history = client.history("prices").handler(handler).build().unwrap();
    let handle = history.handle();
    let gated = Ops::bind("127.0.0.1:0").await.unwrap().history(&handle, ReadyWhen::CaughtUp);
    let joined = Ops::bind("127.0.0.1:0").await.unwrap().history(&handle, ReadyWhen::Joined);
    let (gated_at, joined_at) = (gated.address().unwrap(), joined.address().unwrap());
    let steer = async {
        eventually(joined_at, "/readyz", |status, _| status == 200).await;
        assert_eq!(get(gated_at, "/readyz").await.0, 503);
        assert_eq!(get(gated_at, "/metrics").await.0, 404, "there is no recorder here");
        gate.send_replace(true);
        eventually(gated_at, "/readyz", |status, _| status == 200).await;
        handle.worker().close();
    };
    tokio::select! {
        never = gated.serve() => match never {},
        never = joined.serve() => match never {},
        (ended, ()) = async { tokio::join!(history.run(), steer) } => drop(ended.unwrap()),
    }
}
