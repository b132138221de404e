//! `group delete`: deletes groups with all that they committed.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};
use waterwheel::admin::{Admin, Committed, GroupState};

use super::reset::refuse_if_active;
use super::undo;
use crate::asking::{Asking, print_json, print_table, table};
use crate::exit::{Exit, Failure, say};
use crate::global::{Global, Output};

/// Delete groups with all that they committed
///
/// Prints a plan and changes nothing without --execute. If one group has members or does not exist, none is deleted.
#[derive(clap::Args)]
pub(crate) struct Delete {
    /// Groups
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,

    /// Make the change
    #[arg(long)]
    execute: bool,

    /// Folder for the undo files, one a group, that `group reset --to FILE` reads [default: this one]
    #[arg(long, value_name = "FOLDER", requires = "execute")]
    undo: Option<PathBuf>,

    #[command(flatten)]
    asking: Asking,
}

/// A group that is to go.
struct Goner {
    name: String,
    state: GroupState,
    committed: Vec<Committed>,
}

impl Goner {
    fn as_json(&self, done: bool) -> Value {
        json!({
            "group": self.name,
            "state": self.state.as_str(),
            "partitions": self.committed.len(),
            "done": done,
        })
    }
}

impl Delete {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let admin = self.asking.admin(global)?;
        let goners = self.find(&admin).await?;
        if !self.execute {
            print(global, &goners, |_| false)?;
            say("nothing was changed: --execute does it");
            return Ok(Exit::Done);
        }
        let folder = self.undo.clone().unwrap_or_default();
        for goner in &goners {
            let file = folder.join(undo::default_path(&goner.name));
            undo::write(&file, &goner.name, &goner.committed)?;
            say(format_args!("undo: waterwheel group reset {} --to {} --execute", goner.name, file.display()));
        }
        let names = goners.iter().map(|goner| goner.name.clone()).collect();
        let results = admin.delete_groups(names).await?;
        print(global, &goners, |at| results[at].is_ok())?;
        let mut exit = Exit::Done;
        for (goner, result) in goners.iter().zip(&results) {
            if let Err(error) = result {
                exit = Failure::of_group(&goner.name, error).report();
            }
        }
        Ok(exit)
    }

    async fn find(&self, admin: &Admin) -> Result<Vec<Goner>, Failure> {
        let mut names = self.groups.clone();
        names.sort_unstable();
        names.dedup();
        let described = admin.describe_groups(names.clone()).await?;
        let mut goners = Vec::new();
        for (name, described) in names.into_iter().zip(described) {
            let described = described.map_err(|error| Failure::of_group(&name, &error))?;
            refuse_if_active(admin, &name).await?;
            let committed = admin.committed(name.as_str(), None).await?;
            let committed = committed.into_iter().collect::<Result<_, _>>()?;
            goners.push(Goner { name, state: described.state, committed });
        }
        Ok(goners)
    }
}

fn print(global: &Global, goners: &[Goner], done: impl Fn(usize) -> bool) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if global.output() == Output::Table {
        let mut rows = table(&["GROUP", "STATE", ">PARTITIONS COMMITTED"]);
        for goner in goners {
            let committed = goner.committed.len().to_string();
            rows.add_row(vec![goner.name.clone(), goner.state.to_string(), committed]);
        }
        print_table(&mut out, &rows)?;
    } else {
        let items = goners.iter().enumerate().map(|(at, goner)| goner.as_json(done(at))).collect();
        print_json(&mut out, global.output(), items)?;
    }
    Ok(out.flush()?)
}
