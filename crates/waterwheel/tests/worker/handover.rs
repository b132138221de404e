//! Two workers of one group in one process: nothing twice, and what stays goes on (decisions 1 and 7).
//!
//! With `group.protocol=consumer`: of the embedded cluster's groups, only those take commits during a hand-over.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use waterwheel::{Event, KafkaError, Message, Raw, TopicPartition, Witness, WorkerState};

use crate::support::{
    Diary, Gate, PATIENCE, boxed, event, eventually, member_of, record, run, send, start, topic, unique,
};

const PARTITIONS: i32 = 6;

/// Records with the value `slow` wait for the gate.
fn handler(diary: &Diary, gate: &Gate) -> impl waterwheel::Handler<Raw> + use<> {
    let (diary, gate) = (diary.clone(), gate.clone());
    move |m: Message<Raw>| {
        let (attempt, gate) = (diary.begin(&m), gate.clone());
        async move {
            if m.value() == Some(b"slow") {
                gate.pass().await;
            }
            tokio::task::yield_now().await;
            attempt.done();
            anyhow::Ok(())
        }
    }
}

#[test]
fn partitions_that_stay_go_on_while_others_drain_and_nothing_runs_twice() {
    run(async {
        let (topic, group) = (topic(PARTITIONS as usize), unique("group"));
        let (first, second, gate) = (Diary::default(), Diary::default(), Gate::closed());
        send((0..PARTITIONS).map(|p| record(&topic, p, format!("slow{p}"), "slow"))).await;
        let one = member_of(&group, &topic).handler(boxed(handler(&first, &gate))).build().unwrap();
        let mut events = one.handle().events();
        let one = start(one);
        eventually("a slow record in each partition", || first.running() == PARTITIONS as usize).await;

        let two = start(member_of(&group, &topic).handler(boxed(handler(&second, &gate))).build().unwrap());
        let revoking = |e| if let Event::Revoking { partitions, .. } = e { Some(partitions) } else { None };
        let going: BTreeSet<i32> = event(&mut events, "revoking", revoking).await.iter().map(|p| p.partition).collect();
        let staying: Vec<i32> = (0..PARTITIONS).filter(|p| !going.contains(p)).collect();
        assert!(!going.is_empty() && !staying.is_empty(), "{going:?} go");

        // The revocation waits for its slow records. All the while the others are worked on.
        send(
            (0..PARTITIONS)
                .flat_map(|p| (0..20).map(move |i| (p, i)))
                .map(|(p, i)| record(&topic, p, format!("k{i}"), "quick")),
        )
        .await;
        eventually("the staying partitions' records", || first.count() == 20 * staying.len()).await;
        assert!(first.done().iter().all(|s| staying.contains(&s.partition)));
        assert_eq!(second.begun(), []);

        gate.open();
        eventually("the others' records", || first.count() + second.count() == 21 * PARTITIONS as usize).await;
        assert_eq!(second.count(), 20 * going.len());
        assert!(second.done().iter().all(|s| going.contains(&s.partition)));
        let (one, two) = (one.stop().await, two.stop().await);
        assert_eq!((one.counts.attempts + two.counts.attempts) as i32, 21 * PARTITIONS);
        assert!(one.is_clean() && two.is_clean());
    });
}

#[test]
fn members_that_come_and_go_under_load_handle_no_record_twice() {
    run(async {
        let (topic, group) = (topic(PARTITIONS as usize), unique("group"));
        let (diary, open) = (Diary::default(), Gate::closed());
        let one = start(member_of(&group, &topic).handler(boxed(handler(&diary, &open))).build().unwrap());
        let mut sent = 0;
        for _ in 0..3 {
            let other = start(member_of(&group, &topic).handler(boxed(handler(&diary, &open))).build().unwrap());
            for _ in 0..4 {
                send((0..120).map(|i| record(&topic, i % PARTITIONS, format!("k{}", i % 50), "quick"))).await;
                sent += 120;
            }
            eventually("the other one to work", || other.handle.counts().succeeded > 0).await;
            assert!(other.stop().await.is_clean());
        }
        eventually("all", || diary.count() >= sent).await;
        one.stop().await;
        let handled: BTreeSet<_> = diary.done().into_iter().map(|s| (s.partition, s.offset)).collect();
        assert_eq!((handled.len(), diary.begun().len()), (sent, sent));
    });
}

/// What a witness was told, by partition.
#[derive(Default)]
struct Log(Mutex<Vec<(i32, String)>>);

impl Log {
    fn add<'a>(&self, partitions: impl IntoIterator<Item = &'a TopicPartition>, what: &str) {
        self.0.lock().unwrap().extend(partitions.into_iter().map(|p| (p.partition, what.to_owned())));
    }

    fn of(&self, partition: i32) -> Vec<String> {
        let log = self.0.lock().unwrap();
        log.iter().filter(|(p, _)| *p == partition).map(|(_, what)| what.clone()).collect()
    }
}

impl Witness for Log {
    fn given(&self, partitions: &[TopicPartition]) {
        self.add(partitions, "given");
    }

    fn assigned(&self, partition: &TopicPartition, _: u64, start: i64) {
        self.add([partition], &format!("assigned {start}"));
    }

    fn committing(&self, partition: &TopicPartition, offset: i64) {
        self.add([partition], &format!("committing {offset}"));
    }

    fn committed(&self, partition: &TopicPartition, offset: i64, answer: Result<(), &KafkaError>) {
        self.add([partition], &format!("committed {offset} {}", answer.is_ok()));
    }

    fn revoked(&self, partition: &TopicPartition, _: u64) {
        self.add([partition], "revoked");
    }

    fn taken(&self, partitions: &[TopicPartition]) {
        self.add(partitions, "taken");
    }
}

#[test]
fn a_witness_is_told_the_groups_doings_around_those_of_each_partition() {
    run(async {
        let (topic, group) = (topic(PARTITIONS as usize), unique("group"));
        let (diary, open, log) = (Diary::default(), Gate::closed(), Arc::new(Log::default()));
        send((0..PARTITIONS).map(|p| record(&topic, p, "k", "quick"))).await;
        let handler = boxed(handler(&diary, &open));
        let one = start(member_of(&group, &topic).witness(log.clone()).handler(handler).build().unwrap());
        let committed = "committed 1 true".to_owned();
        let all = |what: &String| (0..PARTITIONS).filter(|p| log.of(*p).contains(what)).count();
        eventually("all to be committed", || all(&committed) == PARTITIONS as usize).await;
        let other = Diary::default();
        let two = start(member_of(&group, &topic).handler(boxed(self::handler(&other, &open))).build().unwrap());
        let taken = "taken".to_owned();
        eventually("some to be handed over", || all(&taken) > 0).await;
        let first = all(&taken);
        assert!(first < PARTITIONS as usize, "the others stay");
        one.stop().await;
        two.stop().await;
        for partition in 0..PARTITIONS {
            let mut told = log.of(partition);
            // At the end what is committed may be said again.
            told.dedup_by(|a, b| a == b || a == "committing 1" && b == "committed 1 true");
            told.dedup();
            let expected = ["given", "assigned 0", "committing 1", "committed 1 true", "revoked", "taken"];
            assert_eq!(told, expected, "partition {partition}");
        }
    });
}

#[test]
fn a_member_that_gets_no_partition_is_told_that_it_has_joined() {
    run(async {
        let (topic, group) = (topic(1), unique("group"));
        let (diary, open) = (Diary::default(), Gate::closed());
        let member = || start(member_of(&group, &topic).handler(boxed(handler(&diary, &open))).build().unwrap());
        let (one, two) = (member(), member());
        for member in [&one, &two] {
            eventually("the group to be joined", || member.handle.counts().assignments > 0).await;
            member.handle.wait_for(WorkerState::Consuming, PATIENCE).await;
        }
        one.stop().await;
        two.stop().await;
    });
}
