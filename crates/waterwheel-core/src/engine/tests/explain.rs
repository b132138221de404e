//! What is told of records, keys and of what holds the commit.

use super::super::{Explained, Place, Subject};
use super::*;

impl Rig {
    fn explain(&mut self, subject: Subject<'_>) -> Explained<SimBatch> {
        self.engine.see_heads(self.now);
        self.engine.explain(P0, subject, self.now).unwrap()
    }

    fn place(&mut self, offset: i64) -> Place {
        self.explain(Subject::Offset(offset)).record.unwrap().place
    }
}

#[test]
fn each_record_is_told_to_be_where_it_is() {
    let mut rig = Rig::on_p0(Settings { concurrency: 2, ..settings() });
    rig.fetch("0a 1b 2a 3c 5d");
    let started = rig.start_all();
    assert_eq!(offsets(&started), [0, 1]);
    rig.pass(ms(3));
    assert_eq!(rig.place(0), Place::Running(ms(3)));
    assert_eq!(rig.place(2), Place::Queued { behind: 1, head: Some(0) });
    assert_eq!((rig.place(3), rig.place(5)), (Place::Fetched, Place::Fetched), "no credit for it");
    assert_eq!((rig.place(4), rig.place(6)), (Place::Absent, Place::Unfetched));
    rig.end(started[1].1, Outcome::Ok);
    assert_eq!(rig.place(1), Place::Finished);
    rig.end(started[0].1, FAILED);
    rig.pass(ms(4));
    assert_eq!(rig.place(0), Place::Backoff(ms(6)));
    let told = rig.explain(Subject::Offset(0)).record.unwrap();
    assert_eq!((told.attempts, told.first_failed_ms), (1, Some(3)));
    rig.pass(ms(6));
    assert_eq!(rig.place(0), Place::Due);
    assert_eq!(rig.explain(Subject::Partition).fetched_to, 6);
    assert!(rig.engine.explain(P1, Subject::Partition, rig.now).is_none());
}

#[test]
fn a_dead_letter_is_told_to_be_settling_and_resent() {
    let mut rig = Rig::on_p0(Settings { exhausted: Exhausted::DeadLetter, dead_letter: true, ..settings() });
    rig.fetch("0a");
    let slot = rig.start();
    assert_eq!(rig.end(slot, Outcome::Failed(Wish::DeadLetter)), Verdict::DeadLetter { slot });
    assert_eq!(rig.place(0), Place::Settling);
    rig.engine.settled(slot, false, rig.now);
    assert_eq!(rig.place(0), Place::Resending);
    let head = rig.explain(Subject::Partition).head.unwrap().record;
    assert_eq!((head.offset, head.place), (0, Place::Resending));
}

#[test]
fn a_key_tells_its_queue_and_what_of_it_is_kept_as_offsets() {
    let mut rig = Rig::on_p0(Settings { waiting: 4, concurrency: 1, ..settings() });
    rig.fetch("0a 1a 2a 3a 4a 5a 6b");
    let slot = rig.start();
    let key = rig.explain(Subject::Key(b"a")).key.unwrap();
    assert_eq!((key.queued + key.kept, key.first), (5, vec![1, 2, 3, 4, 5]));
    assert!(key.kept > 0, "a key holds a part of what may wait");
    assert_eq!(key.in_work.iter().map(|r| r.offset).collect::<Vec<_>>(), [0]);
    assert_eq!(rig.place(5), Place::Kept { behind: 5, head: Some(0) });
    assert!(rig.explain(Subject::Key(b"z")).key.is_none());
    rig.end(slot, Outcome::Ok);
    assert!(rig.explain(Subject::Key(b"b")).key.is_none(), "it was not taken up yet, and is nobody's queue");
}

#[test]
fn the_head_is_held_since_it_became_the_lowest_unfinished() {
    let mut rig = Rig::on_p0(settings());
    assert!(rig.explain(Subject::Partition).head.is_none(), "nothing was fetched");
    rig.pass(ms(1000));
    rig.fetch("0a 1b");
    let started = rig.start_all();
    let head = |rig: &mut Rig| rig.explain(Subject::Partition).head.map(|head| (head.record.offset, head.age));
    assert_eq!(head(&mut rig), Some((0, ms(0))), "not since the partition stood still for want of records");
    rig.pass(ms(7));
    assert_eq!(head(&mut rig), Some((0, ms(7))));
    rig.end(started[0].1, Outcome::Ok);
    assert_eq!(head(&mut rig), Some((1, ms(0))));
    rig.end(started[1].1, Outcome::Ok);
    assert_eq!(head(&mut rig), None);
    rig.engine.pause();
    rig.fetch("9a");
    rig.pass(ms(5));
    let told = rig.explain(Subject::Partition).head.unwrap().record;
    assert_eq!((told.offset, told.place), (9, Place::Fetched), "what was fetched holds it too");
    assert_eq!(told.record.unwrap().0.offset(0), 9);
}
