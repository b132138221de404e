//! Workers that let records wait.

use std::time::Duration;

use super::WorkerBuilder;

impl WorkerBuilder {
    /// How long after its own time (its timestamp) a record starts, at the earliest. Default: at once; zero is the same.
    ///
    /// What waits holds up later records of its key and nothing else, takes none of the
    /// [`concurrency`](Self::concurrency), and counts in [`in_work_bytes`](Self::in_work_bytes). At most 1,024 records of a
    /// partition wait beside each other, or its part of [`in_work_records`](Self::in_work_records) if that is more; those
    /// behind them wait in the order of the log. A stop and a hand-over wait for none of them: they come again.
    ///
    /// No record waits for longer than the delay, counted from when it came: one that has no time starts at once, one from
    /// the future waits for the whole delay, and both are counted (`Counts::clocks_disagreed`) if the clocks are more than a
    /// second apart. The worker goes by its machine's clock as it was when the worker was built: a step of that clock since
    /// then shifts all delays by as much, within the same bounds. Retries are not delayed once more.
    ///
    /// Longer than the topic keeps its records, and they are gone before they start (`waterwheel doctor` looks).
    pub fn process_delay(mut self, delay: Duration) -> Self {
        self.process_delay = Some(delay).filter(|delay| !delay.is_zero());
        self
    }
}
