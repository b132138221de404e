use super::*;

const TIMEOUT: Duration = Duration::from_secs(30);

fn s(seconds: u64) -> Now {
    Duration::from_secs(seconds)
}

fn ms(millis: u64) -> Now {
    Duration::from_millis(millis)
}

/// A roster whose processes have been started and are ready.
fn ready(processes: usize, concurrency: usize) -> Roster {
    let mut roster = Roster::new(processes, TIMEOUT);
    roster.tick(s(0));
    assert_eq!(orders(&mut roster), (0..processes).map(|seat| Order::Start { seat }).collect::<Vec<_>>());
    (0..processes).for_each(|seat| roster.ready(seat, concurrency, s(0)).unwrap());
    roster
}

fn orders(roster: &mut Roster) -> Vec<Order> {
    std::iter::from_fn(|| roster.poll_order()).collect()
}

fn submit(roster: &mut Roster, offset: i64, now: Now) -> Ticket {
    roster.submit(("t".into(), 0, offset), format!("0-{offset}"), format!("{offset}").into_bytes(), now)
}

fn sent(seat: usize, offset: i64) -> Order {
    Order::Send { seat, line: format!("{offset}").into_bytes() }
}

fn tell(ticket: Ticket, fate: Fate) -> Order {
    Order::Tell { ticket, fate }
}

#[test]
fn the_process_with_least_to_do_gets_the_record_and_none_gets_more_than_it_takes() {
    let mut roster = ready(2, 2);
    let tickets: Vec<Ticket> = (0..5).map(|offset| submit(&mut roster, offset, s(1))).collect();
    assert_eq!(orders(&mut roster), [sent(0, 0), sent(1, 1), sent(0, 2), sent(1, 3)]);
    assert_eq!(roster.readiness(), (2, 2, 1));
    roster.answered(1, "0-3", Answer::Ok, s(2)).unwrap();
    assert_eq!(orders(&mut roster), [tell(tickets[3], Fate::Answered(Answer::Ok)), sent(1, 4)]);
}

#[test]
fn nothing_is_sent_before_a_process_is_ready() {
    let mut roster = Roster::new(1, TIMEOUT);
    submit(&mut roster, 1, s(0));
    roster.tick(s(0));
    assert_eq!(orders(&mut roster), [Order::Start { seat: 0 }]);
    assert!(roster.answered(0, "0-1", Answer::Ok, s(0)).is_err());
    roster.ready(0, 1, s(1)).unwrap();
    assert_eq!(orders(&mut roster), [sent(0, 1)]);
    assert!(roster.ready(0, 1, s(1)).is_err());
}

#[test]
fn an_unknown_id_and_a_second_answer_are_faults() {
    let mut roster = ready(1, 2);
    submit(&mut roster, 1, s(0));
    assert!(roster.answered(0, "0-9", Answer::Ok, s(0)).is_err());
    assert!(roster.answered(0, "0-1", Answer::Ok, s(0)).is_ok());
    assert!(roster.answered(0, "0-1", Answer::Ok, s(0)).is_err());
}

#[test]
fn a_record_alone_in_a_process_that_ends_has_failed() {
    let mut roster = ready(1, 8);
    let ticket = submit(&mut roster, 1, s(0));
    orders(&mut roster);
    assert_eq!(roster.exited(0, s(1)), Some(ms(100)));
    assert_eq!(orders(&mut roster), [tell(ticket, Fate::Crashed)]);
}

#[test]
fn suspects_have_not_failed_and_run_again_alone_until_the_culprit_is_found() {
    let mut roster = ready(1, 8);
    let tickets: Vec<Ticket> = (1..=3).map(|offset| submit(&mut roster, offset, s(0))).collect();
    orders(&mut roster);
    roster.exited(0, s(1));
    let mut told = orders(&mut roster);
    told.sort_by_key(|order| if let Order::Tell { ticket, .. } = order { *ticket } else { 0 });
    assert_eq!(told, tickets.iter().map(|ticket| tell(*ticket, Fate::NotRun)).collect::<Vec<_>>());

    // The ordinary process is back and takes others, while the suspects run one at a time in the lone one.
    roster.tick(s(2));
    roster.ready(0, 8, s(2)).unwrap();
    orders(&mut roster);
    let [one, two, three] = [1, 2, 3].map(|offset| submit(&mut roster, offset, s(2)));
    submit(&mut roster, 4, s(2));
    assert_eq!(orders(&mut roster), [Order::Start { seat: 1 }, sent(0, 4)]);
    roster.ready(1, 8, s(2)).unwrap();
    assert_eq!(orders(&mut roster), [sent(1, 1)]);
    roster.answered(1, "0-1", Answer::Ok, s(3)).unwrap();
    assert_eq!(orders(&mut roster), [tell(one, Fate::Answered(Answer::Ok)), sent(1, 2)]);
    roster.exited(1, s(4));
    assert_eq!(orders(&mut roster), [tell(two, Fate::Crashed)]);
    // The culprit's next attempt is alone, too; the third suspect is served by the next lone process.
    let again = submit(&mut roster, 2, s(5));
    roster.tick(s(5));
    assert_eq!(orders(&mut roster), [Order::Start { seat: 1 }]);
    roster.ready(1, 8, s(5)).unwrap();
    assert_eq!(orders(&mut roster), [sent(1, 3)]);
    roster.answered(1, "0-3", Answer::Ok, s(5)).unwrap();
    assert_eq!(orders(&mut roster), [tell(three, Fate::Answered(Answer::Ok)), sent(1, 2)]);
    roster.exited(1, s(6));
    assert_eq!(orders(&mut roster), [tell(again, Fate::Crashed)]);
    // Whoever was acquitted runs among the others again.
    submit(&mut roster, 3, s(7));
    assert_eq!(orders(&mut roster), [sent(0, 3)]);
}

#[test]
fn a_record_that_takes_too_long_fails_only_when_its_process_has_ended() {
    let mut roster = ready(1, 1);
    let late = submit(&mut roster, 1, s(0));
    let next = submit(&mut roster, 2, s(1));
    orders(&mut roster);
    assert_eq!(roster.next_timer(), Some(s(30)));
    roster.tick(s(29));
    assert_eq!(orders(&mut roster), []);
    roster.tick(s(30));
    assert_eq!(orders(&mut roster), [Order::Kill { seat: 0 }]);
    // An answer between the kill and the end: the attempt has ended, and failed all the same.
    roster.exited(0, s(31));
    assert_eq!(orders(&mut roster), [tell(late, Fate::TimedOut)]);
    roster.tick(s(32));
    roster.ready(0, 1, s(32)).unwrap();
    assert_eq!(orders(&mut roster), [Order::Start { seat: 0 }, sent(0, 2)]);
    // Its time began when it was sent.
    assert_eq!(roster.next_timer(), Some(s(62)));
    roster.answered(0, "0-2", Answer::Ok, s(33)).unwrap();
    assert_eq!(orders(&mut roster), [tell(next, Fate::Answered(Answer::Ok))]);
}

#[test]
fn a_late_record_does_not_cut_off_its_neighbours() {
    let mut roster = ready(1, 2);
    let late = submit(&mut roster, 1, s(0));
    let neighbour = submit(&mut roster, 2, s(20));
    submit(&mut roster, 3, s(20));
    orders(&mut roster);
    roster.tick(s(30));
    assert_eq!(orders(&mut roster), []);
    roster.answered(0, "0-2", Answer::Ok, s(35)).unwrap();
    // No more records for a process that hangs in part; it is ended once nothing else is in work.
    assert_eq!(orders(&mut roster), [tell(neighbour, Fate::Answered(Answer::Ok)), Order::Kill { seat: 0 }]);
    roster.exited(0, s(36));
    assert_eq!(orders(&mut roster), [tell(late, Fate::TimedOut)]);
}

#[test]
fn a_late_answer_is_ignored_and_frees_the_process() {
    let mut roster = ready(1, 2);
    let late = submit(&mut roster, 1, s(0));
    submit(&mut roster, 2, s(20));
    orders(&mut roster);
    roster.tick(s(30));
    roster.answered(0, "0-1", Answer::Ok, s(31)).unwrap();
    assert_eq!(orders(&mut roster), [tell(late, Fate::TimedOut)]);
    submit(&mut roster, 3, s(32));
    assert_eq!(orders(&mut roster), [sent(0, 3)]);
}

#[test]
fn a_dropped_record_is_cut_off_and_tells_nobody() {
    let mut roster = ready(1, 1);
    let dropped = submit(&mut roster, 1, s(0));
    let queued = submit(&mut roster, 2, s(0));
    orders(&mut roster);
    assert!(roster.withdraw(queued) && !roster.withdraw(queued) && !roster.withdraw(dropped));
    roster.drop_job(queued);
    roster.drop_job(dropped);
    assert_eq!(orders(&mut roster), [Order::Kill { seat: 0 }]);
    roster.exited(0, s(1));
    assert_eq!((orders(&mut roster), roster.readiness()), (vec![], (0, 1, 0)));
    // It is no suspect: its worker cut it off.
    roster.tick(s(2));
    roster.ready(0, 1, s(2)).unwrap();
    submit(&mut roster, 1, s(2));
    assert_eq!(orders(&mut roster), [Order::Start { seat: 0 }, sent(0, 1)]);
}

#[test]
fn a_process_that_keeps_ending_is_started_less_and_less_often() {
    let mut roster = Roster::new(1, TIMEOUT);
    let waits: Vec<_> = (0..12).map(|n| roster.exited(0, s(n)).unwrap()).collect();
    assert_eq!(waits[..4], [ms(100), ms(200), ms(400), ms(800)]);
    assert_eq!(waits[11], s(30));
    let mut roster = ready(1, 1);
    roster.exited(0, s(0));
    roster.exited(0, s(0));
    roster.tick(s(9));
    roster.ready(0, 1, s(9)).unwrap();
    submit(&mut roster, 1, s(9));
    roster.answered(0, "0-1", Answer::Ok, s(9)).unwrap();
    assert_eq!(roster.exited(0, s(9)), Some(ms(100)), "an answer shows that it works");
}

#[test]
fn a_process_that_is_not_ready_in_time_is_ended() {
    let mut roster = Roster::new(1, TIMEOUT);
    roster.tick(s(0));
    roster.tick(s(300));
    assert_eq!(orders(&mut roster), [Order::Start { seat: 0 }, Order::Kill { seat: 0 }]);
}

#[test]
fn a_process_that_breaks_the_protocol_is_killed_once_and_its_record_has_failed() {
    let mut roster = ready(1, 1);
    let ticket = submit(&mut roster, 1, s(0));
    orders(&mut roster);
    roster.broken(0);
    roster.broken(0);
    assert_eq!(orders(&mut roster), [Order::Kill { seat: 0 }]);
    roster.exited(0, s(1));
    assert_eq!(orders(&mut roster), [tell(ticket, Fate::Crashed)]);
}

#[test]
fn the_lone_process_ends_when_it_is_not_needed() {
    let mut roster = ready(1, 1);
    submit(&mut roster, 1, s(0));
    roster.exited(0, s(0));
    submit(&mut roster, 1, s(1));
    roster.ready(1, 1, s(1)).unwrap();
    roster.answered(1, "0-1", Answer::Ok, s(2)).unwrap();
    orders(&mut roster);
    roster.tick(s(61));
    orders(&mut roster);
    roster.tick(s(62));
    assert_eq!(orders(&mut roster), [Order::Retire { seat: 1 }]);
    assert_eq!(roster.exited(1, s(63)), None);
}

#[test]
fn a_closed_roster_runs_nothing() {
    let mut roster = ready(1, 1);
    submit(&mut roster, 1, s(0));
    let queued = submit(&mut roster, 2, s(0));
    orders(&mut roster);
    roster.close();
    let refused = submit(&mut roster, 3, s(0));
    assert_eq!(orders(&mut roster), [tell(queued, Fate::NotRun), tell(refused, Fate::NotRun)]);
    assert_eq!(roster.exited(0, s(1)), None);
}
