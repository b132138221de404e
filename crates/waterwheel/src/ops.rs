//! Probes and metrics of workers on one HTTP listener: `/startupz`, `/livez`, `/readyz`, `/healthz`, `/metrics`,
//! `/explain`.
//!
//! | path | 200 when | never depends on |
//! |---|---|---|
//! | `/startupz` | every worker runs, or rests as it was told | brokers |
//! | `/livez` | every worker's tasks answer, none failed, no attempt runs longer than `stall_after` | brokers, lag, rebalances |
//! | `/readyz` | every worker has joined its group and is not about to leave it; a gated history has caught up | lag |
//! | `/healthz` | no check is critical; the body is JSON with every check and its causes | |
//! | `/metrics` | always; the text of [`Ops::metrics`] | |
//! | `/explain` | a worker has what is asked about, else 404 | |
//!
//! `/explain?topic=orders&partition=3&offset=4711` answers what [`WorkerHandle::explain`] does; `key=` (percent-encoded) instead
//! of an offset, neither, or the topic alone ask for less; `&format=json` for programs.
//!
//! The other probes answer 503 else, with the workers at fault named in the body. A worker that failed makes `/livez` fail: what ran
//! it may do nothing about it, and a process without its worker is of no use.
//!
//! ```no_run
//! use waterwheel::ops::{Ops, Prometheus};
//! # async fn run(handle: waterwheel::WorkerHandle) -> Result<(), Box<dyn std::error::Error>> {
//! let prometheus = Prometheus::install()?;
//! let ops = Ops::bind("127.0.0.1:9464").await?.worker(&handle).metrics(move || prometheus.render());
//! tokio::spawn(ops.serve());
//! # Ok(())
//! # }
//! ```
//!
//! hyper alone, with HTTP/1: six fixed paths need no router.

mod explain;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};

use crate::health::{Health, HealthLevel};
use crate::history::HistoryHandle;
use crate::worker::{WorkerHandle, WorkerState};

/// Connections at once; further ones wait.
const CONNECTIONS: usize = 64;

/// How long a connection may take for its one request and answer. Views of workers take at most five seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// A gauge that was not set for so long is of a partition that is another member's now.
const STALE: Duration = Duration::from_secs(120);

/// Buckets of durations in seconds, as OpenTelemetry's conventions for messaging advise.
const BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// When a history counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReadyWhen {
    /// As soon as it has its partitions.
    #[default]
    Joined,
    /// Once it has caught up.
    CaughtUp,
}

/// A listener for probes and metrics. Whoever reaches it sees names of workers, groups and topics: bind it to loopback, or
/// to a network where that is no secret. It takes no commands, and shows no key and no payload.
pub struct Ops {
    listener: TcpListener,
    probes: Probes,
}

#[derive(Default)]
struct Probes {
    workers: Vec<Watched>,
    metrics: Option<Box<dyn Fn() -> String + Send + Sync>>,
}

struct Watched {
    handle: WorkerHandle,
    gate: Option<HistoryHandle>,
}

impl Ops {
    /// Takes the address; port 0 for any free one. An error where it cannot be had. Requests are answered by
    /// [`serve`](Self::serve).
    pub async fn bind(address: impl ToSocketAddrs) -> std::io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, probes: Probes::default() })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Adds a worker.
    #[must_use]
    pub fn worker(mut self, handle: &WorkerHandle) -> Self {
        self.probes.workers.push(Watched { handle: handle.clone(), gate: None });
        self
    }

    /// Adds a history, which may keep the process from being ready until it has caught up.
    #[must_use]
    pub fn history(mut self, handle: &HistoryHandle, ready_when: ReadyWhen) -> Self {
        let gate = (ready_when == ReadyWhen::CaughtUp).then(|| handle.clone());
        self.probes.workers.push(Watched { handle: handle.worker().clone(), gate });
        self
    }

    /// What `/metrics` answers, in Prometheus' text form. Default: not found.
    #[must_use]
    pub fn metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.probes.metrics = Some(Box::new(render));
        self
    }

    /// Answers requests for as long as it is polled. Dropping the future closes the listener and all connections.
    pub async fn serve(self) -> Infallible {
        let Self { listener, probes } = self;
        let probes = Arc::new(probes);
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                    Ok((stream, _)) => connections.push(converse(stream, probes.clone())),
                    Err(error) => {
                        // Out of descriptors, for example: it goes on once there are some.
                        tracing::warn!(%error, "cannot take a connection for probes");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(()) = connections.next(), if !connections.is_empty() => {}
            }
        }
    }
}

/// One request and its answer.
async fn converse(stream: TcpStream, probes: Arc<Probes>) {
    let service = service_fn(|request: Request<Incoming>| {
        let probes = probes.clone();
        async move { Ok::<_, Infallible>(probes.answer(request.method(), request.uri()).await) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(PATIENCE / 2);
    // Whoever asked may have gone, or speaks something else.
    let _ = tokio::time::timeout(PATIENCE, http.serve_connection(TokioIo::new(stream), service)).await;
}

const TEXT: &str = "text/plain; charset=utf-8";

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

impl Probes {
    async fn answer(&self, method: &Method, uri: &Uri) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
        }
        match uri.path() {
            "/startupz" => self.verdict(Probe::Startup).await,
            "/livez" => self.verdict(Probe::Live).await,
            "/readyz" => self.verdict(Probe::Ready).await,
            "/healthz" => self.health().await,
            "/explain" => self.explain(uri.query().unwrap_or_default()).await,
            "/metrics" => match &self.metrics {
                Some(render) => response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", render()),
                None => response(StatusCode::NOT_FOUND, TEXT, "no metrics here\n".to_owned()),
            },
            _ => response(StatusCode::NOT_FOUND, TEXT, "not found\n".to_owned()),
        }
    }

    async fn verdict(&self, probe: Probe) -> Response<Full<Bytes>> {
        let verdicts = join_all(self.workers.iter().map(|worker| worker.passes(probe))).await;
        let mut faults = String::new();
        for (worker, _) in self.workers.iter().zip(verdicts).filter(|(_, passes)| !passes) {
            faults.push_str(&format!("{}: {}\n", worker.handle.name(), worker.handle.state().name()));
        }
        if faults.is_empty() {
            response(StatusCode::OK, TEXT, "ok\n".to_owned())
        } else {
            response(StatusCode::SERVICE_UNAVAILABLE, TEXT, faults)
        }
    }

    async fn health(&self) -> Response<Full<Bytes>> {
        let healths = join_all(self.workers.iter().map(|worker| worker.handle.health())).await;
        let level = healths.iter().map(|health| health.level).max().unwrap_or(HealthLevel::Ok);
        let workers = self.workers.iter().zip(&healths).map(|(worker, health)| as_json(&worker.handle, health));
        let body = json!({ "status": level.to_string(), "workers": workers.collect::<Vec<_>>() });
        let status = match level {
            HealthLevel::Critical => StatusCode::SERVICE_UNAVAILABLE,
            HealthLevel::Ok | HealthLevel::Warning => StatusCode::OK,
        };
        response(status, "application/json", format!("{body}\n"))
    }
}

fn as_json(handle: &WorkerHandle, health: &Health) -> Value {
    let checks = health.checks().map(|(check, level)| {
        let causes = health.causes.iter().filter(|cause| cause.check == check);
        let causes: Vec<Value> =
            causes.map(|cause| json!({ "level": cause.level.to_string(), "text": cause.text })).collect();
        json!({ "check": check.to_string(), "status": level.to_string(), "causes": causes })
    });
    json!({
        "worker": handle.name(),
        "group": handle.group(),
        "state": handle.state().name(),
        "status": health.level.to_string(),
        "checks": checks.collect::<Vec<_>>(),
    })
}

/// A question that is answered with yes or no.
#[derive(Clone, Copy)]
enum Probe {
    Startup,
    Live,
    Ready,
}

impl Watched {
    async fn passes(&self, probe: Probe) -> bool {
        match probe {
            Probe::Startup => self.handle.state() != WorkerState::Initialising,
            Probe::Live => self.handle.is_live().await,
            Probe::Ready => self.handle.is_ready() && self.gate.as_ref().is_none_or(HistoryHandle::is_caught_up),
        }
    }
}

/// The process's metrics recorder, for Prometheus to read.
#[derive(Clone)]
pub struct Prometheus(PrometheusHandle);

/// Another recorder is installed already: its metrics can be served by [`Ops::metrics`].
#[derive(Debug, thiserror::Error)]
#[error("this process has a metrics recorder already: {0}")]
pub struct RecorderTaken(String);

impl Prometheus {
    /// Makes it the recorder of this process. Once a process.
    pub fn install() -> Result<Self, RecorderTaken> {
        let builder = PrometheusBuilder::new().idle_timeout(MetricKindMask::GAUGE, Some(STALE));
        let seconds = Matcher::Suffix("_duration_seconds".to_owned());
        let builder = builder.set_buckets_for_metric(seconds, &BUCKETS);
        builder
            .and_then(PrometheusBuilder::install_recorder)
            .map(Self)
            .map_err(|error| RecorderTaken(error.to_string()))
    }

    /// All metrics as text.
    pub fn render(&self) -> String {
        self.0.run_upkeep();
        self.0.render()
    }
}
