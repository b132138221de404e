//! Static members: two of one name.

use std::time::Duration;

use crate::support::{Entry, Kafka, PATIENCE, Protocol, Trial, wait_until};

/// The exit code of a worker whose place another one has.
const REFUSED: i32 = 8;

/// How long the loser may take to end.
const SOON: Duration = Duration::from_secs(5);

/// A second member takes the name of the first. The coordinator keeps one of them: in a classic group the newer, in the
/// consumer protocol the older. The other one ends, and commits nothing from then on.
fn two_of_one_name(name: &'static str, protocol: Protocol) {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, name, 4);
    trial.produce(20_000, 1_000);
    let properties = [&protocol.properties()[..], &[("group.instance.id", "the-one")]].concat();
    let load = ["--concurrency", "16", "--work-us", "5000"];
    let older = trial.member(&properties, &load);
    trial.await_starts(older.number, 1_000);
    let newer = trial.member(&properties, &load);
    let (winner, mut loser) = match protocol {
        Protocol::Consumer => (older, newer),
        Protocol::Eager | Protocol::Cooperative => {
            wait_until(PATIENCE, "the newer member to join", || !trial.journal(newer.number).held.is_empty());
            (newer, older)
        }
    };
    let status = loser.process.wait(SOON);
    assert_eq!(status.code(), Some(REFUSED), "the loser said:\n{}", loser.process.stderr());
    assert!(!trial.is_done(), "void: everything was finished before the loser ended");
    trial.injected(1);
    let said = loser.process.stderr();
    assert!(said.contains(if protocol == Protocol::Consumer { "(code 111)" } else { "(code 82)" }), "{said}");
    let last = trial.journal(loser.number).ended_since_commit(4);
    let entries = &trial.journal(loser.number).entries;
    match protocol {
        Protocol::Consumer => assert!(entries.is_empty(), "the newer one did something: {entries:?}"),
        Protocol::Eager | Protocol::Cooperative => {
            let gone = entries.iter().rposition(|entry| matches!(entry, Entry::Lost(_))).expect("they were lost");
            let after = entries[gone..].iter().any(|entry| matches!(entry, Entry::Commit(..) | Entry::Start(..)));
            assert!(!after, "the older one went on");
        }
    }
    trial.await_done(PATIENCE);
    trial.end(winner);
    trial.figure("loser_exit", REFUSED);
    trial.assert_all_committed();
    trial.judge(if protocol == Protocol::Consumer { 0 } else { (16 + last) as u64 });
}

#[test]
fn of_two_static_members_of_one_name_the_older_ends_in_a_classic_group() {
    two_of_one_name("static-twice-cooperative", Protocol::Cooperative);
}

#[test]
fn of_two_static_members_of_one_name_the_newer_ends_in_the_consumer_protocol() {
    two_of_one_name("static-twice-consumer", Protocol::Consumer);
}
