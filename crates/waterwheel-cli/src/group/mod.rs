//! `group`: what groups there are and where they stand; sets what they have committed, and deletes them.
//!
//! Changes print a plan and are made only with `--execute`; what was committed before is written to a file that
//! `group reset --to FILE` reads.

mod delete;
mod describe;
mod ls;
mod reset;
mod standing;
mod target;
mod undo;

use clap::Subcommand;

pub(crate) use standing::{Found, Place, Standing, protocol, standings};

use crate::exit::{Exit, Failure};
use crate::global::Global;
use crate::runtime;

/// Show groups, set what they have committed, delete them
#[derive(clap::Args)]
pub(crate) struct Group {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Ls(ls::Ls),
    Describe(describe::Describe),
    Reset(reset::Reset),
    Delete(delete::Delete),
}

impl Group {
    pub(crate) fn run(self, global: &Global) -> Result<Exit, Failure> {
        runtime::block_on(async {
            match self.verb {
                Verb::Ls(ls) => ls.run(global).await,
                Verb::Describe(describe) => describe.run(global).await,
                Verb::Reset(reset) => reset.run(global).await,
                Verb::Delete(delete) => delete.run(global).await,
            }
        })
    }
}
