//! What the instances of one client share: who listens to them, their credentials, their token.

use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::Duration;

use tokio::sync::broadcast;

use super::handle::{Handle, lock};
use super::properties::Redaction;
use super::tokens::Tokens;
use crate::client::{ClientEvent, ClientRole, Properties, StatisticsListener, TokenSource};
use crate::config::Secret;
use crate::error::KafkaError;

/// Events that may wait to be read.
const EVENTS: usize = 1_024;

/// The instances of one client, and what they share.
pub(super) struct Siblings {
    events: broadcast::Sender<ClientEvent>,
    listener: Option<Arc<dyn StatisticsListener>>,
    tokens: Option<Tokens>,
    instances: Mutex<Vec<Weak<Handle>>>,
    /// Set at run time; before that, those of the properties count.
    credentials: Mutex<Option<Credentials>>,
    /// Secrets that were not in the properties.
    late_secrets: RwLock<Redaction>,
}

#[derive(Clone)]
struct Credentials {
    user: String,
    password: Secret,
}

impl Siblings {
    pub(super) fn new(listener: Option<Arc<dyn StatisticsListener>>, tokens: Option<TokenSource>) -> Arc<Self> {
        Arc::new(Self {
            events: broadcast::Sender::new(EVENTS),
            listener,
            tokens: tokens.map(Tokens::new),
            instances: Mutex::default(),
            credentials: Mutex::default(),
            late_secrets: RwLock::default(),
        })
    }

    pub(super) fn listen(&self) -> broadcast::Receiver<ClientEvent> {
        self.events.subscribe()
    }

    /// Tells whoever listens; nobody may.
    pub(super) fn say(&self, event: ClientEvent) {
        _ = self.events.send(event);
    }

    /// Decodes and tells statistics, if anybody wants them.
    pub(super) fn statistics(&self, role: ClientRole, json: &str) {
        if let Some(statistics) = super::figures::decode(role, json) {
            if let Some(listener) = &self.listener {
                listener.told(&statistics);
            }
            self.say(ClientEvent::Statistics(Arc::new(statistics)));
        }
    }

    pub(super) fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// Takes an instance in; what was set at run time holds for it too.
    pub(super) fn join(&self, handle: &Arc<Handle>) -> Result<(), KafkaError> {
        let mut instances = lock(&self.instances);
        instances.retain(|instance| instance.strong_count() > 0);
        instances.push(Arc::downgrade(handle));
        // With the list locked: a change comes either before this or meets the instance in it.
        match &*lock(&self.credentials) {
            Some(Credentials { user, password }) => handle.set_credentials(user, password),
            None => Ok(()),
        }
    }

    /// The instance at an address, while it is not ending.
    pub(super) fn find(&self, rk: *const rdkafka::bindings::rd_kafka_t) -> Option<Arc<Handle>> {
        let instances = lock(&self.instances);
        instances.iter().filter_map(Weak::upgrade).find(|handle| std::ptr::eq(handle.as_ptr(), rk))
    }

    pub(super) fn ended(&self, instance: &str) {
        if let Some(listener) = &self.listener {
            listener.ended(instance);
        }
    }

    /// For instances that there are and that will be.
    pub(super) fn set_credentials(&self, user: &str, password: &Secret) -> Result<(), KafkaError> {
        self.add_secret(password.expose());
        *lock(&self.credentials) = Some(Credentials { user: user.to_owned(), password: password.clone() });
        let instances: Vec<_> = lock(&self.instances).iter().filter_map(Weak::upgrade).collect();
        instances.iter().try_for_each(|handle| handle.set_credentials(user, password))
    }

    /// The properties of an instance to be made.
    pub(super) fn properties_now(&self, properties: &Properties) -> Properties {
        let mut properties = properties.clone();
        if let Some(Credentials { user, password }) = &*lock(&self.credentials) {
            properties.insert("sasl.username".to_owned(), user.clone());
            properties.insert("sasl.password".to_owned(), password.expose().to_owned());
        }
        properties
    }

    pub(super) fn add_secret(&self, secret: &str) {
        self.late_secrets.write().unwrap_or_else(std::sync::PoisonError::into_inner).add(secret);
    }

    /// Removes what became a secret at run time.
    pub(super) fn redact(&self, text: &str) -> String {
        self.late_secrets.read().unwrap_or_else(std::sync::PoisonError::into_inner).apply(text)
    }
}

/// The properties of a client of ours, and whose it is.
#[derive(Clone)]
pub(super) struct Setup {
    properties: Properties,
    pub(super) siblings: Arc<Siblings>,
}

impl Setup {
    pub(super) fn new(properties: &Properties, siblings: &Arc<Siblings>) -> Self {
        Self { properties: properties.clone(), siblings: siblings.clone() }
    }

    /// How often statistics are told, if they are.
    pub(super) fn statistics_every(&self) -> Option<Duration> {
        let millis = self.properties.get(super::properties::STATISTICS)?.trim().parse().ok()?;
        Some(Duration::from_millis(millis)).filter(|interval| !interval.is_zero())
    }
}

impl std::ops::Deref for Setup {
    type Target = Properties;

    fn deref(&self) -> &Properties {
        &self.properties
    }
}
