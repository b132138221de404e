//! The runtime of a verb.

use crate::exit::Failure;

/// Runs a verb's work on a runtime of its own. What still waits when it has ended (a signal listener, a thread that waits
/// for a reader of stdout, a client that does not end) is not waited for.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = runtime.block_on(work);
    runtime.shutdown_background();
    ended
}
