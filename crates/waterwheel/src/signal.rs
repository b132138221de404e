//! Signals that end a program.

/// Ends at the first SIGTERM or SIGINT (Ctrl-C), for [`Worker::run_until`](crate::Worker::run_until).
///
/// Must be polled in a Tokio runtime with I/O. Once it has ended, a second signal has its usual effect only if the caller
/// sees to it; see [`Worker::handle`](crate::Worker::handle) and [`WorkerHandle::close_now`](crate::WorkerHandle::close_now).
/// Where the system refuses to tell signals, it never ends.
pub async fn shutdown() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
