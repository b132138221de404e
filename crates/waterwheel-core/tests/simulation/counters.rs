//! What must happen in some run, or the simulation proves little.

macro_rules! sometimes {
    ($($name:ident: $what:literal,)*) => {
        /// Something that a run has seen.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Seen { $($name,)* }

        /// Their names, in the order of [`Seen`].
        pub(crate) const SOMETIMES: &[&str] = &[$($what,)*];
    };
}

sometimes! {
    // ---- commits and maps
    CommitWhileRevoking: "commit during a revocation",
    CommitApplied: "commit applied",
    CommitReplyLost: "commit applied, reply lost",
    CommitNeverArrived: "commit that never arrived",
    CommitOfOldGeneration: "commit refused for its generation",
    CommitWhileCompleting: "commit refused while a rebalance completes",
    CommitOfStaleEpoch: "commit refused for its member epoch",
    CommitOfFenced: "commit of a fenced member",
    CommitRefused: "commit refused for good",
    CommitGivenUp: "last commit given up",
    CommitOfUnreadMark: "commit over a mark of a log that was cut off, before it was read",
    CommitOfCutLog: "commit of a log that was cut off or made anew",
    MapCut: "map cut",
    MapTooLarge: "map too large for the broker",
    MapGarbled: "map garbled",
    BaseMoved: "map taken along to another offset",
    StaleBatch: "batch of an assignment that is over",
    MapRefused: "map refused",
    MapOfOtherTopic: "map of the topic before",
    MapBeyondEnd: "map beyond the log's end",
    MapHolds: "partition held for its full map",
    // ---- the group
    Eager: "eager rebalance done",
    Cooperative: "cooperative rebalance done",
    Consumer: "member epoch moved (KIP-848)",
    RevokedUnderRevocation: "rebalance while a revocation is open",
    SameWorkerAgain: "partition assigned again to the same worker",
    RevokedWhileOpening: "partition revoked while it is opened",
    SessionExpired: "session expired",
    RevocationTooLong: "member removed for a revocation that took too long",
    Kicked: "member removed by hand",
    Crash: "crash",
    Frozen: "worker frozen",
    FrozenPastSession: "frozen worker came back as a zombie",
    ZombieRuns: "zombie's attempt ends after the partition went on",
    CutOff: "worker cut off from the coordinator",
    LeaseRanOut: "lease ran out",
    CoordinatorMoved: "coordinator moved",
    PartitionAdded: "partition added",
    ClocksDiffer: "failing record resumed under another wall clock",
    // ---- ends of assignments
    DrainCut: "drain cut at its deadline",
    StaleCompletion: "stale completion",
    KeyWaitsForGhost: "key waits for a ghost",
    StopWhileDraining: "stop while draining",
    StopAgain: "stop cut short",
    StopWhileOpening: "stop while opening",
    StopOfFrozen: "stop of a worker that was frozen",
    Restarted: "partition restarted",
    // ---- attempts
    Panic: "handler panicked",
    Hang: "handler hung",
    TimedOut: "time-out",
    Stalled: "stuck record cut",
    FailingResumed: "failing record resumed",
    FinishedNotRunAgain: "finished record not run again",
    RunAgain: "record run again after a death",
    Paused: "worker paused with work",
    Delayed: "record started after its delay",
    FromTheFuture: "record started that is from the future",
    DrainedUndue: "partition leaves while records of it are not due",
    BatchOfKey: "several records of a key in a batch",
    NotRun: "record not run, behind one of its key that failed in its batch",
    GatheredDropped: "partition leaves while records of it are gathered",
    BatchCutInPart: "batch of which a part was cut off",
    // ---- the gate before starts
    BreakerOpened: "breaker opened",
    BreakerClosed: "breaker closed by its probes",
    HeldForRate: "start held for the rate",
    // ---- dead letters
    Followed: "record followed a dead letter of its key",
    KeyReleased: "key released that followed a dead letter",
    LetterRetried: "dead letter retried",
    LetterWhileRevoking: "dead letter under way at a revocation",
    LetterReplyLost: "dead letter written, reply lost",
    LetterLate: "dead letter acknowledged after its assignment ended",
    LetterDown: "dead-letter topic down",
    // ---- the log
    GapInUnfinished: "gap inside an unfinished range",
    ReadAgain: "records read again",
    GoneBeforeReadAgain: "record gone before it was read again",
    HeldForBytes: "partition held for its bytes",
    LeaderChanged: "leader changed",
    WaitsForLso: "fetch waits for the last stable offset",
    TxnCommitted: "transaction committed",
    TxnAborted: "transaction aborted",
    GapAtEnd: "gap at the log's end skipped",
    Deleted: "records deleted",
    DeletedUnread: "records deleted before they were read",
    GapSkipped: "fetch went on behind deleted records",
    Truncated: "log cut off",
    TruncatedUnderWorker: "log cut off below what was read",
    Recreated: "topic made anew",
    RecreatedUnderWorker: "topic made anew while it is read",
    HiddenByCommit: "records hidden by a commit of a cut log",
}
