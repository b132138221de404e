//! What decoding a typed body costs beside the bare crate: `cargo bench -p waterwheel --bench formats --features avro,protobuf`.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot begin ends")]

use std::hint::black_box;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use criterion::{Criterion, criterion_group, criterion_main};
use prost::Message;
use serde::{Deserialize, Serialize};
use waterwheel::FromBytes;
use waterwheel::avro::AvroSchema;
use waterwheel::protobuf::Protobuf;

const AVRO: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
  {"name":"id","type":"long"},{"name":"customer","type":"string"},{"name":"note","type":["null","string"]},
  {"name":"items","type":{"type":"array","items":{"type":"record","name":"Item","fields":[
    {"name":"name","type":"string"},{"name":"cents","type":"long"},{"name":"count","type":"int"}]}}}]}"#;

#[derive(Serialize, Deserialize)]
struct Order {
    id: i64,
    customer: String,
    note: Option<String>,
    items: Vec<Item>,
}

#[derive(Serialize, Deserialize)]
struct Item {
    name: String,
    cents: i64,
    count: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoOrder {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(string, tag = "2")]
    customer: String,
    #[prost(message, repeated, tag = "3")]
    items: Vec<ProtoItem>,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoItem {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "2")]
    cents: i64,
}

fn avro(c: &mut Criterion) {
    let items = (0..3).map(|n| Item { name: format!("item {n}"), cents: 1_000 + n, count: 2 });
    let order =
        Order { id: 7, customer: "ann".to_owned(), note: Some("in a hurry".to_owned()), items: items.collect() };
    let ours = AvroSchema::parse(AVRO).unwrap();
    let bytes = ours.encode(&order).unwrap();
    let schema = Schema::parse_str(AVRO).unwrap();
    let bare = GenericDatumReader::builder(&schema).build().unwrap();
    let mut group = c.benchmark_group("avro");
    group.bench_function("bare", |b| b.iter(|| bare.read_deser::<Order>(&mut black_box(&bytes[..])).unwrap()));
    group.bench_function("ours", |b| b.iter(|| ours.decode::<Order>(black_box(&bytes)).unwrap()));
    group.finish();
}

fn protobuf(c: &mut Criterion) {
    let items = (0..3).map(|n| ProtoItem { name: format!("item {n}"), cents: 1_000 + n });
    let order = ProtoOrder { id: 7, customer: "ann".to_owned(), items: items.collect() };
    let bytes = order.encode_to_vec();
    let mut group = c.benchmark_group("protobuf");
    group.bench_function("bare", |b| b.iter(|| ProtoOrder::decode(black_box(&bytes[..])).unwrap()));
    group.bench_function("ours", |b| {
        b.iter(|| Protobuf::<ProtoOrder>::from_bytes(Some(black_box(&bytes))).unwrap());
    });
    group.finish();
}

criterion_group!(formats, avro, protobuf);
criterion_main!(formats);
