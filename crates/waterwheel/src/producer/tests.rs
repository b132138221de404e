//! The producer on the memory cluster, in its time, and on librdkafka with its mock cluster, with real threads.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures_util::{FutureExt, StreamExt, stream};

use super::*;
use crate::Client;
use crate::client::librdkafka::mock::MockCluster;
use crate::memory::{Control, Request};

/// A memory cluster with a topic `t` of two partitions, where a request takes a second.
fn in_memory(test: impl AsyncFnOnce(Control, Client)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let cluster = Control::default();
        cluster.topic("t", 2);
        cluster.slow(Request::Produce, Duration::from_secs(1));
        let client = Client::builder().build_on(&cluster, 1).unwrap();
        timeout(Duration::from_secs(3_600), test(cluster, client)).await.expect("the test should have ended by now");
    });
}

/// librdkafka's mock cluster with a topic `t` of one partition.
fn on_mock(test: impl AsyncFnOnce(&MockCluster, Client)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mock = MockCluster::start(1).unwrap();
        mock.create_topic("t", 1).unwrap();
        let client = Client::new(mock.bootstrap()).unwrap();
        timeout(Duration::from_secs(60), test(&mock, client)).await.expect("the test should have ended by now");
    });
}

fn record(n: usize) -> ProducerRecord {
    ProducerRecord::to("t").partition(0).key("k").value(n.to_string())
}

fn value(record: &ProducerRecord) -> String {
    String::from_utf8(record.value_bytes().unwrap().to_vec()).unwrap()
}

#[test]
fn a_full_queue_gives_the_record_back_and_says_when_there_is_room() {
    in_memory(async |_, client| {
        let producer = client.producer_builder().queue_records(3).build().unwrap();
        let mut answers: Vec<_> = (0..3).map(|n| producer.enqueue(record(n)).unwrap()).collect();
        let failure = producer.enqueue(record(3)).unwrap_err();
        assert_eq!((failure.stage(), failure.possibly_written()), (SendStage::QueueFull, false));
        assert!(failure.is_retriable() && !failure.is_fatal());
        let late = producer.enqueue_within(failure.into_record(), Duration::from_millis(500)).await.unwrap_err();
        assert_eq!((late.stage(), value(late.record())), (SendStage::QueueFull, "3".to_owned()));
        answers.push(producer.enqueue_within(late.into_record(), Duration::from_secs(10)).await.unwrap());
        for (n, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.await.unwrap().offset, Some(n as i64));
        }
        producer.ready().await;
        assert_eq!(producer.queue_len(), 0);
    });
}

#[test]
fn a_queue_full_of_bytes_counts_keys_values_and_headers() {
    in_memory(async |_, client| {
        let producer = client.producer_builder().queue_bytes(1_000).build().unwrap();
        let half = || ProducerRecord::to("t").key([1; 100]).value([2; 300]).header([3; 50], [4; 62]);
        let answers = [producer.enqueue(half()).unwrap(), producer.enqueue(half()).unwrap()];
        assert_eq!(producer.enqueue(record(0)).unwrap_err().stage(), SendStage::QueueFull);
        for answer in answers {
            answer.await.unwrap();
        }
        // What is larger than the queue goes alone.
        producer.send(ProducerRecord::to("t").value([0; 5_000])).await.unwrap();
    });
}

#[test]
fn send_waits_for_room_in_its_turn_or_fails_as_it_is_told() {
    in_memory(async |cluster, client| {
        let waits = client.producer_builder().queue_records(2).build().unwrap();
        let sends = futures_util::future::join_all((0..9).map(|n| waits.send(record(n)))).await;
        let offsets: Vec<_> = sends.into_iter().map(|sent| sent.unwrap().offset.unwrap()).collect();
        assert!(offsets.into_iter().eq(0..9), "in the order in which they were polled");

        let fails = client.producer_builder().queue_records(2).on_full(OnFull::Fail).build().unwrap();
        let sends = futures_util::future::join_all((0..3).map(|n| fails.send(record(n)))).await;
        assert_eq!(sends.iter().filter(|sent| sent.is_ok()).count(), 2);
        assert_eq!(sends[2].as_ref().unwrap_err().stage(), SendStage::QueueFull);

        // A send does not wait for room for longer than a record may take.
        let short =
            client.producer_builder().queue_records(1).delivery_timeout(Duration::from_secs(5)).build().unwrap();
        cluster.slow(Request::Produce, Duration::from_secs(60));
        let _first = short.enqueue(record(0)).unwrap();
        let began = Instant::now();
        assert_eq!(short.send(record(1)).await.unwrap_err().stage(), SendStage::QueueFull);
        assert_eq!(began.elapsed().as_secs(), 5);
    });
}

#[test]
fn a_send_after_close_is_an_error_and_what_was_sent_before_is_written() {
    in_memory(async |cluster, client| {
        let producer = client.producer().unwrap();
        let before = producer.enqueue(record(0)).unwrap();
        assert_eq!(producer.close(Duration::from_secs(10)).await, 0);
        assert!(before.await.is_ok());
        let other = producer.clone();
        for failure in [
            producer.enqueue(record(1)).unwrap_err(),
            other.send(record(1)).await.unwrap_err(),
            other.enqueue_within(record(1), Duration::from_secs(1)).await.unwrap_err(),
            other.send_all(vec![record(1)]).await.unwrap_err().remove(0),
            other.send_stream(stream::iter([record(1)])).await.unwrap_err().into_failures().remove(0),
        ] {
            assert_eq!((failure.stage(), failure.possibly_written()), (SendStage::Closed, false));
            assert_eq!(value(failure.record()), "1");
        }
        other.ready().await;
        assert_eq!(producer.close(Duration::from_secs(1)).await, 0, "twice is once");
        assert_eq!(cluster.records(&crate::TopicPartition::new("t", 0)).len(), 1);
    });
}

#[test]
fn a_record_for_another_cluster_is_refused_and_given_back() {
    in_memory(async |cluster, _| {
        let client = Client::builder().topic_brokers("far", "other:9092").build_on(&cluster, 1).unwrap();
        let producer = client.producer().unwrap();
        let refused = producer.send(ProducerRecord::to("far").value("1")).await.unwrap_err();
        assert!(refused.to_string().contains("is on another cluster"), "{refused}");
        assert_eq!(value(&refused.into_record()), "1");
        let refused = producer.send_all(vec![ProducerRecord::to("far").value("2"), record(3)]).await.unwrap_err();
        assert_eq!(refused.into_iter().map(|f| value(&f.into_record())).collect::<Vec<_>>(), ["2"]);
        client.for_topic("far").producer().unwrap();
    });
}

#[test]
fn flush_and_close_say_what_is_left_and_no_future_is_forgotten() {
    in_memory(async |_, client| {
        let producer = client.producer().unwrap();
        let missing = producer.enqueue(ProducerRecord::to("missing")).unwrap();
        let began = Instant::now();
        assert_eq!(producer.flush(Duration::from_secs(3)).await, 1);
        assert_eq!(began.elapsed().as_secs(), 3);
        assert_eq!(producer.close(Duration::from_secs(3)).await, 1);
        assert_eq!(missing.await.unwrap_err().stage(), SendStage::Closed);

        let producer = client.producer().unwrap();
        let answers: Vec<_> = (0..50).map(|_| producer.enqueue(ProducerRecord::to("missing")).unwrap()).collect();
        producer.purge(Purge::Unsent);
        for answer in answers {
            assert!(!answer.await.unwrap_err().possibly_written());
        }
        let dropped = producer.enqueue(ProducerRecord::to("missing")).unwrap();
        drop(producer);
        assert!(dropped.await.is_err());
    });
}

#[test]
fn reports_that_nobody_reads_hold_up_nothing_and_are_counted() {
    in_memory(async |_, client| {
        let producer = client.producer().unwrap();
        let mut reports = producer.deliveries();
        producer.send_all((0..3_000).map(record).collect()).await.unwrap();
        let answers: Vec<_> = (3_000..5_000).map(|n| producer.enqueue(record(n)).unwrap()).collect();
        for answer in answers {
            answer.await.unwrap();
        }
        let mut missed = 0;
        let mut last = 0;
        for _ in 0..1_025 {
            match reports.next().await.unwrap() {
                DeliveryReport::Missed { reports } => missed += reports,
                DeliveryReport::Delivered { record, at } => {
                    last = at.offset.unwrap();
                    assert_eq!(value(&record), last.to_string());
                }
                DeliveryReport::Failed(failure) => panic!("{failure}"),
            }
        }
        assert_eq!((missed, last), (5_000 - 1_024, 4_999));
        drop(producer);
        assert!(reports.next().await.is_none());
    });
}

#[derive(Default)]
struct Seen {
    after: AtomicUsize,
    failed: AtomicUsize,
}

/// Adds a letter to the value, and panics where it says so.
struct Adds(&'static str, Arc<Seen>);

impl Interceptor for Adds {
    fn before(&self, record: ProducerRecord) -> ProducerRecord {
        let value = value(&record);
        assert!(!value.starts_with("before"), "as asked");
        record.value(value + self.0)
    }

    fn after(&self, record: &ProducerRecord, outcome: Result<&Delivered, &SendFailure>) {
        let counter = if outcome.is_ok() { &self.1.after } else { &self.1.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        assert!(!value(record).starts_with("after"), "as asked");
    }
}

#[test]
fn interceptors_change_records_in_their_order_and_see_what_became_of_them() {
    in_memory(async |cluster, client| {
        let seen = Arc::new(Seen::default());
        let producer = client.producer_builder();
        let producer =
            producer.interceptor(Adds("a", seen.clone())).interceptor(Adds("b", seen.clone())).build().unwrap();
        producer.send(record(0)).await.unwrap();
        producer.send_all(vec![record(1)]).await.unwrap();
        producer.send_stream(stream::iter([record(2)])).await.unwrap();
        let values: Vec<_> =
            cluster.records(&crate::TopicPartition::new("t", 0)).iter().map(|r| r.value().unwrap().to_vec()).collect();
        assert_eq!(values, [b"0ab", b"1ab", b"2ab"]);
        assert_eq!(seen.after.load(Ordering::Relaxed), 6);
    });
}

#[test]
fn an_interceptor_that_panics_fails_its_record_and_stalls_nothing() {
    in_memory(async |cluster, client| {
        let seen = Arc::new(Seen::default());
        let producer = client.producer_builder().queue_records(2).interceptor(Adds("", seen.clone())).build().unwrap();
        let bad = || ProducerRecord::to("t").partition(0).value("before");
        for _ in 0..5 {
            // More often than there is room: each gives its room back.
            let failure = producer.send(bad()).await.unwrap_err();
            assert_eq!((failure.stage(), value(failure.record())), (SendStage::Intercepted, "before".to_owned()));
        }
        assert_eq!(producer.send_all(vec![bad(), record(0)]).await.unwrap_err().len(), 1);
        assert_eq!(seen.failed.load(Ordering::Relaxed), 6);
        // What panics afterwards changes nothing: the record is written.
        producer.send(ProducerRecord::to("t").partition(0).value("after")).await.unwrap();
        producer.send(record(1)).await.unwrap();
        assert_eq!(producer.interceptor_panics(), 7);
        assert_eq!(cluster.records(&crate::TopicPartition::new("t", 0)).len(), 3);
    });
}

/// Uses every method of its producer from within, where a lock that is held would never be free.
#[derive(Default)]
struct Nosy(OnceLock<Producer>, AtomicU64);

impl Interceptor for Arc<Nosy> {
    fn after(&self, record: &ProducerRecord, _: Result<&Delivered, &SendFailure>) {
        let producer = self.0.get().unwrap();
        let _ = (producer.queue_len(), producer.interceptor_panics(), producer.deliveries());
        if value(record) == "0" {
            // One more for each of the first ones.
            drop(producer.enqueue(tests_record()));
            assert!(producer.send_all(vec![tests_record()]).now_or_never().is_none());
        }
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

fn tests_record() -> ProducerRecord {
    record(1)
}

#[test]
fn an_interceptor_runs_under_no_lock() {
    let test = async |client: Client| {
        let nosy = Arc::new(Nosy::default());
        let producer = client.producer_builder().interceptor(nosy.clone()).build().unwrap();
        nosy.0.set(producer.clone()).unwrap();
        producer.send_all((0..20).map(|_| record(0)).collect()).await.unwrap();
        while producer.flush(Duration::from_secs(10)).await > 0 {}
        assert_eq!(nosy.1.load(Ordering::SeqCst), 60);
    };
    on_mock(async |_, client| test(client).await);
    in_memory(async |_, client| test(client).await);
}

#[test]
fn records_keep_the_order_of_the_calls_whichever_calls_they_are() {
    on_mock(async |_, client| {
        let producer = client.producer_builder().queue_records(5_000).build().unwrap();
        let (mut n, mut singles, mut lists) = (0, Vec::new(), Vec::new());
        for round in 0..400 {
            for _ in 0..round % 23 {
                let answer = match producer.enqueue(record(n)) {
                    Ok(answer) => answer,
                    Err(failure) => {
                        producer.enqueue_within(failure.into_record(), Duration::from_secs(60)).await.unwrap()
                    }
                };
                singles.push((n, answer));
                n += 1;
            }
            // Sent at its first poll.
            let mut list = Box::pin(producer.send_all((n..n + 40).map(record).collect()));
            n += 40;
            assert!(list.as_mut().now_or_never().is_none());
            lists.push(list);
        }
        for (n, answer) in singles {
            assert_eq!(answer.await.unwrap().offset, Some(n as i64));
        }
        for list in lists {
            list.await.unwrap();
        }
        assert_eq!(producer.send(record(n)).await.unwrap().offset, Some(n as i64));
    });
}

#[test]
fn a_stream_is_read_no_faster_than_records_are_acknowledged_and_ends_at_a_failure() {
    in_memory(async |cluster, client| {
        let producer = client.producer_builder().queue_records(20).build().unwrap();
        let read = AtomicUsize::new(0);
        let records = stream::iter((0..200).map(record)).inspect(|_| _ = read.fetch_add(1, Ordering::Relaxed));
        let mut sent = Box::pin(producer.send_stream(records));
        assert!(sent.as_mut().now_or_never().is_none());
        assert!(read.load(Ordering::Relaxed) <= 40, "{read:?}");
        assert_eq!(sent.await.unwrap(), 200);

        cluster.delete_topic("t");
        let short =
            client.producer_builder().queue_records(20).delivery_timeout(Duration::from_secs(5)).build().unwrap();
        let failure = short.send_stream(stream::iter((0..2_000).map(record))).await.unwrap_err();
        assert_eq!((failure.acknowledged(), failure.failures().len()), (0, 20));
    });
}

#[test]
fn a_record_costs_no_allocation_of_its_own() {
    on_mock(async |_, client| {
        let producer = client.producer().unwrap();
        producer.send(record(0)).await.unwrap();
        let mut least = allocation_counter::AllocationInfo { count_total: u64::MAX, ..Default::default() };
        for _ in 0..10 {
            let records: Vec<_> = (0..10_000).map(record).collect();
            let mut answers = Vec::with_capacity(records.len());
            let measured = allocation_counter::measure(|| {
                for record in records {
                    answers.push(producer.enqueue(record).unwrap());
                }
            });
            println!("{measured:?}");
            if measured.count_total < least.count_total {
                least = measured;
            }
            for answer in answers {
                answer.await.unwrap();
            }
        }
        // Each list that the sending thread takes away is followed by a new one, and how often that comes is the machine's
        // affair: the least shows what a record costs. librdkafka's own are not counted.
        assert!(least.count_total < 2_000, "{least:?}");
        assert!(least.bytes_total < 10_000 * 600, "{least:?}");
    });
}

#[test]
fn a_producer_that_can_send_nothing_any_more_says_so_and_closes() {
    on_mock(async |mock, client| {
        let producer = client.producer_builder().with("enable.gapless.guarantee", "true").build().unwrap();
        producer.send(record(0)).await.unwrap();
        const PRODUCE: i16 = 0;
        mock.fail_requests(PRODUCE, &[rdkafka::bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_INVALID_RECORD]);
        let failure = producer.send(record(1)).await.unwrap_err();
        assert!(failure.is_fatal() && !failure.is_retriable(), "{failure:?}");
        let failure = producer.send(record(2)).await.unwrap_err();
        assert!(failure.is_fatal() && !failure.possibly_written(), "{failure:?}");
        assert_eq!(producer.close(Duration::from_secs(10)).await, 0);
    });
}

#[test]
fn a_flush_does_not_linger() {
    on_mock(async |_, client| {
        let producer =
            client.producer_builder().linger(Duration::from_secs(600)).delivery_timeout(Duration::from_secs(900));
        let producer = producer.build().unwrap();
        let answer = producer.enqueue(record(0)).unwrap();
        assert_eq!(producer.flush(Duration::from_secs(30)).await, 0);
        answer.now_or_never().expect("flushed").unwrap();
    });
}

#[test]
fn what_is_purged_fails_and_makes_room() {
    on_mock(async |_, client| {
        let producer = client.producer_builder().linger(Duration::from_secs(600)).queue_records(10);
        let producer = producer.delivery_timeout(Duration::from_secs(900)).build().unwrap();
        let answers: Vec<_> = (0..10).map(|n| producer.enqueue(record(n)).unwrap()).collect();
        producer.purge(Purge::All);
        for answer in answers {
            let failure = answer.await.unwrap_err();
            assert!(!failure.possibly_written(), "{failure:?}");
        }
        producer.ready().await;
    });
}

#[test]
fn no_payload_is_printed() {
    in_memory(async |_, client| {
        let producer = client.producer_builder().with("ssl.key.password", "canary");
        let canary = ProducerRecord::to("no topic").key("canary").value("canary").header("canary", "canary");
        let printed = format!("{producer:?} {canary:?}");
        let failure = client.producer().unwrap().send(canary).await.unwrap_err();
        let printed = format!("{printed} {failure} {failure:?} {failure:#?}");
        assert!(!printed.contains("canary"), "{printed}");
    });
}
