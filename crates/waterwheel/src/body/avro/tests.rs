use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;

fn schema(text: &str) -> AvroSchema {
    AvroSchema::parse(text).unwrap()
}

const LIST: &str = r#"{"type":"record","name":"Node","fields":[
    {"name":"value","type":"long"},{"name":"next","type":["null","Node"]}]}"#;

#[test]
fn every_type_is_shown_in_json_and_read_back_as_it_was() {
    let all = schema(
        r#"{"type":"record","name":"All","namespace":"a.b","fields":[
        {"name":"null","type":"null"},{"name":"bool","type":"boolean"},{"name":"int","type":"int"},
        {"name":"long","type":"long"},{"name":"float","type":"float"},{"name":"double","type":"double"},
        {"name":"bytes","type":"bytes"},{"name":"text","type":"string"},
        {"name":"fixed","type":{"type":"fixed","name":"Two","size":2}},
        {"name":"enum","type":{"type":"enum","name":"Suit","symbols":["HEARTS","SPADES"]}},
        {"name":"array","type":{"type":"array","items":"Two"}},
        {"name":"map","type":{"type":"map","values":["null","a.b.Suit"]}},
        {"name":"decimal","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
        {"name":"fixed_decimal","type":{"type":"fixed","name":"Eight","size":8,"logicalType":"decimal","precision":9,"scale":3}},
        {"name":"uuid","type":{"type":"string","logicalType":"uuid"}},
        {"name":"date","type":{"type":"int","logicalType":"date"}},
        {"name":"time","type":{"type":"long","logicalType":"time-micros"}},
        {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"local","type":{"type":"long","logicalType":"local-timestamp-micros"}},
        {"name":"span","type":{"type":"fixed","name":"Span","size":12,"logicalType":"duration"}}]}"#,
    );
    let json = json!({
        "null": null, "bool": true, "int": -5, "long": i64::MIN, "float": 0.1, "double": "NaN",
        "bytes": "\u{0}\u{ff}", "text": "gr\u{fc}\u{df}", "fixed": "ab", "enum": "SPADES", "array": ["ab", "cd"],
        "map": {"x": "HEARTS", "y": null}, "decimal": "-12.30", "fixed_decimal": "0.001",
        "uuid": "67e55044-10b1-426f-9247-bb680e5fe0c8", "date": 20000, "time": 1, "at": 1_700_000_000_000_i64,
        "local": -1, "span": {"months": 1, "days": 2, "millis": 3},
    });
    let bytes = all.encode_json(&json).unwrap();
    assert_eq!(all.decode_json(&bytes).unwrap(), json);
    assert_eq!(all.name().as_deref(), Some("a.b.All"));
}

#[test]
fn a_union_is_bare_where_that_is_clear_and_else_named() {
    let union = schema(
        r#"[{"type":"map","values":"int"},{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]},
            "int","long","string",{"type":"enum","name":"E","symbols":["X"]}]"#,
    );
    for (json, bytes) in [
        (json!({"a": 1}), &[0, 2, 2, b'a', 2, 0][..]),
        (json!({"R": {"a": 1}}), &[2, 2]),
        (json!(1), &[4, 2]),
        (json!({"long": 1}), &[6, 2]),
        (json!(4294967296_i64), &[6, 128, 128, 128, 128, 32]),
        (json!("X"), &[8, 2, b'X']),
        (json!({"E": "X"}), &[10, 0]),
    ] {
        assert_eq!(union.encode_json(&json).unwrap(), bytes, "{json}");
        assert_eq!(union.decode_json(bytes).unwrap(), json);
    }
}

#[test]
fn json_that_does_not_fit_is_an_error_by_field_without_values() {
    let orders = schema(
        r#"{"type":"record","name":"Orders","fields":[{"name":"items","type":{"type":"array","items":
        {"type":"record","name":"Item","fields":[{"name":"price","type":["null","int"]},
        {"name":"name","type":"string","default":"none"}]}}}]}"#,
    );
    assert_eq!(orders.encode_json(&json!({"items": [{"price": 1}]})).unwrap(), b"\x02\x02\x02\x08none\0");
    for (json, error) in [
        (json!({"items": [{"price": "canary"}]}), "items[].price: a whole number of 32 bits is expected"),
        (json!({"items": [{}]}), "items[].price: a value (there is no default) is expected"),
        (json!({"items": [{"price": 1, "canary": 2}]}), "items[]: no other field than those of Item is expected"),
        (json!("canary"), "an object (Orders) is expected"),
    ] {
        assert_eq!(orders.encode_json(&json).unwrap_err().to_string(), error);
    }
}

#[test]
fn data_that_ends_early_must_not_be_taken_for_nulls() {
    let record = schema(
        r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string"},{"name":"b","type":["null","long"]},
        {"name":"c","type":"boolean"},{"name":"d","type":{"type":"array","items":"double"}}]}"#,
    );
    let json = json!({"a": "abc", "b": 300, "c": true, "d": [1.5]});
    let bytes = record.encode_json(&json).unwrap();
    for end in 0..bytes.len() {
        assert!(record.decode_json(&bytes[..end]).is_err(), "the first {end} bytes");
    }
    let more = [&bytes[..], b"x"].concat();
    let error = record.decode_json(&more).unwrap_err().to_string();
    assert_eq!(error, format!("Avro data that goes on behind its end, at byte {}", bytes.len()));
}

#[test]
fn counts_and_lengths_beyond_the_data_must_not_be_allocated() {
    // 2^62 items, 2^40 bytes, and many items of no size.
    let long = |n: i64| schema(r#""long""#).encode(&n).unwrap();
    let cases = [
        (r#"{"type":"array","items":"long"}"#, long(1 << 62)),
        (r#"{"type":"array","items":"null"}"#, long(1 << 30)),
        (r#"{"type":"array","items":"null"}"#, [long(-(1 << 30)), long(0)].concat()),
        (r#"{"type":"map","values":"null"}"#, long(i64::MIN)),
        (r#""bytes""#, long(1 << 40)),
        (r#""string""#, long(-1)),
        (r#"["null"]"#, long(7)),
        (r#""long""#, vec![0xff; 11]),
    ];
    for (text, bytes) in cases {
        let used = allocation_counter::measure(|| assert!(schema(text).decode_json(&bytes).is_err(), "{text}"));
        assert!(used.bytes_max < 64 * 1024, "{text}: {} bytes", used.bytes_max);
    }
    // What an honest writer may write.
    assert!(schema(r#"{"type":"array","items":"null"}"#).decode_json(&[&long(1000)[..], &[0]].concat()).is_ok());
}

#[test]
fn data_nested_without_end_must_not_overflow_the_stack() {
    let list = schema(LIST);
    let nested = |depth: usize| [[2, 2].repeat(depth), vec![2, 0]].concat();
    #[derive(Deserialize)]
    struct Node {
        #[expect(dead_code, reason = "only its depth matters")]
        value: i64,
        next: Option<Box<Node>>,
    }
    let node: Node = list.decode(&nested(10)).unwrap();
    assert!(node.next.is_some());
    for depth in [100, 1_000_000] {
        assert!(list.decode::<Node>(&nested(depth)).is_err());
        let error = list.decode_json(&nested(depth)).unwrap_err().to_string();
        assert!(error.starts_with("Avro data that is nested too deep"), "{error}");
    }
}

#[test]
fn unions_within_unions_must_not_take_for_ever() {
    let tree = schema(
        r#"{"type":"record","name":"A","fields":[{"name":"x","type":["null","A",{"type":"record","name":"B","fields":[
        {"name":"x","type":["null","A","B"]},{"name":"y","type":"int","default":0}]}]}]}"#,
    );
    let mut json = json!({"x": "canary"});
    for _ in 0..100 {
        json = json!({ "x": json });
    }
    assert!(tree.encode_json(&json).is_err());
}

#[test]
fn what_a_type_cannot_take_is_an_error_that_quotes_nothing() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Named {
        name: i32,
    }
    let named = schema(r#"{"type":"record","name":"Named","fields":[{"name":"name","type":"string"}]}"#);
    let bytes = named.encode_json(&json!({"name": "canary"})).unwrap();
    let error = named.decode::<Named>(&bytes).unwrap_err().to_string();
    assert_eq!(error, "Avro data that does not fit the type");
    assert_eq!(
        named.encode(&Named { name: 5 }).unwrap_err().to_string(),
        "a value that does not fit the Avro schema Named"
    );
}

#[test]
fn a_schema_that_cannot_be_used_is_an_error() {
    for text in ["", "{", r#""canary""#, r#"{"type":"record","name":"A","fields":[{"name":"b","type":"B"}]}"#] {
        assert!(AvroSchema::parse(text).is_err(), "{text}");
    }
    let deep = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(10_000), "}".repeat(10_000));
    assert!(AvroSchema::parse(&deep).is_err());
}
