//! Users whose passwords the cluster keeps (SCRAM).

use std::collections::BTreeSet;

use super::Admin;
use crate::client::{ScramChange, ScramMechanism, ScramUser};
use crate::config::ConfigError;
use crate::error::{Error, KafkaError};

/// What Kafka takes.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4_096..=16_384;

impl Admin {
    /// Users with their credentials, without passwords: those that are named, in their order, or with `None` all, by name.
    /// For one that has none, an error (code 91).
    pub async fn scram_users(&self, users: Option<Vec<String>>) -> Result<Vec<Result<ScramUser, KafkaError>>, Error> {
        self.within(self.port.scram_users(users)).await
    }

    /// Gives users passwords, or takes them away. Who is connected stays connected, until the broker asks again
    /// (`connections.max.reauth.ms`). A user may be named once for each mechanism; where one change to a user fails, so do its
    /// others.
    pub async fn alter_scram_users(&self, changes: Vec<ScramChange>) -> Result<Vec<Result<(), KafkaError>>, Error> {
        let mut seen = BTreeSet::new();
        for ScramChange { user, mechanism, set } in &changes {
            let refuse = |problem: &str, remedy: &str| Err(ConfigError::new(&**user, problem).remedy(remedy).into());
            if user.is_empty() {
                return Err(ConfigError::new("user", "the name is empty").remedy("name a user").into());
            }
            if *mechanism == ScramMechanism::Unknown {
                return refuse("the mechanism is not known", "use Sha256 or Sha512");
            }
            if set.as_ref().is_some_and(|(password, _)| password.expose().is_empty()) {
                return refuse("the password is empty", "give one, or delete the user's credentials");
            }
            if set.as_ref().is_some_and(|(_, iterations)| !ITERATIONS.contains(iterations)) {
                return refuse("iterations out of range", "Kafka takes 4096 to 16384");
            }
            if !seen.insert((user, mechanism)) {
                return refuse("is named twice", "name it once for each mechanism");
            }
        }
        self.within(self.port.alter_scram_users(changes)).await
    }
}
