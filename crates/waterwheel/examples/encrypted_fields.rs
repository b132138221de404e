//! One field of every order is encrypted with AES-256-GCM before it is written; whoever has the key reads it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::rand::rand_bytes;
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use waterwheel::embedded::Cluster;
use waterwheel::rules::{FieldRule, FieldRules, PlainJson};
use waterwheel::{Client, DecodeError, EncodeError, Failure, Message, ProducerRecord, decoded};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    customer: String,
    card: String,
}

/// A key of one's own. Where it comes from and when it is changed is not this example's matter.
struct Encrypt([u8; 32]);

impl FieldRule for Encrypt {
    fn outgoing(&self, field: &str, value: Value) -> Result<Value, EncodeError> {
        let (mut nonce, mut tag) = ([0; 12], [0; 16]);
        let failed = |_| EncodeError::new(format!("{field} could not be encrypted"));
        rand_bytes(&mut nonce).map_err(failed)?;
        let plain = value.to_string();
        // The field's name is authenticated: its text is of no use in another field.
        let cipher = Cipher::aes_256_gcm();
        let text = encrypt_aead(cipher, &self.0, Some(&nonce), field.as_bytes(), plain.as_bytes(), &mut tag);
        Ok(STANDARD.encode([&nonce[..], &tag, &text.map_err(failed)?].concat()).into())
    }

    fn incoming(&self, field: &str, value: Value) -> Result<Value, DecodeError> {
        let refused = || DecodeError::new(format!("{field} was not encrypted with this key"));
        let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or_else(refused)?;
        let (nonce, rest) = bytes.split_at_checked(12).ok_or_else(refused)?;
        let (tag, text) = rest.split_at_checked(16).ok_or_else(refused)?;
        let plain = decrypt_aead(Cipher::aes_256_gcm(), &self.0, Some(nonce), field.as_bytes(), text, tag);
        plain.ok().and_then(|plain| serde_json::from_slice(&plain).ok()).ok_or_else(refused)
    }
}

async fn charge(order: Message<Order>) -> Result<(), Failure> {
    println!("{} pays by card {}", order.body.customer, order.body.card);
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.create_topic("orders", 1)?;
    let client = Client::new(cluster.bootstrap_servers())?;
    let mut key = [0; 32];
    rand_bytes(&mut key)?;

    let rules = FieldRules::<Order, _>::new(PlainJson).on("card", Encrypt(key));
    let order = Order { customer: "anna".to_owned(), card: "4000 0000 0000 0002".to_owned() };
    let record = ProducerRecord::to("orders").value_by(&rules, &order).await?;
    let producer = client.producer()?;
    producer.send(record).await?;
    producer.close(Duration::from_secs(5)).await;

    let worker = client.worker("billing").topic("orders").handler(decoded(rules, charge)).build()?;
    let handle = worker.handle();
    let charged = async {
        while handle.counts().succeeded < 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let report = worker.run_until(charged).await?;
    println!("{} order charged", report.counts.succeeded);
    Ok(())
}
