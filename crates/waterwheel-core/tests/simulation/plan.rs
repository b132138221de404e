//! What happens in a run, as data: a list of steps, each with a chance of its own, so that any of them can be left out and
//! the others stay what they were.

use crate::rng::Rng;

/// What may happen in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    // The drivers' work.
    Turn,
    Finish,
    GroupEvent,
    Letter,
    Open,
    LookUp,
    AnswerCommit,
    Settle,
    // Time.
    PassLittle,
    PassLong,
    // The topic.
    Produce,
    EndTxn,
    Compact,
    ChangeLeader,
    DeleteRecords,
    Truncate,
    Recreate,
    AddPartition,
    Garble,
    // The group and its workers.
    Join,
    Stop,
    Crash,
    Freeze,
    CutOff,
    Kick,
    MoveCoordinator,
    Rebalance,
    PauseOrResume,
    LettersDown,
}

/// What may not be missing, by weight.
const WORK: [(Operation, u64); 11] = [
    (Operation::Turn, 300),
    (Operation::Finish, 150),
    (Operation::PassLittle, 110),
    (Operation::GroupEvent, 60),
    (Operation::Letter, 80),
    (Operation::Open, 60),
    (Operation::LookUp, 15),
    (Operation::AnswerCommit, 60),
    (Operation::Settle, 30),
    (Operation::Produce, 40),
    (Operation::EndTxn, 30),
];

/// What may or may not happen in a run, by weight.
const FAULTS: [(Operation, u64); 18] = [
    (Operation::PassLong, 8),
    (Operation::Compact, 10),
    (Operation::ChangeLeader, 2),
    (Operation::DeleteRecords, 3),
    (Operation::Truncate, 6),
    (Operation::Recreate, 2),
    (Operation::AddPartition, 1),
    (Operation::Garble, 4),
    (Operation::Join, 6),
    (Operation::Stop, 5),
    (Operation::Crash, 2),
    (Operation::Freeze, 6),
    (Operation::CutOff, 6),
    (Operation::Kick, 1),
    (Operation::MoveCoordinator, 2),
    (Operation::Rebalance, 4),
    (Operation::PauseOrResume, 5),
    (Operation::LettersDown, 3),
];

/// One step of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) operation: Operation,
    /// Decides all that is left to chance in it.
    pub(crate) chance: u64,
}

/// The steps of a seed. Each seed has a mixture of its own, from which some faults are missing.
pub(crate) fn plan(seed: u64, steps: usize) -> Vec<Step> {
    let mut rng = Rng::new(seed.rotate_left(32) ^ 0xA076_1D64_78BD_642F);
    let work = WORK.map(|(operation, weight)| (operation, weight * rng.pick(&[1, 2, 4, 4])));
    let faults = FAULTS.map(|(operation, weight)| (operation, weight * rng.pick(&[0, 1, 2, 4, 4])));
    let mixture: Vec<(Operation, u64)> = work.into_iter().chain(faults).collect();
    let weights: Vec<u64> = mixture.iter().map(|(_, weight)| *weight).collect();
    let step = |_| Step { operation: mixture[rng.weighted(&weights)].0, chance: rng.next() };
    (0..steps).map(step).collect()
}
