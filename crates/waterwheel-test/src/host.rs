//! Hosts: where clients run.

use waterwheel::memory::{Control, Reach};
use waterwheel::{Client, ClientBuilder};

/// Where clients run. All that run on one share its connections, its being cut off, and its end. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    control: Control,
    number: u32,
}

impl Host {
    pub(crate) fn new(control: Control, number: u32) -> Self {
        Self { control, number }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// A client on this host, with default settings.
    pub fn client(&self) -> Client {
        self.client_with(Client::builder())
    }

    /// A client on this host with properties of its own; brokers need not be named.
    ///
    /// # Panics
    /// Where the settings are wrong.
    #[expect(clippy::panic, reason = "ends the test")]
    pub fn client_with(&self, builder: ClientBuilder) -> Client {
        let client = builder.build_on(&self.control, self.number);
        client.unwrap_or_else(|error| panic!("the client's settings: {error}"))
    }

    /// Cuts the host off from the whole cluster. Its members are thrown out of their groups when their sessions expire, and
    /// learn that when it is [healed](Self::heal).
    pub fn cut_off(&self) {
        self.control.cut_off(self.number, Reach::Nobody);
    }

    /// Cuts the host off from groups' coordinators only: it goes on reading and writing.
    pub fn cut_off_from_groups(&self) {
        self.control.cut_off(self.number, Reach::Leaders);
    }

    /// Ends that. What was sent meanwhile, and was not given up (after 5 s), comes through now.
    pub fn heal(&self) {
        self.control.heal(self.number);
    }

    /// Kills the host: nothing on it is heard of again, and its groups learn of it by their session time-outs. What runs on
    /// it goes on in vain: drop its future, as the end of a process would.
    pub fn kill(self) {
        self.cut_off();
    }
}
