//! `bench produce`.

use waterwheel::Client;

use super::Produce;
use crate::exit::{Exit, Failure};

impl Produce {
    pub(super) async fn run(self, _client: Client) -> Result<Exit, Failure> {
        println!(r#"{{"arm":"waterwheel","mode":"produce","unsupported":"not in this version"}}"#);
        Ok(Exit::Usage)
    }
}
