//! The producer's own.

use super::*;
use crate::error::code;

#[test]
fn a_record_larger_than_the_queue_fails() {
    run(async {
        let kafka = Kafka::mock();
        let topic = kafka.topic(1).await;
        let producer = kafka.producer(&[("queue.buffering.max.kbytes", "2")]);
        let large = outgoing(&topic, 0, "k", &"x".repeat(5_000));
        let records = vec![outgoing(&topic, 0, "k", "v"), large, outgoing(&topic, 0, "k", "v")];
        let sent = send(&*producer, records).await;
        assert_eq!(sent[1].clone().unwrap_err().error.code(), code::LOCAL_QUEUE_FULL);
        assert_eq!((sent[0].clone().unwrap(), sent[2].clone().unwrap()), ((0, 0), (0, 1)));
    });
}

#[test]
fn a_record_that_the_broker_refuses_is_answered_with_its_reason() {
    use rdkafka::bindings::rd_kafka_resp_err_t as E;
    run(async {
        let kafka = Kafka::mock();
        let topic = kafka.topic(1).await;
        kafka.mock.as_ref().unwrap().fail_requests(0, &[E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
        let producer = kafka.producer(&[("enable.idempotence", "false")]);
        let error = send(&*producer, vec![outgoing(&topic, 0, "k", "v")]).await[0].clone().unwrap_err();
        assert!(error.error.is_unauthorised() && !error.possibly_written, "{error:?}");
    });
}

#[test]
fn closing_answers_what_was_not_sent() {
    run(async {
        let properties = [("bootstrap.servers", "127.0.0.1:1"), ("queue.buffering.max.messages", "2")];
        let properties = properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let producer = Librdkafka::new(None, None).producer(&properties).unwrap();
        // Two in librdkafka's queue, one that waits for room.
        let answer = send_all(&*producer, (0..3).map(|_| outgoing("t", 0, "k", "v")).collect());
        assert_eq!(producer.unanswered(), 3);
        producer.close().await.unwrap();
        let failed = answer.await.unwrap().failed;
        let codes: Vec<_> = failed.iter().map(|(place, e)| (*place, e.error.code(), e.possibly_written)).collect();
        assert_eq!(codes, [(0, -152, false), (1, -152, false), (2, code::LOCAL_DESTROYED, false)]);
        assert_eq!(producer.unanswered(), 0);
        producer.answered().await.unwrap();
    });
}
