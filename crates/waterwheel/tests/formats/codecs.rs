//! What codecs write: prefixes and headers, subjects, which schema; and that the registry reads it back.

use serde_json::json;
use waterwheel::registry::{Part, Registry, SchemaText, SubjectStrategy};
use waterwheel::{Encoded, Encoder};

use crate::types::{AVRO, JSON, Order, PROTO, ProtoOrder, avro, order, proto_order, registry};

async fn json_of(registry: &Registry, encoded: &Encoded) -> serde_json::Value {
    let header = encoded.header.as_ref().map(|(_, value)| value.as_slice());
    registry.decode_to_json(encoded.bytes.as_ref().unwrap(), header).await.unwrap()
}

#[tokio::test]
async fn each_format_is_written_behind_its_schemas_id() {
    let (_, registry) = registry().await;
    let shown = json!({"customer": "ann", "cents": 5, "note": null});

    let codec = registry.avro().schema(avro()).auto_register();
    let encoded = codec.write("avro", &order("ann", 5)).await.unwrap();
    assert_eq!(encoded.bytes.as_deref().unwrap(), b"\0\0\0\0\x01\x06ann\x0a\0");
    assert_eq!(json_of(&registry, &encoded).await, shown);

    let codec = registry.protobuf().schema(SchemaText::protobuf(PROTO)).message("shop.Order").auto_register();
    let encoded = codec.write("proto", &proto_order("ann", 5)).await.unwrap();
    // One index, 1: the file's second message.
    assert_eq!(encoded.bytes.as_deref().unwrap(), b"\0\0\0\0\x02\x02\x02\x0a\x03ann\x10\x05");
    assert_eq!(json_of(&registry, &encoded).await, json!({"customer": "ann", "cents": "5"}));

    let codec = registry.json().schema(SchemaText::json(JSON)).auto_register();
    let encoded = codec.write("json", &order("ann", 5)).await.unwrap();
    assert_eq!(encoded.bytes.as_deref().unwrap(), b"\0\0\0\0\x03{\"customer\":\"ann\",\"cents\":5,\"note\":null}");
    assert_eq!(json_of(&registry, &encoded).await, shown);
}

#[tokio::test]
async fn a_guid_in_a_header_leaves_the_payload_alone() {
    let (_, registry) = registry().await;
    let codec = registry.avro().schema(avro()).auto_register().guid_in_header();
    let encoded = codec.write("t", &order("ann", 5)).await.unwrap();
    let (name, header) = encoded.header.clone().unwrap();
    assert_eq!((name, header.len(), header[0]), (Part::Value.schema_header(), 17, 1));
    assert_eq!(encoded.bytes.as_deref(), Some(&b"\x06ann\x0a\0"[..]));
    assert_eq!(json_of(&registry, &encoded).await["cents"], 5);

    let keys = registry.protobuf().of_keys().schema(SchemaText::protobuf(PROTO)).message("shop.Order");
    let encoded = keys.auto_register().guid_in_header().write("t", &proto_order("ann", 5)).await.unwrap();
    let (name, header) = encoded.header.clone().unwrap();
    assert_eq!((name, &header[17..]), ("__key_schema_id", &[2, 2][..]));
    assert_eq!(json_of(&registry, &encoded).await["customer"], "ann");
}

#[tokio::test]
async fn nothing_is_registered_unless_it_is_asked_for() {
    let (server, registry) = registry().await;
    let codec = registry.avro().schema(avro());
    let error = codec.write("t", &order("ann", 5)).await.unwrap_err();
    assert!(!error.is_retriable() && error.to_string().contains("auto_register"), "{error}");
    assert!(registry.subjects().await.unwrap().is_empty());
    registry.register("t-value", &avro()).await.unwrap();
    let again = Registry::avro(&registry).schema(avro()).normalize();
    // It was registered as it is, not normalised.
    assert!(again.write("t", &order("ann", 5)).await.is_err());
    server.refuse(3, 503);
    let other = registry.avro::<Order>().subject(SubjectStrategy::Named("u".to_owned()));
    assert!(other.write("t", &order("ann", 5)).await.unwrap_err().is_retriable());
}

#[tokio::test]
async fn normalised_texts_are_one_schema() {
    let (_, registry) = registry().await;
    let spaced = AVRO.replace(',', " ,\n ");
    for text in [AVRO, &spaced] {
        let codec = registry.avro().schema(SchemaText::avro(text)).auto_register().normalize();
        codec.write("t", &order("ann", 5)).await.unwrap();
    }
    assert_eq!(registry.versions("t-value").await.unwrap(), [1]);
    let codec = registry.avro().schema(SchemaText::avro(&spaced)).auto_register();
    codec.write("t", &order("ann", 5)).await.unwrap();
    assert_eq!(registry.versions("t-value").await.unwrap(), [1, 2], "without it they are two");
}

#[tokio::test]
async fn a_record_of_a_topic_costs_one_request_and_then_none() {
    let (server, registry) = registry().await;
    registry.register("t-value", &avro()).await.unwrap();
    let before = server.requests().len();
    let codec = registry.avro();
    for cents in 0..100 {
        codec.write("t", &order("ann", cents)).await.unwrap();
    }
    assert_eq!(server.requests()[before..], ["GET /subjects/t-value/versions/latest"]);
}

#[tokio::test]
async fn subjects_follow_their_strategy() {
    let (_, registry) = registry().await;
    for strategy in [SubjectStrategy::Topic, SubjectStrategy::Record, SubjectStrategy::TopicRecord] {
        let codec = registry.avro().schema(avro()).subject(strategy.clone()).auto_register();
        codec.write("t", &order("ann", 5)).await.unwrap();
        let keys = registry.avro().of_keys().schema(SchemaText::avro(r#""string""#)).subject(strategy).auto_register();
        // What has no name has no subject by it.
        let _ = keys.write("t", &"k".to_owned()).await;
    }
    let named = SubjectStrategy::Named("mine".to_owned());
    let codec = registry.protobuf().schema(SchemaText::protobuf(PROTO)).message("shop.Order").subject(named);
    codec.auto_register().write("t", &proto_order("ann", 5)).await.unwrap();
    assert_eq!(registry.subjects().await.unwrap(), ["mine", "shop.Order", "t-key", "t-shop.Order", "t-value"]);
}

#[tokio::test]
async fn by_the_latest_whatever_schema_the_program_has() {
    let (_, registry) = registry().await;
    registry.register("t-value", &avro()).await.unwrap();
    let wider = AVRO.replace(r#"{"name":"cents","type":"long"}"#, r#"{"name":"cents","type":"double"}"#);
    let latest = registry.register("t-value", &SchemaText::avro(wider)).await.unwrap();
    let encoded = registry.any().schema(avro()).use_latest();
    let encoded = encoded.write("t", &json!({"customer": "ann", "cents": 5})).await.unwrap();
    assert_eq!(encoded.bytes.as_deref().unwrap()[1..5], latest.to_be_bytes());
    assert_eq!(json_of(&registry, &encoded).await["cents"], 5.0);
}

#[tokio::test]
async fn a_message_that_nobody_named_is_not_guessed() {
    let (_, registry) = registry().await;
    let codec = registry.protobuf().schema(SchemaText::protobuf(PROTO)).auto_register();
    let error = codec.write("t", &proto_order("ann", 5)).await.unwrap_err();
    assert!(error.to_string().contains("name one"), "{error}");
    let nested = registry.any().message("shop.Item.Price").write("t", &json!({"cents": "5"})).await.unwrap();
    // Two indexes, 0 and 0.
    assert_eq!(nested.bytes.as_deref().unwrap()[5..8], [4, 0, 0]);
    assert_eq!(json_of(&registry, &nested).await, json!({"cents": "5"}));
    let wrong = registry.protobuf::<ProtoOrder>().message("shop.Nobody").write("t", &proto_order("a", 1)).await;
    assert!(wrong.unwrap_err().to_string().contains("shop.Nobody"));
}
