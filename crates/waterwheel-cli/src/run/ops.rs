//! The listener for probes and metrics of a run.

use std::net::SocketAddr;

use waterwheel::ops::{Ops, Prometheus};

use crate::exit::{Exit, Failure, say};
use crate::file::WorkerFile;

/// The address that the files name. They may not name different ones: the listener is the run's.
pub(super) fn address(files: &[WorkerFile]) -> Result<Option<SocketAddr>, Failure> {
    let mut named = files.iter().filter_map(|file| file.ops);
    let first = named.next();
    match named.find(|other| Some(*other) != first) {
        None => Ok(first),
        Some(_) => Err(Failure::new(Exit::Usage, "ops.listen: the worker files name different addresses")
            .hint("name one, or use --ops ADDRESS")),
    }
}

/// Takes the address, and says where it is.
pub(super) async fn listen(address: SocketAddr) -> Result<Ops, Failure> {
    let failed = |error| Failure::new(Exit::Usage, format_args!("ops: {address}: {error}"));
    let ops = Ops::bind(address).await.map_err(failed)?;
    say(format_args!("ops: http://{}", ops.address().map_err(failed)?));
    let prometheus = Prometheus::install().map_err(|error| Failure::new(Exit::Failed, error))?;
    Ok(ops.metrics(move || prometheus.render()))
}
