//! `on_stall`: what becomes of handlers that run for too long.

use super::fields::Table;
use super::spec::OnStall;

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
