//! Later records of a key that follow a dead letter of it.

use waterwheel::{
    AfterDeadLetter, Client, DeadLetter, DeadLetterOrigin, Event, ExactlyOnce, Failure, FailureClass, Message,
    OnMapFull, Order, ProducerRecord, Raw, TopicPartition, WorkerBuilder,
};
use waterwheel_test::Cluster;

use crate::support::{assert_exactly_once, eventually, fill, member, output, run, start, start_transform};

fn following(client: &Client) -> WorkerBuilder {
    member(client).dead_letter(DeadLetter::topic("failed")).after_dead_letter(AfterDeadLetter::Follow)
}

/// Makes an output of each record, and gives up the one at offset 1.
fn picky_output(message: &Message<Raw>) -> Result<ProducerRecord, Failure> {
    if message.offset() == 1 { Err(Failure::dead_letter("no")) } else { Ok(output(message)) }
}

/// Gives up the record at offset 1.
async fn picky(message: Message<Raw>) -> Result<(), Failure> {
    if message.offset() == 1 { Err(Failure::dead_letter("no")) } else { Ok(()) }
}

#[test]
fn a_key_follows_its_dead_letter_in_order_until_it_is_released() {
    run(async {
        let cluster = Cluster::new().topic("t", 1).topic("failed", 1);
        for key in ["a", "b", "a", "b", "a", "b", "b"] {
            cluster.produce("t", key, "v").await;
        }
        let worker = start(following(&cluster.client()).handler(picky).build().unwrap());
        let letters = cluster.assert_dead_lettered("failed", 4).await;
        let origins: Vec<_> = letters.iter().map(|letter| DeadLetterOrigin::of(letter).unwrap().unwrap()).collect();
        let told: Vec<_> = origins.iter().map(|o| (o.offset, o.error_class, o.attempts, o.follows_offset)).collect();
        let behind = |offset| (offset, FailureClass::Followed, 0, Some(1));
        assert_eq!(told, [(1, FailureClass::Handler, 1, None), behind(3), behind(5), behind(6)]);
        cluster.assert_finished("g", "t").await;
        let t0 = TopicPartition::new("t", 0);
        assert_eq!(worker.handle.snapshot().await.unwrap().followed, [(t0.clone(), 1)]);

        assert!(!worker.handle.release_key(&t0, Some(b"a")).await);
        assert!(!worker.handle.release_key(&TopicPartition::new("t", 9), Some(b"b")).await);
        assert!(worker.handle.release_key(&t0, Some(b"b")).await);
        assert!(worker.handle.snapshot().await.unwrap().followed.is_empty());
        cluster.produce("t", "b", "v").await;
        cluster.assert_finished("g", "t").await;
        eventually("the key to go on", || worker.handle.counts().succeeded == 4).await;
        let counts = worker.stop().await.counts;
        assert_eq!((counts.attempts, counts.followed, counts.dead_lettered), (5, 3, 4));
    });
}

/// One member dies, the next one leaves in order, and the third one is told that the key may go on: it does so at the fourth.
#[test]
fn a_key_goes_on_following_its_dead_letter_whoever_has_the_partition() {
    run(async {
        let cluster = Cluster::new().topic("t", 1).topic("failed", 1);
        let produce = async |keys: &[&str]| {
            for key in keys {
                cluster.produce("t", key, "v").await;
            }
        };
        produce(&["b", "a", "a"]).await;
        let host = cluster.host();
        let first = start(following(&host.client()).handler(picky).build().unwrap());
        cluster.assert_dead_lettered("failed", 2).await;
        cluster.assert_finished("g", "t").await;
        produce(&["a", "b"]).await;
        first.kill(host).await;

        let second = start(following(&cluster.client()).handler(picky).build().unwrap());
        cluster.assert_finished("g", "t").await;
        let counts = second.stop().await.counts;
        assert!(counts.followed >= 1 && counts.attempts == counts.succeeded, "{counts:?}");

        produce(&["a", "a"]).await;
        let third = start(following(&cluster.client()).handler(picky).build().unwrap());
        cluster.assert_finished("g", "t").await;
        let t0 = TopicPartition::new("t", 0);
        assert_eq!(third.handle.snapshot().await.unwrap().followed, [(t0.clone(), 1)]);
        assert!(third.handle.release_key(&t0, Some(b"a")).await);
        let counts = third.stop().await.counts;
        assert_eq!((counts.attempts, counts.followed), (0, 2));

        produce(&["a"]).await;
        let fourth = start(following(&cluster.client()).handler(picky).build().unwrap());
        cluster.assert_finished("g", "t").await;
        let counts = fourth.stop().await.counts;
        assert_eq!((counts.succeeded, counts.followed), (1, 0));

        let letters = cluster.records("failed");
        let mut offsets: Vec<_> = letters.iter().map(|l| DeadLetterOrigin::of(l).unwrap().unwrap().offset).collect();
        // Those of the first member, which died, may be there twice.
        offsets.dedup();
        assert_eq!(offsets, [1, 2, 3, 5, 6]);
    });
}

/// The offsets, and what is said with them, go with the transactions, and so do the letters.
#[test]
fn a_key_goes_on_following_in_workers_that_work_exactly_once() {
    run(async {
        let cluster = Cluster::new().topic("t", 1).topic("failed", 1).topic("out", 3);
        let transform = async |message: Message<Raw>| picky_output(&message);
        let worker = || {
            let exact = cluster.client().worker("g").topic("t").shards(2).exactly_once(ExactlyOnce::new());
            let exact = exact.dead_letter(DeadLetter::topic("failed")).after_dead_letter(AfterDeadLetter::Follow);
            start_transform(exact.transform(transform).build().unwrap())
        };
        for round in 0..3 {
            for key in ["b", "a", "a"] {
                cluster.produce("t", key, "v").await;
            }
            let running = worker();
            cluster.assert_finished("g", "t").await;
            let counts = running.stop().await.counts;
            assert_eq!(counts.followed, if round == 0 { 1 } else { 2 }, "in round {round}");
        }
        let letters = [1, 2, 4, 5, 7, 8].map(|offset| (0, offset));
        assert_exactly_once(&cluster, &letters, "followed");
    });
}

/// More keys are followed than a commit has room for: it is told, and a partition is not held for it.
#[test]
fn keys_that_a_commit_has_no_room_for_are_told() {
    run(async {
        let cluster = Cluster::new().topic("t", 1).topic("failed", 1);
        fill(&cluster, 1_000).await;
        let handler = async |_: Message<Raw>| Err::<(), _>(Failure::dead_letter("no"));
        let builder = following(&cluster.client()).on_map_full(OnMapFull::Hold);
        let worker = start(builder.handler(handler).build().unwrap());
        cluster.assert_dead_lettered("failed", 1_000).await;
        cluster.assert_finished("g", "t").await;
        assert_eq!(worker.handle.snapshot().await.unwrap().followed.len(), 1_000);
        let mut events = worker.handle.events();
        cluster.produce("t", "k0", "v").await;
        let unfollowed = loop {
            if let Event::MapCut { unfollowed, .. } = events.next().await.unwrap() {
                break unfollowed;
            }
        };
        assert!((100..200).contains(&unfollowed), "{unfollowed}");
        worker.stop().await;
        fill(&cluster, 1_000).await;
        let next = start(following(&cluster.client()).handler(handler).build().unwrap());
        cluster.assert_finished("g", "t").await;
        let counts = next.stop().await.counts;
        assert_eq!(counts.attempts + counts.followed, 1_000);
        assert!((800..900).contains(&counts.followed), "{counts:?}");
    });
}

#[test]
fn by_default_a_key_goes_on_behind_its_dead_letter() {
    run(async {
        let cluster = Cluster::new().topic("t", 1).topic("failed", 1);
        for _ in 0..4 {
            cluster.produce("t", "a", "v").await;
        }
        let builder = following(&cluster.client()).after_dead_letter(AfterDeadLetter::Continue);
        let worker = start(builder.handler(picky).build().unwrap());
        cluster.assert_finished("g", "t").await;
        let counts = worker.stop().await.counts;
        assert_eq!((counts.succeeded, counts.dead_lettered, counts.followed), (3, 1, 0));
    });
}

#[test]
fn follow_needs_a_dead_letter_topic_and_an_order() {
    let client = Cluster::new().client();
    let refused = |builder: WorkerBuilder| builder.handler(picky).build().err().map(|error| error.to_string());
    let without = member(&client).after_dead_letter(AfterDeadLetter::Follow);
    assert!(refused(without).is_some_and(|error| error.contains("no dead-letter topic")));
    assert!(refused(following(&client).order(Order::None)).is_some_and(|error| error.contains("no order")));
}
