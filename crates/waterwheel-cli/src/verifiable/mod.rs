//! `verifiable-producer` and `verifiable-consumer`: the protocol of Kafka's own system tests, as its Java programs of these
//! names speak it (Kafka 4.1). One JSON object a line on stdout and nothing else there; SIGTERM or SIGINT ends in order.

mod consumer;
mod lines;
mod producer;
mod reporter;

use std::collections::BTreeMap;
use std::path::Path;

use waterwheel::config::overlay;

pub(crate) use self::consumer::Consumer;
pub(crate) use self::producer::Producer;
use crate::exit::{Exit, Failure};
use crate::global::Global;

const SERVERS: &str = "bootstrap.servers";

/// The connection's properties; `option` is what this verb calls the option for a file of them.
fn properties(
    global: &Global,
    bootstrap: Option<&str>,
    option: &str,
    file: Option<&Path>,
) -> Result<BTreeMap<String, String>, Failure> {
    if file.is_some() && global.command_config.is_some() {
        return Err(Failure::new(Exit::Usage, format!("{option} and --command-config are both given"))
            .hint("they mean the same: keep one"));
    }
    let mut properties = global.properties_with(file)?;
    if let Some(servers) = bootstrap {
        properties = overlay(properties, BTreeMap::from([(SERVERS.to_owned(), servers.to_owned())]));
    }
    if !properties.contains_key(SERVERS) {
        return Err(Failure::new(Exit::Usage, "no brokers are named").hint("add --bootstrap-server HOST:PORT"));
    }
    Ok(properties)
}
