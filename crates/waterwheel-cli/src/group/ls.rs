//! `group ls`.

use std::io::Write;

use serde_json::json;

use super::protocol;
use crate::asking::{Asking, or_dash, print_json, print_table, table};
use crate::exit::{Exit, Failure, say};
use crate::global::{Global, Output};

/// List the groups of consumers
#[derive(clap::Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    asking: Asking,
}

impl Ls {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let list = self.asking.admin(global)?.groups().await?;
        let mut out = std::io::stdout().lock();
        if global.output() == Output::Table {
            let mut rows = table(&["GROUP", "PROTOCOL", "STATE"]);
            for group in &list.groups {
                rows.add_row(vec![group.name.clone(), or_dash(protocol(group.protocol)), group.state.to_string()]);
            }
            print_table(&mut out, &rows)?;
        } else {
            let item = |group: &waterwheel::admin::GroupListing| json!({"group": group.name, "protocol": protocol(group.protocol), "state": group.state.as_str()});
            print_json(&mut out, global.output(), list.groups.iter().map(item).collect())?;
        }
        out.flush()?;
        for failure in &list.failures {
            say(format_args!("error: {failure}; this broker's groups are not shown"));
        }
        Ok(if list.failures.is_empty() { Exit::Done } else { Exit::Unreachable })
    }
}
