//! A schema registry in this process, for the example and the tests: the part of Confluent's API that clients use, as it is
//! documented, with faults on request.
//!
//! Schemas have one id for all subjects that have them. A subject's Avro schemas must be able to read what the one before them
//! wrote (BACKWARD); of other types any may follow.

#![expect(clippy::expect_used, reason = "without its registry there is nothing to show or test")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Cheap to clone; clones are of the same registry.
#[derive(Clone, Default)]
pub(crate) struct TestRegistry(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    /// Id 1 is the first. Type, text and references of each, as they were sent.
    schemas: Vec<Value>,
    /// Ids of a subject's versions; version 1 is the first.
    subjects: BTreeMap<String, Vec<usize>>,
    /// Method and path of every request.
    pub(crate) requests: Vec<String>,
    /// The `Authorization` that is demanded.
    pub(crate) credentials: Option<String>,
    /// How many more requests are refused, and with which status.
    pub(crate) refusing: Option<(usize, u16)>,
    /// How long every answer takes.
    pub(crate) delay: Duration,
}

/// Status and body.
type Answer = (u16, Value);

impl TestRegistry {
    /// Listens on a free port of this machine; the address is for the client.
    pub(crate) async fn start() -> (Self, String) {
        let registry = Self::default();
        let address = registry.listen().await;
        (registry, address)
    }

    /// Listens on one more port.
    pub(crate) async fn listen(&self) -> String {
        let (listener, address) = Self::bind().await;
        let registry = self.clone();
        spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn(registry.clone().converse(TokioIo::new(stream)));
            }
        });
        format!("http://{address}")
    }

    pub(crate) async fn bind() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        (listener, address)
    }

    /// Answers requests on a connection until its client closes it.
    pub(crate) async fn converse(self, io: impl Read + Write + Unpin + Send + 'static) {
        let service = service_fn(|request: Request<Incoming>| {
            let registry = self.clone();
            async move { Ok::<_, Infallible>(registry.answer(request).await) }
        });
        // A client that breaks off is no concern of the registry's.
        let _ = http1::Builder::new().serve_connection(io, service).await;
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics in here")
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let delay = self.state().delay;
        tokio::time::sleep(delay).await;
        let given = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
        let path = parts.uri.path().to_owned();
        let normalize = parts.uri.query().is_some_and(|query| query.contains("normalize=true"));
        let (status, answer) = self.state().answer(&parts.method, &path, normalize, given, &body);
        let mut response = Response::new(Full::from(answer.to_string()));
        *response.status_mut() = status.try_into().expect("a status");
        response
    }
}

impl State {
    fn answer(
        &mut self,
        method: &Method,
        path: &str,
        normalize: bool,
        credentials: Option<&str>,
        body: &[u8],
    ) -> Answer {
        self.requests.push(format!("{method} {path}"));
        if let Some((times, status)) = self.refusing.filter(|(times, _)| *times > 0) {
            self.refusing = Some((times - 1, status));
            return (status, json!({ "error_code": status, "message": "refused on request" }));
        }
        if self.credentials.is_some() && self.credentials.as_deref() != credentials {
            return (401, json!({ "error_code": 401, "message": "Unauthorized" }));
        }
        let parts: Vec<String> = path.split('/').skip(1).map(unescape).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        match (method.as_str(), &parts[..]) {
            ("GET", ["subjects"]) => (200, json!(self.subjects.keys().collect::<Vec<_>>())),
            ("GET", ["schemas", "ids", id]) => self.by_id(id.parse().unwrap_or(0)),
            ("GET", ["schemas", "guids", guid]) => {
                let place = self.schemas.iter().position(|schema| guid_of(schema) == *guid);
                self.by_id(place.map_or(0, |place| place + 1))
            }
            ("GET", ["subjects", subject, "versions"]) => match self.subjects.get(*subject) {
                Some(ids) => (200, json!((1..=ids.len()).collect::<Vec<_>>())),
                None => no_subject(),
            },
            ("GET", ["subjects", subject, "versions", version]) => {
                let Some(ids) = self.subjects.get(*subject) else { return no_subject() };
                let version = if *version == "latest" { ids.len() } else { version.parse().unwrap_or(0) };
                match version.checked_sub(1).and_then(|place| ids.get(place)) {
                    Some(id) => (200, self.version(subject, version, *id)),
                    None => (404, json!({ "error_code": 40402, "message": "Version not found." })),
                }
            }
            ("POST", ["subjects", subject]) => self.look_up(subject, &canonical(sent, normalize)),
            ("POST", ["subjects", subject, "versions"]) => self.register(subject, canonical(sent, normalize)),
            ("POST", ["compatibility", "subjects", subject, "versions", "latest"]) => {
                if !self.subjects.contains_key(*subject) {
                    return no_subject();
                }
                (200, json!({ "is_compatible": self.may_follow(subject, &sent) }))
            }
            _ => (404, json!({ "error_code": 404, "message": "HTTP 404 Not Found" })),
        }
    }

    fn by_id(&self, id: usize) -> Answer {
        match id.checked_sub(1).and_then(|place| self.schemas.get(place)) {
            Some(schema) => (200, schema.clone()),
            None => (404, json!({ "error_code": 40403, "message": format!("Schema {id} not found") })),
        }
    }

    fn version(&self, subject: &str, version: usize, id: usize) -> Value {
        let mut told = self.schemas[id - 1].clone();
        told["guid"] = json!(guid_of(&self.schemas[id - 1]));
        told["subject"] = json!(subject);
        told["version"] = json!(version);
        told["id"] = json!(id);
        told
    }

    fn look_up(&self, subject: &str, schema: &Value) -> Answer {
        let Some(ids) = self.subjects.get(subject) else { return no_subject() };
        match ids.iter().position(|id| self.schemas[id - 1] == *schema) {
            Some(place) => (200, self.version(subject, place + 1, ids[place])),
            None => (404, json!({ "error_code": 40403, "message": "Schema not found" })),
        }
    }

    fn register(&mut self, subject: &str, schema: Value) -> Answer {
        if schema["schemaType"].is_null() && schema["references"].is_null() && parse(&schema).is_none() {
            return (422, json!({ "error_code": 42201, "message": "Invalid schema" }));
        }
        if let (200, known) = self.look_up(subject, &schema) {
            return (200, known);
        }
        if self.subjects.contains_key(subject) && !self.may_follow(subject, &schema) {
            let message = "Schema being registered is incompatible with an earlier schema";
            return (409, json!({ "error_code": 409, "message": message }));
        }
        let place = self.schemas.iter().position(|known| *known == schema).unwrap_or_else(|| {
            self.schemas.push(schema);
            self.schemas.len() - 1
        });
        let ids = self.subjects.entry(subject.to_owned()).or_default();
        ids.push(place + 1);
        let version = ids.len();
        (200, self.version(subject, version, place + 1))
    }

    fn may_follow(&self, subject: &str, schema: &Value) -> bool {
        let last = self.subjects.get(subject).and_then(|ids| self.schemas.get(ids.last()? - 1));
        match (last.and_then(parse), parse(schema)) {
            (Some(last), Some(next)) => SchemaCompatibility::can_read(&last, &next).is_ok(),
            _ => true,
        }
    }
}

/// An Avro schema without references.
fn parse(schema: &Value) -> Option<Schema> {
    Schema::parse_str(schema["schema"].as_str().filter(|_| schema["schemaType"].is_null())?).ok()
}

/// What is kept of a schema that was sent.
fn canonical(sent: Value, normalize: bool) -> Value {
    let mut kept = json!({ "schema": sent["schema"] });
    if let Some(parsed) = parse(&sent).filter(|_| normalize) {
        kept["schema"] = json!(serde_json::to_string(&parsed).unwrap_or_default());
    }
    for part in ["schemaType", "references"] {
        if !sent[part].is_null() && sent[part] != "AVRO" && sent[part] != json!([]) {
            kept[part] = sent[part].clone();
        }
    }
    kept
}

fn no_subject() -> Answer {
    (404, json!({ "error_code": 40401, "message": "Subject not found." }))
}

/// The same of a schema in every registry.
fn guid_of(schema: &Value) -> String {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, schema.to_string()).hash(&mut hasher);
        hasher.finish()
    };
    let hex = format!("{:016x}{:016x}", half(0), half(1));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A part of a path.
fn unescape(part: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = part.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.split_at_checked(2)).flatten();
        let byte = escaped.and_then(|(hex, _)| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[expect(clippy::disallowed_methods, reason = "a server beside the program")]
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}
