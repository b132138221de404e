//! Confluent's own Python client against ours, both ways, on the registry of the tests. Where it is not installed the test says
//! so and ends: `pip install "confluent-kafka[avro,protobuf,schemaregistry]"`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use waterwheel::registry::SchemaText;
use waterwheel::{Encoded, Encoder};

use crate::registry::TestRegistry;
use crate::types::{AVRO, Order, order, proto_order, registry_at};

struct Python {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Python {
    /// `None` where it lacks Confluent's client.
    fn start() -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/formats/python.py");
        let child = Command::new("python3").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = child else {
            eprintln!("SKIPPED: there is no python3");
            return None;
        };
        let (asks, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut python = Self { child, asks, answers };
        let ready = python.answer();
        if let Some(missing) = ready.get("missing") {
            eprintln!("SKIPPED: Confluent's Python client is not here: {missing}");
            return None;
        }
        Some(python)
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("python ended early: {line}"))
    }

    /// Waits on a thread that may block: the registry answers on this runtime.
    async fn ask(&mut self, ask: Value) -> Value {
        writeln!(self.asks, "{ask}").unwrap();
        tokio::task::block_in_place(|| self.answer())
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn shown(encoded: &Encoded) -> (String, Option<String>) {
    (hex(encoded.bytes.as_ref().unwrap()), encoded.header.as_ref().map(|(_, value)| hex(value)))
}

#[tokio::test(flavor = "multi_thread")]
async fn confluents_python_client_reads_what_we_write_and_the_reverse() {
    let Some(mut python) = Python::start() else { return };
    let (server, url) = TestRegistry::start().await;
    for guid in [false, true] {
        let registry = registry_at(&server).await;
        let topic = format!("avro-{guid}");
        let ask = json!({"write": "avro", "url": url, "topic": topic, "schema": AVRO, "guid": guid,
            "value": {"customer": "ann", "cents": 5, "note": "x"}});
        let written = python.ask(ask).await;
        let header = written.get("header").filter(|header| header.is_string()).map(bytes);
        assert_eq!(header.is_some(), guid);
        let json = registry.decode_to_json(&bytes(&written["value"]), header.as_deref()).await.unwrap();
        assert_eq!(json, json!({"customer": "ann", "cents": 5, "note": "x"}));

        let codec = registry.avro::<Order>().schema(SchemaText::avro(AVRO)).auto_register();
        let codec = if guid { codec.guid_in_header() } else { codec };
        let (value, header) = shown(&codec.write(&topic, &order("bob", 7)).await.unwrap());
        let ask = json!({"read": "avro", "url": url, "topic": topic, "schema": AVRO, "value": value, "header": header});
        assert_eq!(python.ask(ask).await["value"], json!({"customer": "bob", "cents": 7, "note": null}));

        let topic = format!("proto-{guid}");
        let ask = json!({"write": "protobuf", "url": url, "topic": topic, "guid": guid,
            "value": {"customer": "ann", "cents": 5}});
        let written = python.ask(ask).await;
        let header = written.get("header").filter(|header| header.is_string()).map(bytes);
        let json = registry.decode_to_json(&bytes(&written["value"]), header.as_deref()).await.unwrap();
        assert_eq!(json, json!({"customer": "ann", "cents": "5"}));

        // By the schema that Python has registered, a descriptor in base64: its client reads no other form.
        let codec = registry.protobuf().message("shop.Order");
        let codec = if guid { codec.guid_in_header() } else { codec };
        let (value, header) = shown(&codec.write(&topic, &proto_order("bob", 7)).await.unwrap());
        let ask = json!({"read": "protobuf", "url": url, "topic": topic, "value": value, "header": header});
        assert_eq!(python.ask(ask).await["value"], json!({"customer": "bob", "cents": 7}));
    }
}
