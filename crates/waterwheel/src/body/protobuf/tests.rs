use serde_json::json;

use super::*;

const TEXT: &str = r#"syntax = "proto3";
package shop;
import "parts.proto";
import "google/protobuf/wrappers.proto";
message Basket {
  message Line { string name = 1; message Price { sint64 cents = 1; } Price price = 2; }
  repeated Line lines = 1;
  map<string, Color> colors = 2;
  bytes seal = 3;
  google.protobuf.StringValue note = 4;
  Basket inner = 5;
}
message Other { uint64 big = 1; }"#;

const PARTS: &str = r#"syntax = "proto3"; package shop; enum Color { RED = 0; BLUE = 1; }"#;

fn schema() -> ProtobufSchema {
    ProtobufSchema::parse(TEXT, &[("parts.proto", PARTS)]).unwrap()
}

#[test]
fn messages_are_found_by_name_and_by_indexes() {
    let schema = schema();
    assert_eq!(schema.messages(), ["shop.Basket", "shop.Basket.Line", "shop.Basket.Line.Price", "shop.Other"]);
    for name in schema.messages() {
        let path = schema.path_of(Some(&name)).unwrap();
        assert_eq!(schema.at(&path).unwrap().full_name(), name);
    }
    assert_eq!(schema.path_of(Some("shop.Basket.Line.Price")).unwrap(), [0, 0, 0]);
    assert_eq!(schema.path_of(None).unwrap(), [0]);
    assert!(schema.path_of(Some("google.protobuf.StringValue")).is_err(), "it is of another file");
    for indexes in [&[][..], &[2], &[0, 7], &[1, 0]] {
        assert!(schema.at(indexes).is_err(), "{indexes:?}");
    }
}

#[test]
fn a_message_is_shown_in_json_and_read_back_as_it_was() {
    let basket = schema().at(&[0]).unwrap();
    let json = json!({
        "lines": [{"name": "tea", "price": {"cents": "-9223372036854775808"}}],
        "colors": {"tea": "BLUE"}, "seal": "AP8=", "note": "gr\u{fc}\u{df}",
    });
    let bytes = encode_json(&basket, &json).unwrap();
    assert_eq!(decode_json(&basket, &bytes).unwrap(), json);
    let error = encode_json(&basket, &json!({"canary": 1})).unwrap_err().to_string();
    assert_eq!(error, "JSON that does not fit shop.Basket");
}

#[test]
fn a_descriptor_in_base64_is_the_same_schema() {
    let other = r#"syntax = "proto3"; message Other { uint64 big = 1; }"#;
    let text = ProtobufSchema::parse(other, &[] as &[(&str, &str)]).unwrap();
    let descriptor = text.0.file_descriptor_proto().encode_to_vec();
    let binary = base64::engine::general_purpose::STANDARD.encode(descriptor);
    let schema = ProtobufSchema::parse(&binary, &[] as &[(&str, &str)]).unwrap();
    assert_eq!(schema.messages(), ["Other"]);
    let set = text.0.parent_pool().encode_to_vec();
    assert_eq!(ProtobufSchema::from_descriptor_set(&set, MAIN).unwrap().messages(), ["Other"]);
}

#[test]
fn garbage_is_an_error_that_quotes_nothing() {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Line {
        #[prost(string, tag = "1")]
        name: String,
    }
    assert!(Protobuf::<Line>::from_bytes(None).is_err());
    assert_eq!(Protobuf::<Line>::from_bytes(Some(b"")).unwrap().0, Line::default());
    let basket = schema().at(&[0]).unwrap();
    for garbage in
        [&b"\x0a\xffcanary"[..], b"\x0a\x06\xffanary", b"\x0b", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"]
    {
        let error = Protobuf::<Line>::from_bytes(Some(garbage)).unwrap_err().to_string();
        assert!(!error.contains("canary") && !error.contains("anary"), "{error}");
        assert!(decode_json(&basket, garbage).is_err());
    }
    // Baskets in baskets: field 5, each with the length of what it holds.
    let nested = (0..10_000).fold(Vec::new(), |inner: Vec<u8>, _| {
        let mut outer = vec![0x2a];
        prost::encoding::encode_varint(inner.len() as u64, &mut outer);
        outer.extend(inner);
        outer
    });
    assert!(decode_json(&basket, &nested).is_err());
}

#[test]
fn a_schema_that_cannot_be_used_is_an_error() {
    for text in ["", "message {", TEXT, "syntax = \"proto3\"; message A { B b = 1; }"] {
        let schema = ProtobufSchema::parse(text, &[] as &[(&str, &str)]);
        assert!(schema.is_err() || schema.unwrap().path_of(None).is_err(), "{text}");
    }
}
