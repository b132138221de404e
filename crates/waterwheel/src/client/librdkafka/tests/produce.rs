//! The producer port.

use super::*;
use crate::error::code;

on_every_cluster! {
    every_record_is_reported_once_with_its_place
    a_record_that_is_refused_stays_in_front
    a_full_queue_leaves_the_rest_in_order
    records_with_one_key_go_where_kafkas_java_client_puts_them
}

async fn every_record_is_reported_once_with_its_place(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let producer = kafka.producer(&[]);
    let mut sent: Vec<_> = (0..5_000_u64)
        .map(|i| {
            let mut record = outgoing(&topic, (i % 2) as i32, "k", "v");
            // Both ways in, mixed.
            if i % 7 == 0 {
                record.headers.push((b"h"[..].into(), None));
            }
            (i + 1, record)
        })
        .collect();
    let reports = send(&*producer, &mut sent).await;
    assert_eq!(producer.queue_len(), 0);
    for (i, report) in reports.iter().enumerate() {
        assert_eq!(report.ticket, i as u64 + 1);
        assert_eq!(report.result.clone().unwrap(), ((i % 2) as i32, i as i64 / 2));
    }
    producer.close().await.unwrap();
    assert!(producer.enqueue(&mut Vec::new()).is_err());
}

async fn a_record_that_is_refused_stays_in_front(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let producer = kafka.producer(&[("message.max.bytes", "10000")]);
    for with_headers in [false, true] {
        let mut large = outgoing(&topic, 0, "k", &"x".repeat(20_000));
        if with_headers {
            large.headers.push((b"h"[..].into(), None));
        }
        let mut sent = vec![(1, outgoing(&topic, 0, "k", "v")), (2, large), (3, outgoing(&topic, 0, "k", "v"))];
        let error = producer.enqueue(&mut sent).unwrap_err();
        assert_eq!((error.code(), sent[0].0), (code::MESSAGE_TOO_LARGE, 2));
        sent.remove(0);
        let taken = 2 - sent.len();
        assert_eq!(producer.queue_len(), taken);
        let mut reports = Vec::new();
        while reports.len() < taken {
            poll_fn(|cx| producer.poll_reports(cx, &mut reports)).await;
        }
        reports.extend(send(&*producer, &mut sent).await);
        assert_eq!(reports.iter().map(|r| r.ticket).collect::<Vec<_>>(), [1, 3]);
        assert!(reports.iter().all(|r| r.result.is_ok()));
    }
}

async fn a_full_queue_leaves_the_rest_in_order(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let producer = kafka.producer(&[("queue.buffering.max.messages", "10")]);
    let mut sent: Vec<_> = (0..25).map(|i| (i, outgoing(&topic, 0, "k", &i.to_string()))).collect();
    producer.enqueue(&mut sent).unwrap();
    assert_eq!((sent.len(), sent[0].0, producer.queue_len()), (15, 10, 10));
    let (mut reports, mut all) = (Vec::new(), 0);
    while all < 25 {
        poll_fn(|cx| producer.poll_reports(cx, &mut reports)).await;
        for report in reports.drain(..) {
            // In order, though it was given piece by piece.
            assert_eq!(report.result.unwrap(), (0, report.ticket as i64));
            all += 1;
        }
        producer.enqueue(&mut sent).unwrap();
    }
    assert!(sent.is_empty());
}

async fn records_with_one_key_go_where_kafkas_java_client_puts_them(kafka: Kafka) {
    let topic = kafka.topic(32).await;
    let producer = kafka.producer(&[]);
    // Partitions that Java's `toPositive(murmur2(key)) % 32` gives.
    let keys = ["", "a", "key", "waterwheel"];
    let mut sent: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(i, key)| (i as u64, Outgoing { partition: None, ..outgoing(&topic, 0, key, "v") }))
        .collect();
    let reports = send(&*producer, &mut sent).await;
    let partitions: Vec<i32> = reports.iter().map(|r| r.result.clone().unwrap().0).collect();
    assert_eq!(partitions, keys.map(|key| (murmur2(key.as_bytes()) & 0x7fff_ffff) as i32 % 32));
}

/// `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h: u32 = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    for (i, byte) in rest.iter().enumerate() {
        h ^= u32::from(*byte) << (8 * i);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ h >> 15
}

#[test]
fn a_record_that_the_broker_refuses_is_reported_with_its_reason() {
    use rdkafka::bindings::rd_kafka_resp_err_t as E;
    run(async {
        let kafka = Kafka::mock();
        let topic = kafka.topic(1).await;
        kafka.mock.as_ref().unwrap().fail_requests(0, &[E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
        let producer = kafka.producer(&[("enable.idempotence", "false")]);
        let reports = send(&*producer, &mut vec![(1, outgoing(&topic, 0, "k", "v"))]).await;
        let error = reports[0].result.clone().unwrap_err();
        assert!(error.error.is_unauthorised() && !error.possibly_written, "{error:?}");
    });
}

#[test]
fn closing_reports_what_was_not_sent() {
    run(async {
        let properties = [("bootstrap.servers".to_owned(), "127.0.0.1:1".to_owned())].into();
        let producer = Librdkafka.producer(&properties).unwrap();
        let mut sent: Vec<_> = (0..3).map(|i| (i, outgoing("t", 0, "k", "v"))).collect();
        producer.enqueue(&mut sent).unwrap();
        assert_eq!(producer.queue_len(), 3);
        producer.close().await.unwrap();
        let mut reports = Vec::new();
        poll_fn(|cx| producer.poll_reports(cx, &mut reports)).await;
        assert_eq!((reports.len(), producer.queue_len()), (3, 0));
        for report in reports {
            let error = report.result.unwrap_err();
            assert_eq!((error.error.code(), error.possibly_written), (-152, false));
        }
    });
}
