//! librdkafka's statistics, decoded.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::client::{BrokerStatistics, ClientRole, ClientStatistics, PartitionStatistics};

/// Beginning of a document: when it was written, in microseconds.
#[derive(Deserialize)]
struct Head {
    ts: i64,
}

/// When statistics were written, on librdkafka's clock.
pub(super) fn written(json: &str) -> Option<Duration> {
    let head: Head = serde_json::from_str(json).ok()?;
    u64::try_from(head.ts).ok().map(Duration::from_micros)
}

#[derive(Deserialize)]
struct Document {
    name: String,
    client_id: String,
    /// Microseconds.
    age: i64,
    msg_cnt: i64,
    msg_size: i64,
    txmsgs: i64,
    txmsg_bytes: i64,
    rxmsgs: i64,
    rxmsg_bytes: i64,
    #[serde(default)]
    brokers: BTreeMap<String, Broker>,
    #[serde(default)]
    topics: BTreeMap<String, Topic>,
}

#[derive(Deserialize)]
struct Broker {
    nodeid: i32,
    nodename: String,
    state: String,
    tx: i64,
    txbytes: i64,
    rxbytes: i64,
    txerrs: i64,
    rxerrs: i64,
    req_timeouts: i64,
    connects: i64,
    waitresp_cnt: i64,
    /// Microseconds.
    rtt: Window,
    /// Milliseconds.
    throttle: Window,
}

#[derive(Deserialize)]
struct Window {
    avg: i64,
    max: i64,
    cnt: i64,
}

#[derive(Deserialize)]
struct Topic {
    topic: String,
    #[serde(default)]
    partitions: BTreeMap<String, Partition>,
}

#[derive(Deserialize)]
struct Partition {
    partition: i32,
    leader: i32,
    fetchq_cnt: i64,
    fetchq_size: i64,
    msgq_cnt: i64,
    msgq_bytes: i64,
    xmit_msgq_cnt: i64,
    xmit_msgq_bytes: i64,
}

/// librdkafka counts in signed numbers.
fn count(of: i64) -> u64 {
    u64::try_from(of).unwrap_or(0)
}

/// `None` where it is not what librdkafka 2.12 writes.
pub(super) fn decode(role: ClientRole, json: &str) -> Option<ClientStatistics> {
    let document: Document = serde_json::from_str(json).ok()?;
    // A broker that was only named has no number yet, and a coordinator's connection is told as a broker of its own.
    let real = document.brokers.into_values().filter(|broker| broker.nodeid >= 0 && broker.nodename.contains(':'));
    let mut brokers: Vec<BrokerStatistics> = real.map(broker).collect();
    brokers.sort_by_key(|broker| broker.id);
    let mut partitions = Vec::new();
    for topic in document.topics.into_values() {
        // -1: records without a partition yet.
        let known = topic.partitions.into_values().filter(|partition| partition.partition >= 0);
        partitions.extend(known.map(|of| PartitionStatistics {
            topic: topic.topic.clone(),
            partition: of.partition,
            leader: Some(of.leader).filter(|leader| *leader >= 0),
            fetched: count(of.fetchq_cnt),
            fetched_bytes: count(of.fetchq_size),
            queued: count(of.msgq_cnt) + count(of.xmit_msgq_cnt),
            queued_bytes: count(of.msgq_bytes) + count(of.xmit_msgq_bytes),
        }));
    }
    partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    Some(ClientStatistics {
        role,
        client_id: document.client_id,
        instance: document.name,
        age: Duration::from_micros(count(document.age)),
        queued_records: count(document.msg_cnt),
        queued_bytes: count(document.msg_size),
        sent_records: count(document.txmsgs),
        sent_record_bytes: count(document.txmsg_bytes),
        received_records: count(document.rxmsgs),
        received_record_bytes: count(document.rxmsg_bytes),
        brokers,
        partitions,
    })
}

fn broker(of: Broker) -> BrokerStatistics {
    BrokerStatistics {
        id: of.nodeid,
        address: of.nodename,
        state: of.state,
        requests: count(of.tx),
        sent_bytes: count(of.txbytes),
        received_bytes: count(of.rxbytes),
        errors: count(of.txerrs) + count(of.rxerrs) + count(of.req_timeouts),
        connects: count(of.connects),
        waiting: count(of.waitresp_cnt),
        round_trip: (of.rtt.cnt > 0).then(|| Duration::from_micros(count(of.rtt.avg))),
        throttle: Duration::from_millis(count(of.throttle.max)),
    }
}
