//! `on_stall`, `after_dead_letter`: what becomes of handlers that run for too long, and of keys that have a dead letter.

use super::fields::Table;
use super::spec::{AfterDeadLetter, OnStall, OrderSpec};

pub(super) fn on_stall(table: &Table<'_>) -> OnStall {
    let policies = [
        ("warn", OnStall::Warn),
        ("time_out", OnStall::TimeOut),
        ("dead_letter", OnStall::DeadLetter),
        ("park", OnStall::Park),
        ("stop", OnStall::Stop),
    ];
    let policy = table.word("on_stall", &policies, &[]).unwrap_or(OnStall::Warn);
    if policy == OnStall::DeadLetter && !table.has("dead_letter") {
        table.fail("on_stall", "is dead_letter, but there is none", "add [worker.dead_letter]");
    }
    policy
}

pub(super) fn after_dead_letter(table: &Table<'_>, order: OrderSpec) -> AfterDeadLetter {
    let policies = [("continue", AfterDeadLetter::Continue), ("follow", AfterDeadLetter::Follow)];
    let policy = table.word("after_dead_letter", &policies, &[]).unwrap_or(AfterDeadLetter::Continue);
    if policy == AfterDeadLetter::Follow {
        if !table.has("dead_letter") {
            table.fail("after_dead_letter", "says follow, and there is no dead letter", "add [worker.dead_letter]");
        }
        if order == OrderSpec::None {
            table.fail("after_dead_letter", "says follow, and order is none", "leave one of them out");
        }
    }
    policy
}
