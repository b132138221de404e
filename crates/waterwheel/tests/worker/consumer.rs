//! Consumers: records pulled, finished in any order, and given back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use waterwheel::{
    BoxError, CommitMetadata, Consumer, ConsumerBuilder, Delivery, Error, Event, FailureClass, Json, Notification,
    Retry, Start, TopicPartition, WorkerState,
};

use crate::support::{PATIENCE, client, commit, committed, event, eventually, fill, record, run, send, topic, unique};

/// A consumer in a group of its own that commits ten times a second.
fn consumer_on(topic: &str) -> ConsumerBuilder {
    member_of(&unique("group"), topic)
}

fn member_of(group: &str, topic: &str) -> ConsumerBuilder {
    let consumer = client().consumer(group).topic(topic);
    consumer.with(|w| w.commit_every(Duration::from_millis(100)).property("group.protocol", "consumer"))
}

async fn pull(consumer: &mut Consumer, count: usize) -> Vec<Delivery> {
    let mut pulled = Vec::new();
    while pulled.len() < count {
        pulled.push(consumer.recv().await.expect("the consumer runs"));
    }
    pulled
}

fn offsets(deliveries: &[Delivery]) -> Vec<i64> {
    deliveries.iter().map(|d| d.offset()).collect()
}

fn p0(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

#[test]
fn what_is_committed_never_passes_a_delivery_that_is_out() {
    run(async {
        let (topic, group) = (topic(1), unique("group"));
        fill(&topic, 20, |i| format!("k{i}")).await;
        let mut consumer = member_of(&group, &topic).start().unwrap();
        let mut out = pull(&mut consumer, 20).await;
        assert_eq!(offsets(&out), (0..20).collect::<Vec<_>>(), "in offset order");
        let held = out.remove(10);
        // In any order, from other tasks, by themselves.
        let (evens, odds): (Vec<_>, Vec<_>) = out.into_iter().partition(|d| d.offset() % 2 == 0);
        odds.into_iter().rev().for_each(Delivery::finish);
        let ackers: Vec<_> = evens.into_iter().map(|d| d.split().1).collect();
        crate::support::spawn(async { ackers.into_iter().for_each(|acker| acker.finish()) }).await.unwrap();
        consumer.commit().await.unwrap();
        assert_eq!(consumer.committed(&[p0(&topic)]).await.unwrap()[0].offset, Some(10));
        // Ended with one out: it comes again, and the nine above it do not.
        let ended = consumer.close();
        drop(held);
        assert!(ended.await.unwrap().is_clean());
        let mut next = member_of(&group, &topic).start().unwrap();
        let again = pull(&mut next, 1).await;
        assert_eq!((again[0].offset(), again[0].attempt()), (10, 2));
        again.into_iter().for_each(Delivery::finish);
        next.commit().await.unwrap();
        assert_eq!(committed(&group, &topic, 0).unwrap().0, 20);
        next.close().await.unwrap();
    });
}

#[test]
fn a_delivery_dropped_unfinished_is_told_and_comes_again() {
    run(async {
        let topic = topic(1);
        fill(&topic, 3, |i| format!("k{i}")).await;
        let retry = Retry::fixed(Duration::from_millis(20));
        let mut consumer = consumer_on(&topic).with(|w| w.retry(retry)).start().unwrap();
        let mut events = consumer.worker().events();
        let mut out = pull(&mut consumer, 3).await;
        drop(out.remove(1));
        out.into_iter().for_each(Delivery::finish);
        let told = |e| if let Event::Retrying { offset, class, .. } = e { Some((offset, class)) } else { None };
        assert_eq!(event(&mut events, "a retry", told).await, (1, FailureClass::Dropped));
        let again = consumer.recv().await.unwrap();
        assert_eq!((again.offset(), again.attempt()), (1, 2));
        again.finish();
        consumer.commit().await.unwrap();
        assert_eq!(consumer.committed(&[p0(&topic)]).await.unwrap()[0].offset, Some(3));
        consumer.close().await.unwrap();
    });
}

#[test]
fn no_more_are_out_than_may_be() {
    run(async {
        let topic = topic(2);
        let records = (0..40).map(|i| record(&topic, i % 2, format!("k{i}"), ""));
        send(records).await;
        let mut consumer = consumer_on(&topic).max_unfinished(6).start().unwrap();
        let mut out = pull(&mut consumer, 6).await;
        assert!(futures_util::FutureExt::now_or_never(consumer.recv()).is_none());
        for n in 6..40 {
            out.remove(n % 5).finish();
            out.push(consumer.recv().await.unwrap());
            assert!(consumer.worker().snapshot().await.unwrap().in_work.len() <= 6);
        }
        consumer.close().await.map(drop).unwrap_or_else(|e| panic!("{e}"));
    });
}

#[test]
fn partitions_are_served_side_by_side_and_a_stream_ends_with_its_partition() {
    run(async {
        let (topic, group) = (topic(3), unique("group"));
        send((0..60).map(|i| record(&topic, i % 3, format!("k{i}"), ""))).await;
        let mut partitions = member_of(&group, &topic).max_unfinished(12).start_partitions().unwrap();
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(partitions.next().await.unwrap());
        }
        streams.sort_by_key(|s| s.topic_partition().partition);
        let idle = streams.remove(1);
        for stream in &mut streams {
            for offset in 0..20 {
                let delivery = stream.recv().await.unwrap();
                assert_eq!((delivery.offset(), delivery.topic_partition()), (offset, stream.topic_partition()));
                delivery.finish();
            }
        }
        partitions.commit().await.unwrap();
        let offset = |partition| committed(&group, &topic, partition).map(|(offset, _)| offset);
        assert_eq!((offset(0), offset(1), offset(2)), (Some(20), None, Some(20)));
        let report = partitions.close().await.unwrap();
        assert!(report.is_clean(), "what nobody pulled is not cut off: {report:?}");
        assert!(streams[0].next().await.is_none() && idle.count().await == 0);
        // Nothing of it was lost, or counts as an attempt.
        let mut next = member_of(&group, &topic).start().unwrap();
        let rest = pull(&mut next, 20).await;
        assert!(rest.iter().all(|d| d.partition() == 1 && d.attempt() == 1));
        rest.into_iter().for_each(Delivery::finish);
        next.close().await.unwrap();
    });
}

#[test]
fn marks_finish_what_was_delivered_below_them() {
    run(async {
        let topic = topic(1);
        fill(&topic, 30, |i| format!("k{i}")).await;
        let mut consumer = consumer_on(&topic).max_unfinished(20).start().unwrap();
        let out = pull(&mut consumer, 10).await;
        consumer.mark(&p0(&topic), 4).await.unwrap();
        consumer.commit().await.unwrap();
        assert_eq!(consumer.committed(&[p0(&topic)]).await.unwrap()[0].offset, Some(5));
        // What is ready and was not pulled is not marked.
        consumer.mark(&p0(&topic), 29).await.unwrap();
        consumer.commit().await.unwrap();
        assert_eq!(consumer.committed(&[p0(&topic)]).await.unwrap()[0].offset, Some(10));
        out.into_iter().for_each(Delivery::finish);
        let out = pull(&mut consumer, 20).await;
        assert_eq!(offsets(&out), (10..30).collect::<Vec<_>>());
        out.into_iter().for_each(Delivery::finish);
        consumer.close().await.unwrap();
    });
}

#[test]
fn nothing_of_before_is_pulled_after_a_seek() {
    run(async {
        let topic = topic(1);
        fill(&topic, 100, |i| format!("k{i}")).await;
        let mut consumer = consumer_on(&topic).start().unwrap();
        // Others wait to be pulled behind each of these.
        for offset in (0..100).cycle().step_by(37).take(30) {
            consumer.seek(&p0(&topic), Start::Offset(offset)).await.unwrap();
            assert_eq!(consumer.recv().await.expect("the consumer runs").offset(), offset);
        }
        consumer.close().await.unwrap();
    });
}

#[test]
fn a_seek_goes_on_elsewhere_and_late_ends_of_what_was_before_change_nothing() {
    run(async {
        let (topic, group) = (topic(1), unique("group"));
        fill(&topic, 30, |i| format!("k{i}")).await;
        let mut consumer = member_of(&group, &topic).start().unwrap();
        let handle = consumer.worker().clone();
        // Before there is a partition: it waits for one.
        consumer.seek(&p0(&topic), Start::Offset(20)).await.unwrap();
        assert!(handle.state() == WorkerState::Consuming);
        let old = pull(&mut consumer, 10).await;
        assert_eq!(offsets(&old), (20..30).collect::<Vec<_>>());
        consumer.reset(&p0(&topic), Start::Earliest).await.unwrap();
        assert_eq!(committed(&group, &topic, 0).unwrap().0, 0, "a reset is committed, below what was");
        old.into_iter().for_each(Delivery::finish);
        let new = pull(&mut consumer, 30).await;
        assert_eq!(offsets(&new), (0..30).collect::<Vec<_>>());
        consumer.commit().await.unwrap();
        assert_eq!(committed(&group, &topic, 0).unwrap().0, 0, "nothing of the new place is finished");
        new.into_iter().for_each(Delivery::finish);
        consumer.commit().await.unwrap();
        assert_eq!(committed(&group, &topic, 0).unwrap().0, 30);
        // Withdrawn by dropping it, where the partition never comes.
        let elsewhere = TopicPartition::new(topic.as_str(), 7);
        let sought = tokio::time::timeout(Duration::from_millis(50), consumer.seek(&elsewhere, Start::Offset(1)));
        assert!(sought.await.is_err());
        consumer.close().await.unwrap();
        handle.wait_for(WorkerState::Closed, PATIENCE).await;
    });
}

#[test]
fn a_paused_partition_keeps_what_is_fetched() {
    run(async {
        let topic = topic(2);
        send((0..20).map(|i| record(&topic, i % 2, format!("k{i}"), ""))).await;
        let mut consumer = consumer_on(&topic).start().unwrap();
        let handle = consumer.worker().clone();
        eventually("all to be ready", || handle.counts().attempts == 20).await;
        consumer.pause(&[p0(&topic)]).await.unwrap();
        // Carried out by the time that a later question is answered.
        assert_eq!(consumer.assigned().await.len(), 2);
        let others = pull(&mut consumer, 10).await;
        assert!(others.iter().all(|d| d.partition() == 1));
        assert!(futures_util::FutureExt::now_or_never(consumer.recv()).is_none());
        consumer.resume(&[p0(&topic)]).await.unwrap();
        let rest = pull(&mut consumer, 10).await;
        assert_eq!(offsets(&rest), (0..10).collect::<Vec<_>>());
        assert_eq!(handle.counts().fetched, 20, "nothing was fetched again");
        others.into_iter().chain(rest).for_each(Delivery::finish);
        consumer.close().await.unwrap();
    });
}

#[test]
fn offsets_kept_elsewhere_are_where_it_begins_and_the_last_hook_runs_before_the_commit() {
    run(async {
        let (topic, group) = (topic(1), unique("group"));
        fill(&topic, 10, |i| format!("k{i}")).await;
        commit(&group, &topic, 0, 2, "");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (before, mine, of) = (seen.clone(), seen.clone(), (group.clone(), topic.clone()));
        let consumer = member_of(&group, &topic).with(|w| w.commit_every(Duration::from_secs(3600)));
        let mut consumer = consumer
            .on_assigned(move |partitions| {
                before.lock().unwrap().push(format!("assigned {partitions:?}"));
                async move { Ok::<_, BoxError>(partitions.into_iter().map(|p| (p, 6)).collect()) }
            })
            .on_revoked(move |partitions| {
                let (mine, (group, topic)) = (mine.clone(), of.clone());
                async move {
                    let at = tokio::task::block_in_place(|| committed(&group, &topic, 0));
                    mine.lock().unwrap().push(format!("revoked {partitions:?}, committed {}", at.unwrap().0));
                }
            })
            .start()
            .unwrap();
        let out = pull(&mut consumer, 4).await;
        assert_eq!(offsets(&out), [6, 7, 8, 9]);
        out.into_iter().for_each(Delivery::finish);
        consumer.close().await.unwrap();
        let expected = [format!("assigned [{topic}-0]"), format!("revoked [{topic}-0], committed 2")];
        assert_eq!(*seen.lock().unwrap(), expected);
        assert_eq!(committed(&group, &topic, 0).unwrap().0, 10);
    });
}

#[test]
fn a_hook_that_cannot_say_where_to_begin_ends_the_consumer() {
    run(async {
        let topic = topic(1);
        fill(&topic, 1, |_| "k".into()).await;
        let hook = |_| async { Err::<Vec<_>, BoxError>("the store is down".into()) };
        let mut consumer = consumer_on(&topic).on_assigned(hook).start().unwrap();
        assert!(consumer.recv().await.is_none(), "nothing is delivered from a wrong place");
        let error = consumer.close().await.unwrap_err().error;
        assert_eq!(error.to_string(), format!("stopped at {topic}-0: on_assigned failed: the store is down"));
    });
}

#[test]
fn notifications_tell_what_was_claimed_released_and_is_left() {
    run(async {
        let (topic, group) = (topic(4), unique("group"));
        let first = member_of(&group, &topic).start().unwrap();
        let mut told = first.notifications();
        let Some(Notification::Assigned { claimed, current }) = told.next().await else { panic!("not assigned first") };
        let sorted = |mut partitions: Vec<TopicPartition>| {
            partitions.sort();
            partitions
        };
        let all: Vec<_> = (0..4).map(|n| TopicPartition::new(topic.as_str(), n)).collect();
        let (mut owned, mut moved) = (sorted(current), sorted(claimed));
        assert_eq!(owned, moved);
        let second = member_of(&group, &topic).start().unwrap();
        let mut other = second.notifications();
        // Whatever the group does, what is released and what is left are what there was.
        while owned.len() != 2 || moved.len() != 2 {
            match told.next().await.unwrap() {
                Notification::Revoking { partitions, current, .. } => {
                    assert_eq!(sorted(current), owned);
                    assert!(partitions.iter().all(|p| owned.contains(p)));
                }
                Notification::Revoked { released, current } => {
                    let both: Vec<_> = released.iter().chain(&current).cloned().collect();
                    assert_eq!(sorted(both), owned, "released and left are what there was");
                    (moved, owned) = (sorted(released), sorted(current));
                }
                Notification::Assigned { claimed, current } => {
                    let both: Vec<_> = claimed.into_iter().chain(owned).collect();
                    owned = sorted(current);
                    assert_eq!(sorted(both), owned);
                }
                other => panic!("{other:?}"),
            }
        }
        let theirs = loop {
            match other.next().await.unwrap() {
                Notification::Assigned { current, .. } if !current.is_empty() => break sorted(current),
                _ => {}
            }
        };
        assert_eq!(sorted(owned.iter().cloned().chain(theirs).collect()), all);
        second.close().await.unwrap();
        first.close().await.unwrap();
        let last = loop {
            match told.next().await {
                Some(Notification::Revoked { current, .. }) if current.is_empty() => break true,
                Some(_) => {}
                None => break false,
            }
        };
        assert!(last, "the end gives back what was left");
    });
}

#[test]
fn unread_notifications_and_events_never_hold_it_up() {
    run(async {
        let topic = topic(1);
        fill(&topic, 3_000, |i| format!("k{i}")).await;
        let retry = Retry::fixed(Duration::from_millis(1)).attempts(2);
        let mut consumer = consumer_on(&topic).with(|w| w.retry(retry)).start().unwrap();
        let (_unread, mut events) = (consumer.notifications(), consumer.worker().events());
        for _ in 0..6_000 {
            let delivery = consumer.recv().await.unwrap();
            if delivery.attempt() == 1 { delivery.fail("once") } else { delivery.finish() }
        }
        consumer.commit().await.unwrap();
        assert_eq!(consumer.committed(&[p0(&topic)]).await.unwrap()[0].offset, Some(3_000));
        let missed = |e| if let Event::Missed { events } = e { Some(events) } else { None };
        assert!(event(&mut events, "how many were dropped", missed).await > 0);
        consumer.close().await.unwrap();
    });
}

#[test]
fn a_consumer_that_is_dropped_commits_what_is_finished_and_leaves() {
    run(async {
        let (topic, group) = (topic(1), unique("group"));
        fill(&topic, 10, |i| format!("k{i}")).await;
        let mut consumer =
            member_of(&group, &topic).with(|w| w.commit_every(Duration::from_secs(3600))).start().unwrap();
        pull(&mut consumer, 4).await.into_iter().for_each(Delivery::finish);
        let handle = consumer.worker().clone();
        drop(consumer);
        handle.wait_for(WorkerState::Closed, PATIENCE).await;
        assert_eq!(committed(&group, &topic, 0).unwrap().0, 4);
        assert!(handle.snapshot().await.is_none());
    });
}

#[test]
fn metadata_of_the_users_own_is_committed_instead_of_the_map() {
    run(async {
        let (topic, group) = (topic(1), unique("group"));
        fill(&topic, 4, |i| format!("k{i}")).await;
        let with = || member_of(&group, &topic).metadata(CommitMetadata::Own);
        let mut consumer = with().start().unwrap();
        let mut out = pull(&mut consumer, 4).await;
        consumer.set_metadata(&p0(&topic), "batch 7").await.unwrap();
        let too_long = consumer.set_metadata(&p0(&topic), "x".repeat(5000)).await.unwrap_err();
        assert_eq!(too_long.to_string(), "metadata: has 5000 UTF-16 units, brokers take 4096");
        out.remove(3).finish();
        out.remove(0).finish();
        consumer.commit().await.unwrap();
        let found = consumer.committed(&[p0(&topic)]).await.unwrap().remove(0);
        assert_eq!((found.offset, found.metadata.as_str()), (Some(1), "batch 7"));
        let closing = consumer.close();
        drop(out);
        closing.await.unwrap();
        // Without a map, what is finished above the offset comes again; the text is no map, and nothing complains of it.
        let mut next = with().start().unwrap();
        assert_eq!(offsets(&pull(&mut next, 3).await), [1, 2, 3]);
        next.close().await.unwrap();
    });
}

#[test]
fn bodies_are_decoded_and_what_cannot_be_is_not_delivered() {
    run(async {
        let topic = topic(1);
        send(["1", "no number", "3"].map(|value| record(&topic, 0, "k", value))).await;
        let mut consumer = consumer_on(&topic).decode::<Json<u32>>().start().unwrap();
        let mut events = consumer.worker().events();
        let (first, third) = (consumer.recv().await.unwrap(), consumer.recv().await.unwrap());
        assert_eq!((*first.body, *third.body), (1, 3));
        let parked = |e| if let Event::Parked { offset, .. } = e { Some(offset) } else { None };
        assert_eq!(event(&mut events, "the one parked", parked).await, 1);
        first.finish();
        third.finish();
        consumer.close().await.unwrap();
    });
}

#[test]
fn questions_about_offsets_are_answered() {
    run(async {
        let topic = topic(1);
        fill(&topic, 10, |i| format!("k{i}")).await;
        let mut consumer = consumer_on(&topic).start().unwrap();
        let out = pull(&mut consumer, 10).await;
        let watermarks = consumer.watermarks(&p0(&topic)).await.unwrap();
        assert_eq!((watermarks.low, watermarks.high), (0, 10));
        assert_eq!(consumer.position(&p0(&topic)).await, Some(10));
        assert_eq!(consumer.position(&TopicPartition::new(topic.as_str(), 1)).await, None);
        for (n, delivery) in out.into_iter().enumerate() {
            if n == 0 || n > 6 {
                delivery.finish();
            }
        }
        consumer.commit().await.unwrap();
        let lag = consumer.lag().await.unwrap().remove(0);
        assert_eq!((lag.frontier, lag.end, lag.records), (1, 10, 6));
        consumer.close().await.unwrap();
    });
}

#[test]
fn one_thread_and_many_tasks_do_for_it() {
    let done = Arc::new(AtomicUsize::new(0));
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    crate::support::run_on(&mut runtime, async {
        let topic = topic(4);
        send((0..400).map(|i| record(&topic, i % 4, format!("k{i}"), ""))).await;
        let consumer = consumer_on(&topic).start().unwrap();
        let handle = consumer.worker().clone();
        let all = done.clone();
        let work = consumer.for_each_concurrent(32, move |delivery| {
            let (all, handle) = (all.clone(), handle.clone());
            async move {
                tokio::task::yield_now().await;
                delivery.finish();
                if all.fetch_add(1, Ordering::Relaxed) == 399 {
                    handle.close();
                }
            }
        });
        work.await;
    });
    assert_eq!(done.load(Ordering::Relaxed), 400);
}

#[test]
fn what_a_consumer_cannot_have_is_refused_before_it_starts() {
    run(async {
        let client = client();
        let refused = |consumer: ConsumerBuilder| match consumer.start() {
            Err(Error::Config(error)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        let table = [
            (
                client.consumer("g").topic("t").with(|w| w.handler_timeout(Duration::from_secs(1))),
                "handler_timeout: is for handlers: what a consumer has delivered cannot be taken back; leave it out, or use \
                 a worker",
            ),
            (client.consumer("g"), "topics: a worker needs a topic; name one with .topic(..)"),
            (
                client.consumer("g").topic("orders").exclude("^orders-test$"),
                "exclude: excludes from patterns, and there is none; leave it out",
            ),
            (
                client.consumer("g").topic("^orders").exclude("a,b"),
                "exclude: \"a,b\" has a comma, which no topic's name has; take it out",
            ),
            (
                client.consumer("g").topic("^orders").exclude("x").with(|w| w.property("group.protocol", "consumer")),
                "exclude: is not for group.protocol=consumer, in which brokers match topics' names; write a pattern that \
                 leaves them out, or use the classic protocol",
            ),
        ];
        for (consumer, expected) in table {
            assert_eq!(refused(consumer), expected);
        }
    });
}

#[test]
fn a_consumer_that_was_stopped_goes_on_where_it_was() {
    run(async {
        let (topic, group) = (topic(1), unique("group"));
        fill(&topic, 20, |i| format!("k{i}")).await;
        let mut consumer = member_of(&group, &topic).start().unwrap();
        let mut out = pull(&mut consumer, 8).await;
        let late = out.remove(5);
        out.into_iter().for_each(Delivery::finish);
        let worker = consumer.worker().clone();
        let stopping = worker.stop_and_wait(Duration::from_secs(20));
        drop(late);
        assert!(stopping.await);
        assert_eq!(committed(&group, &topic, 0).unwrap().0, 5);
        assert!(futures_util::FutureExt::now_or_never(consumer.recv()).is_none(), "what nobody pulled went back");
        worker.start();
        let rest = pull(&mut consumer, 13).await;
        let mut again = offsets(&rest);
        again.sort_unstable();
        assert_eq!(again, [5].into_iter().chain(8..20).collect::<Vec<_>>(), "what was finished does not come again");
        rest.into_iter().for_each(Delivery::finish);
        consumer.close().await.unwrap();
        assert_eq!(committed(&group, &topic, 0).unwrap().0, 20);
    });
}
