//! Dead letters: the record as it was, why it is there, and when it counts (promise R5, invariant I7 from outside).

use std::time::Duration;

use waterwheel::{DeadLetter, Error, Failure, Message, OnExhausted, ProducerRecord, Raw, Record, Retry};

use crate::support::{boxed, client, committed, eventually, fill, read, run, send, start, topic, unique, worker_on};

fn headers(record: &Record) -> Vec<(String, Option<Vec<u8>>)> {
    record.headers().map(|(n, v)| (String::from_utf8_lossy(n).into_owned(), v.map(<[u8]>::to_vec))).collect()
}

#[test]
fn a_dead_letter_is_the_record_byte_for_byte_with_the_reason_added() {
    run(async {
        let (topic, letters) = (topic(1), topic(1));
        let to = || ProducerRecord::to(&*topic).timestamp_millis(1_234_567_890_123);
        let with_headers =
            to().key([0xff, 0]).value([0xfe, 0]).header("b", "1").header("a", [0xfd]).null_header("b").header("b", "");
        send([with_headers, to().key("").value(""), to()]).await;
        let group = unique("group");
        let worker = worker_on(&topic).group(&group).retry(Retry::fixed(Duration::from_millis(1)).attempts(2));
        let worker = worker.dead_letter(DeadLetter::topic(&letters));
        let running = start(
            worker
                .handler(boxed(async |_: Message<Raw>| anyhow::Result::<()>::Err(anyhow::anyhow!("canary"))))
                .build()
                .unwrap(),
        );
        eventually("three dead letters", || running.handle.counts().dead_lettered == 3).await;
        let counts = running.stop().await.counts;
        assert_eq!((counts.attempts, counts.retried, counts.dead_letter_failures), (6, 3, 0));
        assert_eq!(committed(&group, &topic, 0).map(|(offset, _)| offset), Some(3));

        let (mut found, sources) = (read(&letters, 3).await, read(&topic, 3).await);
        found.sort_by_key(|r| r.header("waterwheel-original-offset").map(<[u8]>::to_vec));
        for (letter, source) in found.iter().zip(&sources) {
            assert_eq!((letter.key(), letter.value()), (source.key(), source.value()));
            let (mut all, own) = (headers(letter), headers(source));
            let added = all.split_off(own.len());
            assert_eq!(all, own);
            let text = |s: &str| Some(s.as_bytes().to_vec());
            let first_failed = added[7].1.clone();
            assert!(
                String::from_utf8(first_failed.clone().unwrap()).unwrap().parse::<i64>().unwrap() > 1_600_000_000_000
            );
            let expected = [
                ("waterwheel-original-topic", text(&topic)),
                ("waterwheel-original-partition", text("0")),
                ("waterwheel-original-offset", text(&source.offset().to_string())),
                ("waterwheel-original-timestamp", text("1234567890123")),
                ("waterwheel-group", text(&group)),
                ("waterwheel-error-class", text("handler")),
                ("waterwheel-attempts", text("2")),
                ("waterwheel-first-failed-at", first_failed),
            ];
            assert_eq!(added, expected.map(|(n, v)| (n.to_owned(), v)));
        }
        assert_eq!(
            (sources[0].key(), sources[1].key(), sources[2].key()),
            (Some(&[0xff, 0][..]), Some(&b""[..]), None)
        );
    });
}

#[test]
fn the_error_text_is_in_the_letter_only_if_asked_for_and_is_bounded() {
    run(async {
        let (topic, letters) = (topic(1), topic(1));
        fill(&topic, 1, |_| "k".to_owned()).await;
        let worker = worker_on(&topic).dead_letter(DeadLetter::topic(&letters).with_error_message());
        let handler = async |_: Message<Raw>| Err::<(), _>(Failure::dead_letter("ü".repeat(5_000)));
        let running = start(worker.handler(boxed(handler)).build().unwrap());
        eventually("the dead letter", || running.handle.counts().dead_lettered == 1).await;
        running.stop().await;
        let letter = &read(&letters, 1).await[0];
        assert_eq!(letter.header("waterwheel-error-message"), Some("ü".repeat(512).as_bytes()));
        assert_eq!(letter.header("waterwheel-attempts"), Some(&b"1"[..]));
    });
}

/// The topic's name is filled in, and the topic is made by being written to (on a cluster that makes topics so).
#[test]
fn each_topic_has_dead_letters_of_its_own_by_a_template() {
    run(async {
        let (one, two, group) = (topic(1), topic(1), unique("group"));
        for topic in [&one, &two] {
            fill(topic, 1, |_| "k".to_owned()).await;
        }
        let worker = client().worker(&group).topics([&one, &two]).dead_letter(DeadLetter::topic("{topic}.{group}.dlt"));
        let handler = async |_: Message<Raw>| Err::<(), _>(Failure::dead_letter("no"));
        let running = start(worker.handler(boxed(handler)).build().unwrap());
        eventually("both", || running.handle.counts().dead_lettered == 2).await;
        running.stop().await;
        for topic in [&one, &two] {
            let letter = &read(&format!("{topic}.{group}.dlt"), 1).await[0];
            assert_eq!(letter.header("waterwheel-original-topic"), Some(topic.as_bytes()));
        }
    });
}

#[test]
fn a_worker_that_would_read_its_own_dead_letters_is_refused() {
    let build = |dead_letter: &str| {
        let worker = client().worker("w").topic("orders").dead_letter(DeadLetter::topic(dead_letter));
        worker.handler(boxed(async |_: Message<Raw>| anyhow::Ok(()))).build().map(|_| ())
    };
    let text = |result: Result<(), Error>| result.unwrap_err().to_string();
    assert!(text(build("orders")).contains("would go to \"orders\" itself"));
    assert!(text(build("{topic}")).contains("itself"));
    assert!(text(build("{tropic}.dlt")).contains("unknown placeholder"));
    build("{topic}.dlt").unwrap();
    let worker = client().worker("w").topic("orders").on_exhausted(OnExhausted::DeadLetter);
    let refused = worker.handler(boxed(async |_: Message<Raw>| anyhow::Ok(()))).build().map(|_| ());
    assert!(text(refused).contains("no dead-letter topic"));
}

#[test]
fn a_dead_letter_is_finished_without_waiting_for_a_commit() {
    run(async {
        let (topic, letters) = (topic(1), topic(1));
        fill(&topic, 1, |_| "k".to_owned()).await;
        // The next collection for a commit would come in an hour.
        let worker = client().worker(unique("group")).topic(&topic).commit_every(Duration::from_secs(3600));
        let worker = worker.dead_letter(DeadLetter::topic(&letters)).shards(1);
        let handler = |_: Message<Raw>| std::future::ready(Err::<(), _>(Failure::dead_letter("no")));
        let running = start(worker.handler(boxed(handler)).build().unwrap());
        eventually("the dead letter", || running.handle.counts().dead_lettered == 1).await;
        running.stop().await;
    });
}

#[test]
fn a_wish_for_a_dead_letter_parks_the_record_where_there_is_no_topic_for_it() {
    run(async {
        let topic = topic(1);
        fill(&topic, 1, |_| "k".to_owned()).await;
        let handler = async |_: Message<Raw>| Err::<(), _>(Failure::dead_letter("no"));
        let group = unique("group");
        let running = start(worker_on(&topic).group(&group).handler(boxed(handler)).build().unwrap());
        eventually("an attempt", || running.handle.counts().retried == 1).await;
        assert_eq!(running.handle.snapshot().await.unwrap().parked, 1);
        running.stop().await;
        assert!(committed(&group, &topic, 0).is_none_or(|(offset, _)| offset == 0));
    });
}
