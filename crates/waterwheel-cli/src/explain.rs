//! `explain`: asks running workers, at their local endpoint, what a partition, a record or a key waits for.

use std::io::Write;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::exit::{Exit, Failure};
use crate::global::{Global, Output};
use crate::runtime;

/// How long the endpoint may take: workers answer it within five seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer that is taken in, in bytes.
const LONGEST: u64 = 16 << 20;

/// Ask running workers what a partition, a record or a key waits for
///
/// Asks the endpoint of `run --ops` (or of `[ops]` in the worker file): which record holds the commit and since when, its
/// attempts and next retry, the queue of its key, why a partition is held, and the size of the commit map.
#[derive(clap::Args)]
pub(crate) struct Explain {
    /// What to ask about: a topic, a partition of it, or one record
    #[arg(value_name = "TOPIC[:PARTITION[:OFFSET]]", value_parser = subject)]
    subject: Subject,

    /// Ask about the records of this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// Where the workers' probes are
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9464", value_parser = authority)]
    url: String,

    /// Print JSON, as `-o json` does
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Subject {
    topic: String,
    partition: Option<i32>,
    offset: Option<i64>,
}

fn subject(text: &str) -> Result<Subject, String> {
    let mut parts = text.split(':');
    let topic = parts.next().unwrap_or_default().to_owned();
    let partition = parts.next().map(|part| number(part).ok_or_else(|| format!("{part:?} is not a partition")));
    let offset = parts.next().map(|part| number(part).ok_or_else(|| format!("{part:?} is not an offset")));
    if topic.is_empty() || parts.next().is_some() {
        return Err("write it as orders, orders:3, or orders:3:4711".to_owned());
    }
    Ok(Subject { topic, partition: partition.transpose()?, offset: offset.transpose()? })
}

/// A number from 0 on.
fn number<N: std::str::FromStr + Default + PartialOrd>(text: &str) -> Option<N> {
    text.parse().ok().filter(|number| *number >= N::default())
}

/// Host and port of an `http` URL.
fn authority(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let has_port = rest.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !has_port || rest.contains(['/', '?', '#', '@', ' ']) {
        return Err("write it as http://127.0.0.1:9464".to_owned());
    }
    Ok(rest.to_owned())
}

/// A part of a query, with all that may mean something there written as `%41`.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let one = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") };
    text.bytes().map(one).collect()
}

impl Explain {
    pub(crate) fn run(self, global: &Global) -> Result<Exit, Failure> {
        if self.key.is_some() && self.subject.offset.is_some() {
            return Err(Failure::new(Exit::Usage, "--key and an offset: ask for one of them"));
        }
        let as_json = self.json || global.output() != Output::Table;
        let path = self.path(as_json);
        let (status, body) = runtime::block_on(ask(&self.url, &path))?;
        match status {
            200 => {}
            404 => return Err(self.not_found(&body)),
            _ => return Err(Failure::new(Exit::Failed, format!("{}: {status}: {}", self.url, body.trim_end()))),
        }
        let mut out = std::io::stdout();
        // Names of workers and groups may hold anything; a terminal is to get text.
        let shown: String = body.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
        out.write_all(shown.as_bytes())?;
        out.flush()?;
        Ok(Exit::Done)
    }

    fn path(&self, as_json: bool) -> String {
        let Subject { topic, partition, offset } = &self.subject;
        let mut path = format!("/explain?topic={}", encoded(topic));
        let numbers = [("partition", partition.map(i64::from)), ("offset", *offset)];
        for (name, number) in numbers.into_iter().filter_map(|(name, number)| Some((name, number?))) {
            path.push_str(&format!("&{name}={number}"));
        }
        if let Some(key) = &self.key {
            path.push_str(&format!("&key={}", encoded(key)));
        }
        if as_json {
            path.push_str("&format=json");
        }
        path
    }

    /// No worker there has it, or there is no such endpoint.
    fn not_found(&self, body: &str) -> Failure {
        let Subject { topic, partition, .. } = &self.subject;
        let of = partition.map_or_else(|| topic.clone(), |partition| format!("{topic}-{partition}"));
        let failure = Failure::new(Exit::NotFound, format!("{}: no worker there has {of}", self.url));
        match body.trim_end() {
            "not found" => Failure::new(Exit::NotFound, format!("{}: answers no questions", self.url))
                .hint("ask a worker of this version or newer"),
            _ => failure.hint("waterwheel group describe GROUP tells which member has it"),
        }
    }
}

/// Status and body of one request.
async fn ask(authority: &str, path: &str) -> Result<(u16, String), Failure> {
    let exchange = async {
        let mut stream = TcpStream::connect(authority).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let unreachable = |why: &dyn std::fmt::Display| {
        Failure::new(Exit::Unreachable, format!("{authority}: {why}"))
            .hint("is a worker running there with --ops or [ops]? --url says where to ask")
    };
    let answer = match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(unreachable(&error)),
        Err(_) => return Err(unreachable(&format!("no answer within {} s", PATIENCE.as_secs()))),
    };
    parse(&answer).ok_or_else(|| Failure::new(Exit::Failed, format!("{authority}: does not speak HTTP")))
}

fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_a_topic_a_partition_an_offset() {
        let of = |partition, offset| Ok(Subject { topic: "orders".to_owned(), partition, offset });
        assert_eq!(subject("orders"), of(None, None));
        assert_eq!(subject("orders:3"), of(Some(3), None));
        assert_eq!(subject("orders:3:4711"), of(Some(3), Some(4711)));
        for wrong in ["", ":3", "orders:", "orders:x", "orders:-1", "orders:3:", "orders:3:-1", "orders:3:1:2"] {
            assert!(subject(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_url_names_host_and_port() {
        for url in ["http://127.0.0.1:9464", "127.0.0.1:9464", "http://[::1]:9464/"] {
            assert!(authority(url).is_ok(), "{url}");
        }
        for wrong in ["http://127.0.0.1", "https://a:1", "http://a:1/b", "http://a:b", "http://u@a:1", ":1"] {
            assert!(authority(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_question_goes_into_a_query_as_it_is() {
        let ask = |text: &str, key: Option<&str>| {
            let (key, url) = (key.map(str::to_owned), String::new());
            Explain { subject: subject(text).unwrap(), key, url, json: false }
        };
        assert_eq!(ask("orders:3:7", None).path(true), "/explain?topic=orders&partition=3&offset=7&format=json");
        assert_eq!(ask("orders", Some("a b&ü")).path(false), "/explain?topic=orders&key=a%20b%26%c3%bc");
    }

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        assert_eq!(parse(b"HTTP/1.1 404 Not Found\r\na: b\r\n\r\nno\n"), Some((404, "no\n".to_owned())));
        assert_eq!(parse(b"+PONG\r\n"), None);
    }

    /// A worker on a cluster in this process, whose handler never ends, behind its probes.
    #[tokio::test]
    async fn a_worker_that_runs_is_asked() {
        use waterwheel::embedded::Cluster;
        use waterwheel::ops::Ops;
        use waterwheel::{Client, Message, ProducerRecord, Raw};

        let cluster = Cluster::start(1).unwrap();
        cluster.create_topic("orders", 1).unwrap();
        let client = Client::new(cluster.bootstrap_servers()).unwrap();
        let producer = client.producer().unwrap();
        for _ in 0..2 {
            producer.send(ProducerRecord::to("orders").key("k").value("v")).await.unwrap();
        }
        let hangs = |_: Message<Raw>| std::future::pending::<Result<(), std::io::Error>>();
        let worker = client.worker("billing").topic("orders").handler(hangs).build().unwrap();
        let ops = Ops::bind("127.0.0.1:0").await.unwrap().worker(&worker.handle());
        let at = ops.address().unwrap().to_string();
        let asks = async {
            loop {
                let (status, body) = ask(&at, "/explain?topic=orders&partition=0&offset=1").await.unwrap();
                if status == 200 && body.contains("asked about: 1: waits behind 1 record of its key, first 0") {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let (status, body) = ask(&at, "/explain?topic=orders&key=k&format=json").await.unwrap();
            let told: serde_json::Value = serde_json::from_str(&body).unwrap();
            let key = &told["workers"][0]["partitions"][0]["key"];
            assert_eq!((status, &key["first"]), (200, &serde_json::json!([1])), "{body}");
            assert_eq!(ask(&at, "/explain?topic=invoices").await.unwrap().0, 404);
        };
        tokio::select! {
            never = ops.serve() => match never {},
            _ = worker.run() => unreachable!("nobody closes it"),
            () = asks => {}
        }
        assert_eq!(ask(&at, "/explain?topic=orders").await.unwrap_err().exit(), Exit::Unreachable);
    }
}
