//! The worker file: what it may say, and every mistake in it at once, each with line, column and key (I12).

mod fields;
mod fill;
mod instant;
mod kafka;
mod limits;
mod registry;
mod spec;
mod stuck;
#[cfg(test)]
mod tests;
mod tiers;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use toml::de::DeTable;
use waterwheel::config::{ConfigError, Shown, find_cycle, read_text_file};
use waterwheel::registry::Registry;

pub(crate) use instant::parse_instant;
pub(crate) use limits::By;
pub(crate) use spec::{
    AfterDeadLetter, DeadLetterSpec, ExactlyOnceSpec, HandlerSpec, OnDrainDeadline, OnExhausted, OnStall, OrderSpec,
    RetrySpec, StartSpec, TooLarge, WorkerSpec,
};

use fields::{Document, Table};

use crate::body::RegistrySettings;

/// The TOML library makes up to 700 bytes of one (dotted keys): 160 MiB of memory for a file that means harm.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// A file with more mistakes than this is not a worker file.
const MAX_ERRORS: usize = 50;

/// A worker file that was read and found sound.
#[derive(Clone)]
pub(crate) struct WorkerFile {
    /// What `[kafka]` says, filled in. Holds secrets.
    pub(crate) kafka: BTreeMap<String, String>,
    /// Where probes and metrics are served.
    pub(crate) ops: Option<SocketAddr>,
    /// Where the schemas of values are.
    pub(crate) registry: Option<Registry>,
    /// At least one.
    pub(crate) workers: Vec<WorkerSpec>,
    /// What works but is likely not meant.
    pub(crate) warnings: Vec<ConfigError>,
}

impl WorkerFile {
    /// Reads and checks a file of at most 256 KiB. `upper` are the properties of flags and environment, which go before
    /// those of `[kafka]`.
    pub(crate) fn load(path: &Path, upper: &BTreeMap<String, String>) -> Result<Self, Vec<ConfigError>> {
        let text = read_text_file(path, MAX_FILE_BYTES).map_err(|error| vec![error])?;
        Self::parse(&text, &path.display().to_string(), upper, &|name| std::env::var_os(name))
    }

    pub(crate) fn parse(
        text: &str,
        file: &str,
        upper: &BTreeMap<String, String>,
        env: &fill::Environment<'_>,
    ) -> Result<Self, Vec<ConfigError>> {
        with_root(text, file, |root| {
            root.known(&["kafka", "ops", "registry", "worker"]);
            let (kafka, warnings) = kafka::read(root, upper, env);
            let ops = ops(root);
            let registry = registry::read(root, env);
            let tables = root.tables("worker");
            if tables.is_empty() && !root.has("worker") {
                let error = ConfigError::new("worker", "there is no worker").remedy("add a [[worker]] table");
                root.document().fail(0, error);
            }
            let read = |table| worker::read(table, root.has("registry"));
            let workers: Vec<WorkerSpec> = tables.iter().filter_map(read).collect();
            check_together(&tables, &workers);
            Self { kafka, ops, registry, workers, warnings }
        })
    }
}

/// Reads the text as TOML: what `read` makes of it, or every mistake that was found.
fn with_root<T>(text: &str, file: &str, read: impl FnOnce(&Table<'_>) -> T) -> Result<T, Vec<ConfigError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document = Document::new(file, text);
    let (root, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        // Only the message: the error's own print would quote the line, and with it a secret.
        document.fail(error.span().map_or(0, |span| span.start), ConfigError::new("", error.message()));
    }
    document.result(())?;
    let read = read(&Table::root(&document, root.get_ref()));
    document.result(read)
}

/// What `[registry]` of a file says; nothing else of the file is looked at. Holds secrets.
pub(crate) fn load_registry(path: &Path) -> Result<RegistrySettings, Vec<ConfigError>> {
    let text = read_text_file(path, MAX_FILE_BYTES).map_err(|error| vec![error])?;
    let file = path.display().to_string();
    with_root(&text, &file, |root| {
        let settings = registry::settings(root, &|name| std::env::var_os(name));
        if settings.is_none() && !root.document().has_errors() {
            root.missing("registry", "add a [registry] table with url = \"http://localhost:8081\"");
        }
        settings.unwrap_or_default()
    })
}

/// `[ops]`: a listener for probes and metrics.
fn ops(root: &Table<'_>) -> Option<SocketAddr> {
    let table = root.table("ops")?;
    table.known(&["listen"]);
    if !table.has("listen") {
        table.missing("listen", "write listen = \"127.0.0.1:9464\"");
    }
    let text = table.string("listen")?;
    let address = text.parse();
    if address.is_err() {
        table.fail("listen", "is not an address and a port", "write \"127.0.0.1:9464\", or \"0.0.0.0:9464\" for all");
    }
    address.ok()
}

/// Names that are there twice, and records that would go round from worker to worker.
fn check_together(tables: &[Table<'_>], workers: &[WorkerSpec]) {
    // A worker that could not be read has its own errors.
    if tables.len() != workers.len() {
        return;
    }
    let mut routes = Vec::new();
    for (at, (table, worker)) in tables.iter().zip(workers).enumerate() {
        if workers[..at].iter().any(|other| other.name == worker.name) {
            table.fail("name", format!("another worker is called {:?}", worker.name), "give each its own name");
        }
        routes.extend(worker.routes());
        if let Some(cycle) = find_cycle(&routes) {
            let problem = format!("records would go round: {}", cycle.join(" -> "));
            table.fail("topics", problem, "send dead letters or copies to a topic that is not read on the way");
            return;
        }
    }
}

impl fmt::Debug for WorkerFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerFile")
            .field("kafka", &Shown(&self.kafka))
            .field("ops", &self.ops)
            .field("registry", &self.registry)
            .field("workers", &self.workers)
            .field("warnings", &self.warnings)
            .finish()
    }
}
