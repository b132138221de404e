//! Later records of a key that follow a dead letter of it.

use waterwheel::{
    AfterDeadLetter, Client, DeadLetter, DeadLetterOrigin, Failure, FailureClass, Message, Order, Raw, TopicPartition,
    WorkerBuilder,
};
use waterwheel_test::Cluster;

use crate::support::{eventually, member, run, start};

fn following(client: &Client) -> WorkerBuilder {
    member(client).dead_letter(DeadLetter::topic("failed")).after_dead_letter(AfterDeadLetter::Follow)
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

/// What is followed is known to the member alone that saw the dead letter, as the documentation says.
#[test]
fn a_key_that_follows_goes_on_after_a_restart() {
    run(async {
        let cluster = Cluster::new().topic("t", 1).topic("failed", 1);
        for _ in 0..3 {
            cluster.produce("t", "a", "v").await;
        }
        let first = start(following(&cluster.client()).handler(picky).build().unwrap());
        cluster.assert_dead_lettered("failed", 2).await;
        cluster.assert_finished("g", "t").await;
        first.stop().await;
        cluster.produce("t", "a", "v").await;
        let second = start(following(&cluster.client()).handler(picky).build().unwrap());
        cluster.assert_finished("g", "t").await;
        let counts = second.stop().await.counts;
        assert_eq!((counts.succeeded, counts.followed), (1, 0));
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
