//! What the tests write and read: one order in three languages, and how the registry in the tests is broken.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use waterwheel::registry::{Registry, SchemaText};

use crate::registry::TestRegistry;

pub(crate) const AVRO: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
  {"name":"customer","type":"string"},{"name":"cents","type":"long"},{"name":"note","type":["null","string"],"default":null}]}"#;

pub(crate) const PROTO: &str = r#"syntax = "proto3";
package shop;
message Item { string name = 1; message Price { int64 cents = 1; string currency = 2; } }
message Order { string customer = 1; int64 cents = 2; optional string note = 3; }
"#;

pub(crate) const JSON: &str = r#"{"title":"Order","type":"object","properties":{"customer":{"type":"string"}}}"#;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) customer: String,
    pub(crate) cents: i64,
    pub(crate) note: Option<String>,
}

/// The same as `shop.Order` in [`PROTO`], as prost generates it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ProtoOrder {
    #[prost(string, tag = "1")]
    pub(crate) customer: String,
    #[prost(int64, tag = "2")]
    pub(crate) cents: i64,
    #[prost(string, optional, tag = "3")]
    pub(crate) note: Option<String>,
}

pub(crate) fn order(customer: &str, cents: i64) -> Order {
    Order { customer: customer.to_owned(), cents, note: None }
}

pub(crate) fn proto_order(customer: &str, cents: i64) -> ProtoOrder {
    ProtoOrder { customer: customer.to_owned(), cents, note: None }
}

pub(crate) fn avro() -> SchemaText {
    SchemaText::avro(AVRO)
}

/// A registry, and a client of it that loses no time.
pub(crate) async fn registry() -> (TestRegistry, Registry) {
    let (server, address) = TestRegistry::start().await;
    let client = client_of(&address);
    (server, client)
}

impl TestRegistry {
    /// Requests so far, as `GET /subjects`.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    /// How many requests of that method and path there were.
    pub(crate) fn asked(&self, request: &str) -> usize {
        self.requests().iter().filter(|asked| *asked == request).count()
    }

    pub(crate) fn demand(&self, credentials: &str) {
        self.state().credentials = Some(credentials.to_owned());
    }

    pub(crate) fn refuse(&self, times: usize, status: u16) {
        self.state().refusing = Some((times, status));
    }

    pub(crate) fn delay(&self, time: Duration) {
        self.state().delay = time;
    }
}

/// Another client of the same registry, which knows nothing yet.
pub(crate) async fn registry_at(server: &TestRegistry) -> Registry {
    client_of(&server.listen().await)
}

fn client_of(address: &str) -> Registry {
    let retry = waterwheel::Retry::fixed(Duration::from_millis(5)).attempts(3);
    Registry::builder(address).retry(retry).build().unwrap()
}
