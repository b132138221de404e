//! What a worker tells of what its work waits for.

use std::time::Duration;

use waterwheel::{Failure, Message, Raw, RecordPlace, Retry, Subject, TopicPartition};

use crate::support::{boxed, eventually, record, run, send, start, topic, worker_on};

#[test]
fn a_worker_tells_which_record_holds_the_commit_and_what_waits_behind_it() {
    run(async {
        let topic = topic(2);
        let keys = ["stuck", "a", "stuck", "b", "stuck"];
        send(keys.iter().map(|key| record(&topic, 1, *key, "payload"))).await;
        let handler = |m: Message<Raw>| {
            let fails = m.key() == Some(b"stuck");
            async move { if fails { Err(Failure::retry("payload")) } else { Ok(()) } }
        };
        let retry = Retry::fixed(Duration::from_secs(3600)).forever();
        let worker = worker_on(&topic).retry(retry).check_every(Duration::from_millis(20));
        let running = start(worker.handler(boxed(handler)).build().unwrap());
        let handle = &running.handle;
        eventually("the others", || handle.counts().succeeded == 2).await;
        let p1 = TopicPartition::new(topic.as_str(), 1);
        // Until the last commit is answered and the log's end is known.
        let told = loop {
            let told = handle.explain(Subject::Partition(p1.clone())).await.unwrap();
            let p = &told.partitions[0];
            if p.end.is_some() && p.committed.is_some_and(|last| last.metadata > 0) {
                break told;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let p = &told.partitions[0];
        assert_eq!((p.frontier, p.finished_above, p.end, p.lag()), (0, 2, Some(5), Some(3)));
        assert_eq!((p.waiting, p.set_aside, p.running, p.held), (2, 1, 0, None));
        let committed = p.committed.unwrap();
        assert_eq!((committed.offset, committed.room, committed.is_cut), (0, 4096, false));
        let head = &p.head.as_ref().unwrap().record;
        assert_eq!((head.offset, head.attempts), (0, 1));
        assert!(matches!(head.place, RecordPlace::Backoff(left) if left > Duration::from_secs(3000)), "{head:?}");
        assert!(head.timestamp_ms.is_some() && head.first_failed_ms.is_some());

        let one = handle.explain(Subject::Offset(p1.clone(), 4)).await.unwrap();
        let place = one.partitions[0].record.as_ref().unwrap().place;
        assert_eq!(place, RecordPlace::Queued { behind: 2, head: Some(0) });
        let key = |key: &str| Subject::Key { topic: topic.clone(), partition: None, key: key.into() };
        let told = handle.explain(key("stuck")).await.unwrap();
        assert_eq!(told.partitions.len(), 2, "the key may be in any of them");
        let found = told.partitions[1].key.as_ref().unwrap();
        assert_eq!((found.in_work.len(), found.queued, &*found.first), (1, 2, &[2, 4][..]));
        for text in [told.to_string(), serde_json::to_string(&told).unwrap(), format!("{told:?} {:?}", key("stuck"))] {
            assert!(!text.contains("stuck") && !text.contains("payload"), "{text}");
        }
        let elsewhere = handle.explain(Subject::Topic("elsewhere".to_owned())).await.unwrap();
        assert!(elsewhere.partitions.is_empty() && elsewhere.to_string().contains("has nothing of it"));
        let heads: Vec<_> = handle.snapshot().await.unwrap().partitions.iter().map(|p| p.head.is_some()).collect();
        assert_eq!(heads, [false, true]);
        let handle = running.handle.clone();
        running.stop().await;
        assert!(handle.explain(Subject::Topic(topic.clone())).await.is_none(), "nobody is there to tell");
    });
}
