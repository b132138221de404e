//! What a registry is asked, how often, and what follows from its answers.

use std::time::Duration;

use futures_util::future::join_all;
use waterwheel::Retry;
use waterwheel::registry::{Registry, RegistryErrorKind, SchemaId, SchemaText};

use crate::registry::TestRegistry;
use crate::types::{AVRO, PROTO, avro, registry};

#[tokio::test]
async fn a_schema_is_registered_looked_up_and_found_again() {
    let (_, registry) = registry().await;
    let id = registry.register("orders-value", &avro()).await.unwrap();
    assert_eq!(registry.register("orders-value", &avro()).await.unwrap(), id, "the same schema keeps its id");
    assert_eq!(registry.subjects().await.unwrap(), ["orders-value"]);
    assert_eq!(registry.versions("orders-value").await.unwrap(), [1]);
    let latest = registry.latest("orders-value").await.unwrap();
    assert_eq!((latest.id(), latest.version(), latest.text()), (Some(id), Some(1), AVRO));
    let found = registry.lookup("orders-value", &avro()).await.unwrap();
    let by_guid = registry.schema(found.guid().unwrap()).await.unwrap();
    let by_id = registry.schema(SchemaId::Id(id)).await.unwrap();
    assert_eq!((by_guid.text(), by_id.text()), (AVRO, AVRO));
    assert_eq!(registry.version("orders-value", 1).await.unwrap().text(), AVRO);
}

#[tokio::test]
async fn concurrent_asks_for_one_id_make_one_request() {
    let (server, registry) = registry().await;
    let id = registry.register("s", &avro()).await.unwrap();
    server.delay(Duration::from_millis(50));
    let asks = join_all((0..50).map(|_| registry.schema(SchemaId::Id(id)))).await;
    assert!(asks.iter().all(Result::is_ok));
    assert_eq!(server.asked(&format!("GET /schemas/ids/{id}")), 1);
}

#[tokio::test]
async fn what_does_not_exist_is_asked_for_once_in_a_while() {
    let (server, address) = TestRegistry::start().await;
    let registry = Registry::builder(&address).keep_not_found(Duration::from_millis(200)).build().unwrap();
    for _ in 0..10 {
        let error = registry.schema(SchemaId::Id(7)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code(), error.is_retriable()),
            (RegistryErrorKind::NotFound, Some(40403), false)
        );
    }
    assert_eq!(server.asked("GET /schemas/ids/7"), 1);
    // It may have come since.
    while server.asked("GET /schemas/ids/7") == 1 {
        registry.schema(SchemaId::Id(7)).await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = registry.latest("nobody").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (RegistryErrorKind::NotFound, Some(40401)));
    assert_eq!(error.to_string(), "schema registry: /subjects/nobody/versions/latest: Subject not found. (40401)");
}

#[tokio::test]
async fn the_latest_version_is_asked_for_anew_after_its_time() {
    let (_, address) = TestRegistry::start().await;
    let registry = Registry::builder(&address).keep_latest(Duration::from_millis(100)).build().unwrap();
    let first = registry.register("s", &SchemaText::avro(r#""string""#)).await.unwrap();
    assert_eq!(registry.latest("s").await.unwrap().id(), Some(first));
    let second = registry.register("s", &SchemaText::avro(r#"["string","null"]"#)).await.unwrap();
    assert_eq!(registry.latest("s").await.unwrap().id(), Some(first), "kept for a while");
    while registry.latest("s").await.unwrap().id() != Some(second) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn busy_and_broken_registries_are_asked_again_and_refusals_are_not() {
    for status in [429, 500, 503] {
        let (server, registry) = registry().await;
        server.refuse(2, status);
        registry.subjects().await.unwrap();
        assert_eq!(server.requests().len(), 3, "{status}");
        server.refuse(3, status);
        let error = registry.subjects().await.unwrap_err();
        assert_eq!((error.kind(), error.is_retriable()), (RegistryErrorKind::Unavailable, true));
    }
    for (status, kind) in [
        (401, RegistryErrorKind::Unauthorised),
        (403, RegistryErrorKind::Unauthorised),
        (404, RegistryErrorKind::Refused),
        (409, RegistryErrorKind::Invalid),
        (422, RegistryErrorKind::Invalid),
    ] {
        let (server, registry) = registry().await;
        server.refuse(1, status);
        assert_eq!(registry.subjects().await.unwrap_err().kind(), kind, "{status}");
        assert_eq!(server.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_registry_that_hangs_is_given_up_in_time() {
    let (server, address) = TestRegistry::start().await;
    server.delay(Duration::from_secs(3600));
    let timeout = Duration::from_millis(50);
    let registry = Registry::builder(&address).timeout(timeout).retry(Retry::none()).build().unwrap();
    let error = registry.subjects().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retriable()), (RegistryErrorKind::TimedOut, true));
}

#[tokio::test]
async fn of_several_addresses_one_that_answers_is_enough() {
    let (_, address) = TestRegistry::start().await;
    let (closed, dead) = TestRegistry::bind().await;
    drop(closed);
    let registry = Registry::new(&format!("http://{dead}, {address}/")).unwrap();
    assert_eq!(registry.subjects().await.unwrap(), [""; 0]);
    let nobody = Registry::builder(&format!("http://{dead}")).retry(Retry::none()).build().unwrap();
    assert_eq!(nobody.subjects().await.unwrap_err().kind(), RegistryErrorKind::Unreachable);
}

#[tokio::test]
async fn credentials_are_sent_and_never_shown() {
    let (server, address) = TestRegistry::start().await;
    server.demand("Basic YmlsbGluZzpjYW5hcnk=");
    let builder = Registry::builder(&address).basic_auth("billing", "canary");
    let refused = builder.clone().build().unwrap_err();
    assert!(refused.to_string().contains("unencrypted"), "{refused}");
    let registry = builder.dangerously_allow_plaintext_auth().build().unwrap();
    registry.subjects().await.unwrap();
    server.demand("Bearer other");
    let error = registry.subjects().await.unwrap_err();
    assert_eq!(error.kind(), RegistryErrorKind::Unauthorised);
    assert!(!format!("{error} {error:?} {registry:?}").contains("YmlsbGluZ"));
    let bearer = Registry::builder(&address).bearer_auth("other").dangerously_allow_plaintext_auth().build().unwrap();
    bearer.subjects().await.unwrap();
}

#[test]
fn a_wrong_setting_is_found_before_the_first_connection() {
    for (url, problem) in [
        ("localhost:8081", "not an address"),
        ("ftp://localhost", "not an address"),
        ("http://user:secret@localhost", "credentials in the address"),
        ("http://localhost?a=b", "a query"),
        ("", "not an address"),
    ] {
        let error = Registry::new(url).unwrap_err().to_string();
        assert!(error.contains(problem) && !error.contains("secret"), "{url}: {error}");
    }
    assert!(Registry::builder("https://localhost").ca_file("/no/such/ca.pem").build().is_err());
    assert!(Registry::builder("http://localhost").timeout(Duration::ZERO).build().is_err());
}

#[tokio::test]
async fn references_are_fetched_and_each_once() {
    let (server, registry) = registry().await;
    let customer =
        r#"{"type":"record","name":"Customer","namespace":"shop","fields":[{"name":"name","type":"string"}]}"#;
    registry.register("customer", &SchemaText::avro(customer)).await.unwrap();
    let pair = r#"{"type":"record","name":"Pair","namespace":"shop","fields":[
        {"name":"a","type":"Customer"},{"name":"b","type":"shop.Customer"}]}"#;
    let pair = SchemaText::avro(pair).reference("shop.Customer", "customer", 1);
    let id = registry.register("pair", &pair).await.unwrap();
    let bytes = [&[0][..], &id.to_be_bytes(), &[2, b'x', 2, b'y']].concat();
    let json = registry.decode_to_json(&bytes, None).await.unwrap();
    assert_eq!(json, serde_json::json!({"a": {"name": "x"}, "b": {"name": "y"}}));
    registry.version("pair", 1).await.unwrap();
    assert_eq!(server.asked("GET /subjects/customer/versions/1"), 1);

    registry.register("base", &SchemaText::protobuf(PROTO)).await.unwrap();
    let basket = r#"syntax = "proto3"; import "base.proto"; import "google/protobuf/timestamp.proto";
        message Basket { repeated shop.Order orders = 1; google.protobuf.Timestamp at = 2; }"#;
    let basket = SchemaText::protobuf(basket).reference("base.proto", "base", 1);
    registry.register("basket", &basket).await.unwrap();
    let json = serde_json::json!({"orders": [{"customer": "ann", "cents": "5"}], "at": "2026-01-01T00:00:00Z"});
    let encoded = registry.encode_from_json("basket", &json).await.unwrap();
    assert_eq!(registry.decode_to_json(&encoded.bytes.unwrap(), None).await.unwrap(), json);
}

#[tokio::test]
async fn a_schema_that_refers_to_itself_in_a_circle_ends() {
    let (_, registry) = registry().await;
    let circle = SchemaText::avro(r#"{"type":"record","name":"A","fields":[{"name":"b","type":"B"}]}"#);
    registry.register("a", &circle.reference("B", "a", 1)).await.unwrap();
    let error = registry.latest("a").await.unwrap_err();
    assert_eq!(error.kind(), RegistryErrorKind::Unusable);
}
