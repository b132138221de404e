//! Requests to a registry: TLS, credentials, time-outs, and retries of what may pass.
//!
//! hyper with OpenSSL, which librdkafka links anyway: no second TLS stack, and one set of authorities.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request};
use hyper_openssl::client::legacy::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use openssl::ssl::SslConnectorBuilder;
use serde_json::Value as Json;
use waterwheel_core::retry::Retry;

use super::error::{RegistryError, RegistryErrorKind};
use crate::config::{ConfigError, Secret};

/// Bytes of an answer. Confluent's registry takes schemas of up to 10 MiB.
const MOST_BYTES: usize = 16 << 20;

/// What is waited at most when the registry says how long.
const MOST_WAIT: Duration = Duration::from_secs(10);

const MEDIA: &str = "application/vnd.schemaregistry.v1+json";

pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Without the slash at the end. The first one that answers is asked.
    urls: Vec<String>,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    retry: Retry,
}

impl Http {
    pub(super) fn new(
        urls: Vec<String>,
        authorization: Option<&Secret>,
        tls: SslConnectorBuilder,
        timeout: Duration,
        retry: Retry,
    ) -> Result<Self, ConfigError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let tls = HttpsConnector::with_connector(tcp, tls).map_err(|e| ConfigError::new("tls", e.to_string()))?;
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(tls);
        let authorization = authorization.map(|secret| {
            let value = HeaderValue::from_str(secret.expose());
            let mut value = value.map_err(|_| ConfigError::new("auth", "the credentials hold a control character"))?;
            value.set_sensitive(true);
            Ok::<_, ConfigError>(value)
        });
        Ok(Self { client, urls, authorization: authorization.transpose()?, timeout, retry })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Json, RegistryError> {
        self.ask(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Json) -> Result<Json, RegistryError> {
        self.ask(Method::POST, path, Some(Bytes::from(body.to_string()))).await
    }

    /// Asks until there is an answer that does not pass by itself, or the attempts are used up.
    async fn ask(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Json, RegistryError> {
        let mut attempt = 1;
        loop {
            let url = &self.urls[(attempt as usize - 1) % self.urls.len()];
            let asked = self.ask_once(&method, url, path, body.clone());
            let (error, wait) = match tokio::time::timeout(self.timeout, asked).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(refused)) => refused,
                Err(_) => {
                    let text = format!("{path}: no answer within {:?}", self.timeout);
                    (RegistryError::new(RegistryErrorKind::TimedOut, text), None)
                }
            };
            if !error.is_retriable() || self.retry.is_exhausted(attempt) {
                tracing::warn!(%error, attempt, "a request to the schema registry failed");
                return Err(error);
            }
            // Different requests wait differently long.
            let seed = path.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
            tokio::time::sleep(wait.unwrap_or_else(|| self.retry.wait(attempt, seed))).await;
            attempt += 1;
        }
    }

    /// One request. An error comes with how long the registry wants to be left alone.
    async fn ask_once(
        &self,
        method: &Method,
        url: &str,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Json, (RegistryError, Option<Duration>)> {
        let broken = |why: String| (RegistryError::new(RegistryErrorKind::Unreachable, format!("{path}: {why}")), None);
        let mut request = Request::builder().method(method).uri(format!("{url}{path}")).header(ACCEPT, MEDIA);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, MEDIA);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::from(body.unwrap_or_default()));
        let request = request.map_err(|e| (RegistryError::new(RegistryErrorKind::Refused, e.to_string()), None))?;
        let answer = self.client.request(request).await.map_err(|e| broken(causes(&e)))?;
        let status = answer.status();
        let wait = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let wait = wait.map(|seconds| Duration::from_secs(seconds).min(MOST_WAIT));
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(|e| broken(e.to_string()))?.to_bytes();
        if !status.is_success() {
            return Err((RegistryError::answered(path, status.as_u16(), &body), wait));
        }
        serde_json::from_slice(&body).map_err(|_| {
            (RegistryError::new(RegistryErrorKind::Refused, format!("{path}: the answer is no JSON")), None)
        })
    }
}

/// An error's text with those behind it, where the reason stands.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
