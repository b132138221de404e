//! Schemas that change: an old reader with a new writer, and the reverse.

use serde::{Deserialize, Serialize};
use waterwheel::avro::AvroSchema;
use waterwheel::registry::SchemaText;

use crate::types::registry;

const OLD: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"customer","type":"string"},{"name":"cents","type":"int"},{"name":"rush","type":"boolean","default":false}]}"#;
/// `customer` is now `buyer`, `cents` is wider, `rush` is gone, `currency` is new.
const NEW: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"buyer","type":"string","aliases":["customer"]},{"name":"cents","type":"long"},
    {"name":"currency","type":{"type":"enum","name":"Currency","symbols":["EUR","CHF"]},"default":"EUR"}]}"#;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Old {
    customer: String,
    cents: i32,
    rush: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct New {
    buyer: String,
    cents: i64,
    currency: String,
}

fn new() -> New {
    New { buyer: "ann".to_owned(), cents: 5, currency: "CHF".to_owned() }
}

fn old() -> Old {
    Old { customer: "ann".to_owned(), cents: 5, rush: true }
}

#[test]
fn a_new_reader_takes_what_an_old_writer_wrote() {
    let (written, reader) = (AvroSchema::parse(OLD).unwrap(), AvroSchema::parse(NEW).unwrap());
    let bytes = written.encode(&old()).unwrap();
    let read: New = written.decode_as(&reader, &bytes).unwrap();
    assert_eq!(read, New { currency: "EUR".to_owned(), ..new() });
}

#[test]
fn an_old_reader_takes_what_a_new_writer_wrote_where_it_may() {
    let newer = NEW.replace(r#""buyer""#, r#""customer""#).replace(r#""long""#, r#""int""#);
    let (written, reader) = (AvroSchema::parse(&newer).unwrap(), AvroSchema::parse(OLD).unwrap());
    let json = serde_json::json!({"customer": "ann", "cents": 5, "currency": "CHF"});
    let read: Old = written.decode_as(&reader, &written.encode_json(&json).unwrap()).unwrap();
    assert_eq!(read, Old { rush: false, ..old() });
    // A field without a default that is no longer written cannot be made up.
    let written = AvroSchema::parse(NEW).unwrap();
    let read = written.decode_as::<Old>(&reader, &written.encode(&new()).unwrap());
    assert!(read.is_err(), "{read:?}");
}

#[test]
fn aliases_count_in_records_within_others() {
    let inner = |fields: &str| format!(r#"{{"type":"record","name":"Inner","fields":[{fields}]}}"#);
    let outer = |inner: &str| {
        let fields = format!(
            r#"{{"name":"one","type":["null",{inner}]}},{{"name":"many","type":{{"type":"array","items":"Inner"}}}}"#
        );
        AvroSchema::parse(&format!(r#"{{"type":"record","name":"Outer","fields":[{fields}]}}"#)).unwrap()
    };
    let written = outer(&inner(r#"{"name":"was","type":"int"}"#));
    let reader = outer(&inner(r#"{"name":"is","type":"long","aliases":["was"]}"#));
    let bytes = written.encode_json(&serde_json::json!({"one": {"was": 1}, "many": [{"was": 2}]})).unwrap();
    let read: serde_json::Value = written.decode_as(&reader, &bytes).unwrap();
    assert_eq!(read, serde_json::json!({"one": {"is": 1}, "many": [{"is": 2}]}));
}

#[test]
fn without_a_readers_schema_the_type_decides() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Lenient {
        cents: i64,
        #[serde(default)]
        currency: Option<String>,
    }
    let written = AvroSchema::parse(OLD).unwrap();
    let read: Lenient = written.decode(&written.encode(&old()).unwrap()).unwrap();
    assert_eq!(read, Lenient { cents: 5, currency: None });
}

#[tokio::test]
async fn the_registry_says_whether_a_schema_may_follow() {
    let (_, registry) = registry().await;
    registry.register("orders-value", &SchemaText::avro(OLD)).await.unwrap();
    assert!(registry.is_compatible("orders-value", &SchemaText::avro(NEW)).await.unwrap());
    let breaking = SchemaText::avro(OLD.replace(r#""boolean","default":false"#, r#""string""#));
    assert!(!registry.is_compatible("orders-value", &breaking).await.unwrap());
    let error = registry.register("orders-value", &breaking).await.unwrap_err();
    assert!(error.to_string().contains("incompatible"), "{error}");
}
