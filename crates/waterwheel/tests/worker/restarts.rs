//! What a group's next worker finds: the committed offset, and what is finished above it (decision 6).

use std::time::Duration;

use waterwheel::{Event, Message, Raw};

use crate::support::{
    Diary, Gate, boxed, commit, committed, event, eventually, fill, member_of, run, start, topic, unique, worker_on,
};

/// Ends at once, except for the records in `stuck`.
fn stuck_at(diary: &Diary, gate: &Gate, stuck: &'static [i64]) -> impl waterwheel::Handler<Raw> + use<> {
    let (diary, gate) = (diary.clone(), gate.clone());
    move |m: Message<Raw>| {
        let (attempt, gate) = (diary.begin(&m), gate.clone());
        async move {
            if stuck.contains(&m.offset()) {
                gate.pass().await;
            }
            attempt.done();
            anyhow::Ok(())
        }
    }
}

#[test]
fn what_finished_above_a_stuck_record_does_not_run_again_after_a_stop() {
    run(async {
        let (topic, group) = (topic(1), unique("group"));
        fill(&topic, 1_000, |i| format!("k{i}")).await;
        let (first, never) = (Diary::default(), Gate::closed());
        let worker = member_of(&group, &topic).drain_timeout(Duration::from_millis(50));
        let running = start(worker.handler(boxed(stuck_at(&first, &never, &[7, 300]))).build().unwrap());
        eventually("all others", || first.count() == 998).await;
        assert_eq!(running.stop().await.counts.cut_off, 2);
        assert_eq!(committed(&group, &topic, 0).map(|(offset, _)| offset), Some(7));

        fill(&topic, 5, |i| format!("k{i}")).await;
        let (second, open) = (Diary::default(), Gate::closed());
        open.open();
        let running = start(member_of(&group, &topic).handler(boxed(stuck_at(&second, &open, &[]))).build().unwrap());
        eventually("the stuck ones and the new ones", || second.count() == 7).await;
        running.stop().await;
        let mut offsets = second.offsets();
        offsets.sort_unstable();
        assert_eq!(offsets, [7, 300, 1000, 1001, 1002, 1003, 1004]);
        assert_eq!(committed(&group, &topic, 0).map(|(offset, _)| offset), Some(1005));
    });
}

#[test]
fn what_finished_above_a_stuck_record_does_not_run_again_after_a_crash() {
    run(async {
        let (topic, group) = (topic(1), unique("group"));
        fill(&topic, 200, |i| format!("k{i}")).await;
        let (first, never) = (Diary::default(), Gate::closed());
        let worker = || worker_on(&topic).group(&group).property("session.timeout.ms", "6000");
        let running = start(worker().handler(boxed(stuck_at(&first, &never, &[0]))).build().unwrap());
        eventually("all others", || first.count() == 199).await;
        let commits = running.handle.counts().commits;
        eventually("a commit that tells it", || {
            running.handle.counts().commits > commits + 1 || {
                committed(&group, &topic, 0).is_some_and(|(_, map)| !map.is_empty())
            }
        })
        .await;
        // One more commit, so that the last of them is in it.
        let told = || committed(&group, &topic, 0);
        let mut before = told();
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let now = told();
            if now == before {
                break;
            }
            before = now;
        }
        running.kill().await;

        let (second, open) = (Diary::default(), Gate::closed());
        open.open();
        let running = start(worker().handler(boxed(stuck_at(&second, &open, &[]))).build().unwrap());
        eventually("the stuck one", || second.count() == 1).await;
        assert_eq!(running.stop().await.counts.succeeded, 1);
        assert_eq!(second.offsets(), [0]);
    });
}

#[test]
fn metadata_that_another_tool_wrote_is_tolerated_and_told() {
    run(async {
        for foreign in ["", "NO_METADATA", "ww1", "日本\u{10FFFF}"] {
            let (topic, group) = (topic(1), unique("group"));
            fill(&topic, 6, |i| format!("k{i}")).await;
            commit(&group, &topic, 0, 2, foreign);
            let (diary, open) = (Diary::default(), Gate::closed());
            let worker = worker_on(&topic).group(&group).handler(boxed(stuck_at(&diary, &open, &[]))).build().unwrap();
            let mut events = worker.handle().events();
            let running = start(worker);
            if !foreign.is_empty() {
                let refused =
                    |e| if let Event::MapRefused { partition, reason } = e { Some((partition, reason)) } else { None };
                let (partition, reason) = event(&mut events, "map refused", refused).await;
                assert_eq!(partition.to_string(), format!("{topic}-0"));
                assert!(!reason.contains(foreign), "{reason}");
            }
            eventually("the rest", || diary.count() == 4).await;
            running.stop().await;
            assert_eq!(diary.begun().iter().map(|s| s.offset).min(), Some(2));
            assert_eq!(committed(&group, &topic, 0).map(|(offset, _)| offset), Some(6));
        }
    });
}

#[test]
fn a_committed_offset_that_is_gone_is_a_gap_and_work_goes_on_at_what_there_is() {
    run(async {
        let (topic, group) = (topic(1), unique("group"));
        fill(&topic, 3, |i| format!("k{i}")).await;
        // Beyond the end: as after a topic was cut off, and the same answer of the broker as below its start.
        commit(&group, &topic, 0, 50, "");
        let (diary, open) = (Diary::default(), Gate::closed());
        let worker = worker_on(&topic).group(&group).handler(boxed(stuck_at(&diary, &open, &[]))).build().unwrap();
        let mut events = worker.handle().events();
        let running = start(worker);
        let gap = |e| if let Event::Gap { from, to, .. } = e { Some((from, to)) } else { None };
        assert_eq!(event(&mut events, "gap", gap).await, (Some(50), 0));
        eventually("all", || diary.count() == 3).await;
        running.stop().await;
    });
}

#[test]
fn a_gap_stops_the_worker_if_it_is_told_so() {
    run(async {
        let (topic, group) = (topic(1), unique("group"));
        fill(&topic, 3, |i| format!("k{i}")).await;
        commit(&group, &topic, 0, 50, "");
        let (diary, open) = (Diary::default(), Gate::closed());
        let worker = worker_on(&topic).group(&group).on_gap(waterwheel::OnGap::Stop);
        let running = start(worker.handler(boxed(stuck_at(&diary, &open, &[]))).build().unwrap());
        let error = running.ended().await.unwrap_err().to_string();
        assert!(error.contains(&format!("{topic}-0@50")), "{error}");
        assert_eq!(diary.count(), 0);
    });
}
