//! The client that users hold: checked configuration, and the way to connect with it.
//!
//! Building one checks everything (I12) and connects to nothing. Printing one shows no secret.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::client::librdkafka::Librdkafka;
use crate::client::{Backend, ClientEvent, OAuthToken, Properties, TokenSource};
use crate::config::{
    self, ALLOW_PLAINTEXT_SASL, ConfigError, Secret, Security, Shown, TokenSupply, add_property, canonical,
    check_topic, check_with_tokens, normal_value, overlay,
};
use crate::error::{Error, KafkaError, code};
use crate::metrics::ClientPublisher;
use crate::places::Places;
use crate::subscription::Subscription;

const DEFAULT_CLIENT_ID: &str = "waterwheel";

/// A Kafka cluster to work with. Cheap to clone; connections are made when a worker needs them, not here.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    properties: Properties,
    places: Places,
    backend: Arc<dyn Backend>,
}

impl Client {
    /// A client of the cluster behind `brokers`: `host:port`, several separated by commas. No encryption, no
    /// authentication: see [`Client::builder`] for those.
    pub fn new(brokers: impl Into<String>) -> Result<Self, ConfigError> {
        Self::builder().brokers(brokers).build()
    }

    /// A client with settings of your own.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A client as the environment says: `WATERWHEEL_BROKERS` for the brokers, `WATERWHEEL_X_SASL_USERNAME` for the
    /// property `sasl.username`, and so on.
    pub fn from_env() -> Result<Self, ConfigError> {
        let mut builder = Self::builder();
        builder.base = config::properties_from_env()?;
        builder.build()
    }

    /// Makes a topic with that many partitions and the cluster's default replication, within `deadline`; `Ok` also where
    /// it is there already. Dropping the future leaves the request under way.
    pub async fn create_topic(
        &self,
        name: impl Into<String>,
        partitions: usize,
        deadline: Duration,
    ) -> Result<(), Error> {
        let name = name.into();
        check_topic(&name)?;
        let admin = self.backend().admin(self.properties())?;
        Ok(admin.create_topic(name, partitions, deadline).await?)
    }

    /// How many partitions a topic has. Where the cluster has no such topic, an error of which
    /// [`is_unknown_topic`](KafkaError::is_unknown_topic) holds; asking makes none. Gives up after 30 s. Dropping the
    /// future leaves the question under way.
    pub async fn partitions_of(&self, topic: impl Into<String>) -> Result<usize, Error> {
        let topic = topic.into();
        check_topic(&topic)?;
        let admin = self.backend().admin(self.properties())?;
        let described = admin.describe_topics(vec![topic.clone()]).await?;
        match described.into_iter().next() {
            Some(description) => Ok(description?.partitions.len()),
            None => Err(KafkaError::new(code::UNKNOWN_TOPIC_OR_PARTITION, "the answer lacks the topic", topic).into()),
        }
    }

    /// The client of the cluster that a topic is on: this one, unless [`ClientBuilder::topic_brokers`] named others for it.
    /// Workers, consumers, histories and readers choose it by themselves; a [`Producer`](crate::Producer) and an
    /// [`Admin`](crate::admin::Admin) belong to the client that made them, and a producer refuses records for other clusters.
    #[must_use]
    pub fn for_topic(&self, topic: &str) -> Client {
        self.at(self.inner.places.of(topic))
    }

    /// The client of topics that have to be on one cluster.
    pub(crate) fn for_topics<'a>(&self, topics: impl IntoIterator<Item = &'a str>) -> Result<Client, ConfigError> {
        Ok(self.at(self.inner.places.of_all(topics)?))
    }

    fn at(&self, brokers: Option<&str>) -> Client {
        let Some(brokers) = brokers else { return self.clone() };
        let Inner { properties, places, backend } = &*self.inner;
        let mut properties = properties.clone();
        properties.insert(canonical("bootstrap.servers").to_owned(), brokers.to_owned());
        Client { inner: Arc::new(Inner { properties, places: places.clone(), backend: backend.clone() }) }
    }

    /// Topics that what is made of this client itself does not reach.
    pub(crate) fn elsewhere(&self) -> HashSet<String> {
        let brokers = self.properties().get(canonical("bootstrap.servers"));
        self.inner.places.not_at(brokers.map_or("", String::as_str))
    }

    /// What a group is called at the brokers.
    pub(crate) fn group(&self, name: &str) -> String {
        self.inner.places.group(name)
    }

    /// What the clients under this one have to say, from now on: errors that no call asked for, throttling, tokens, and
    /// statistics where the property `statistics.interval.ms` is set. Unread, 1,024 events wait; the oldest of more are
    /// dropped, and counted by [`ClientEvent::Missed`]. Nothing ever waits for a reader.
    pub fn events(&self) -> Subscription<ClientEvent> {
        Subscription::new(self.backend().events(), |events| ClientEvent::Missed { events })
    }

    /// Has everything made of this client, and of its clones, log in with these from now on: user and password of SASL PLAIN
    /// or SCRAM, whichever the client was built with. Connections that there are stay, until the broker asks again
    /// (`connections.max.reauth.ms`) or they end; a broker that refused the old ones is tried again at once.
    ///
    /// To change a password without refusals, give the new one to the cluster first where it can hold both (two users), else
    /// here within what reconnecting takes.
    pub fn set_credentials(&self, user: impl Into<String>, password: impl Into<Secret>) -> Result<(), Error> {
        let (user, password) = (user.into(), password.into());
        let refuse =
            |key: &str, problem: &str, remedy: &str| Err(Error::from(ConfigError::new(key, problem).remedy(remedy)));
        let mechanism = self.properties().get("sasl.mechanism").map(String::as_str);
        if !matches!(mechanism, Some("PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512")) {
            return refuse("sasl.mechanism", "the client logs in without a password", "build it with Security::sasl_…");
        }
        if user.is_empty() || user.contains('\0') {
            return refuse("sasl.username", "is empty, or holds a NUL byte", "name a user");
        }
        if password.expose().is_empty() || password.expose().contains('\0') {
            return refuse("sasl.password", "is empty, or holds a NUL byte", "give a password");
        }
        Ok(self.backend().set_credentials(&user, &password)?)
    }

    /// Checked, by librdkafka's names. Holds secrets: not for printing.
    pub(crate) fn properties(&self) -> &Properties {
        &self.inner.properties
    }

    pub(crate) fn backend(&self) -> &Arc<dyn Backend> {
        &self.inner.backend
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("properties", &Shown(&self.inner.properties)).finish_non_exhaustive()
    }
}

/// Gathers the settings of a [`Client`]; [`build`](Self::build) checks them all.
///
/// A setting given twice is refused, except that a setting given here is taken before the same one in a file.
#[derive(Clone, Default)]
pub struct ClientBuilder {
    base: Properties,
    set: Properties,
    places: Places,
    tokens: Option<TokenSource>,
    /// The first mistake met on the way; `build` returns it.
    mistake: Option<ConfigError>,
}

impl ClientBuilder {
    /// The brokers to begin with: `host:port`, several separated by commas (port 9092 when none is named).
    #[must_use]
    pub fn brokers(self, brokers: impl Into<String>) -> Self {
        self.property("bootstrap.servers", brokers)
    }

    /// What the brokers' logs and metrics call this client; `waterwheel` by default.
    #[must_use]
    pub fn client_id(self, id: impl Into<String>) -> Self {
        self.property("client.id", id)
    }

    /// Encryption and authentication; none by default.
    #[must_use]
    pub fn security(mut self, security: Security) -> Self {
        match security.properties() {
            Ok(properties) => properties.into_iter().fold(self, |builder, (name, value)| builder.property(name, value)),
            Err(error) => {
                self.mistake.get_or_insert(error);
                self
            }
        }
    }

    /// Where tokens come from, with [`Security::sasl_oauthbearer`]. It is called when a client first connects, and again
    /// after four fifths of a token's life; one token is for all clients under this one. It runs on a thread with a runtime
    /// of its own, and is given up after 30 s. A failure is a [`ClientEvent::TokenFailed`], and is tried again after 10 s;
    /// its error is not told anywhere, since it may hold secrets.
    #[must_use]
    pub fn oauth_token<F, T, E>(mut self, source: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = Result<OAuthToken, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.tokens = Some(Arc::new(move || {
            let token = source();
            Box::pin(async move { token.await.map_err(Into::into) })
        }));
        self
    }

    /// The brokers of one topic that is on another cluster, with the same security. Who reads it connects there; a worker
    /// whose topics, or whose dead letters, are on different clusters is refused. Topics found by a pattern are looked for
    /// on the client's own cluster. Default: all topics are there.
    #[must_use]
    pub fn topic_brokers(mut self, topic: impl Into<String>, brokers: impl Into<String>) -> Self {
        let error = self.places.put(topic.into(), brokers.into()).err();
        self.mistake = self.mistake.or(error);
        self
    }

    /// What the names of all groups begin with that workers and consumers of this client join, as `staging.`; the admin's
    /// calls take names as they are. Default: nothing.
    #[must_use]
    pub fn group_prefix(mut self, prefix: impl Into<String>) -> Self {
        let error = self.places.set_prefix(prefix.into()).err();
        self.mistake = self.mistake.or(error);
        self
    }

    /// Any property by librdkafka's name, as `fetch.wait.max.ms`. What Waterwheel sets itself (`group.id`,
    /// `enable.auto.commit`, …) is refused.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let added = add_property(&mut self.set, &name.into(), &value.into());
        self.mistake = self.mistake.or(added.err());
        self
    }

    /// Many properties at once, as [`config::check_properties`] checks them.
    #[must_use]
    pub fn properties(self, properties: BTreeMap<String, String>) -> Self {
        properties.into_iter().fold(self, |builder, (name, value)| builder.property(name, value))
    }

    /// The properties of a file, librdkafka's or Java's: see [`config::properties_from_file`]. It is read now.
    #[must_use]
    pub fn properties_file(mut self, path: impl AsRef<Path>) -> Self {
        match config::properties_from_file(path) {
            Ok(properties) => self.base = overlay(std::mem::take(&mut self.base), properties),
            Err(error) => {
                self.mistake.get_or_insert(error);
            }
        }
        self
    }

    /// Checks everything; connects to nothing. Settings that work but are likely not meant are logged as warnings.
    pub fn build(self) -> Result<Client, ConfigError> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let mut properties = overlay(self.base, self.set);
        let supply = if self.tokens.is_some() { TokenSupply::Callback } else { TokenSupply::None };
        let found = check_with_tokens(&properties, supply);
        for warning in &found.warnings {
            tracing::warn!("{warning}");
        }
        if let Some(error) = found.errors.into_iter().next() {
            return Err(error);
        }
        properties.remove(ALLOW_PLAINTEXT_SASL);
        for (name, value) in &mut properties {
            *value = normal_value(name, value);
        }
        properties.entry("client.id".to_owned()).or_insert_with(|| DEFAULT_CLIENT_ID.to_owned());
        Ok(Client { inner: Arc::new(Inner { properties, places: self.places, backend: backend(self.tokens) }) })
    }

    /// The same, of a cluster in memory.
    #[cfg(feature = "__memory")]
    #[doc(hidden)]
    pub fn build_on(self, cluster: &crate::memory::Control, host: u32) -> Result<Client, ConfigError> {
        let Inner { properties, places, .. } = &*self.brokers("memory:9092").build()?.inner;
        let backend = Arc::new(crate::client::memory::Memory::new(cluster.world.clone(), host));
        Ok(Client { inner: Arc::new(Inner { properties: properties.clone(), places: places.clone(), backend }) })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("files", &Shown(&self.base))
            .field("set", &Shown(&self.set))
            .field("mistake", &self.mistake)
            .finish()
    }
}

/// The one place that names a backend.
fn backend(tokens: Option<TokenSource>) -> Arc<dyn Backend> {
    Arc::new(Librdkafka::new(Some(Arc::new(ClientPublisher::default())), tokens))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scram() -> Security {
        Security::sasl_scram_sha_512("canary-user", Secret::new("canary-password"))
    }

    #[test]
    fn typed_settings_become_properties() {
        let client = Client::builder().brokers("h:9092").security(scram()).property("acks", "all").build().unwrap();
        let expected = [
            ("acks", "all"),
            ("bootstrap.servers", "h:9092"),
            ("client.id", "waterwheel"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.password", "canary-password"),
            ("sasl.username", "canary-user"),
            ("security.protocol", "sasl_ssl"),
        ];
        assert_eq!(client.properties(), &expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        let open = Client::builder().brokers("h").security(scram().dangerously_allow_plaintext_sasl()).build().unwrap();
        assert_eq!(open.properties()["security.protocol"], "sasl_plaintext");
        assert!(!open.properties().contains_key(ALLOW_PLAINTEXT_SASL));
        let error = Client::builder().brokers("h").security(Security::tls().dangerously_allow_plaintext_sasl()).build();
        assert_eq!(
            error.unwrap_err().to_string(),
            "security: plaintext SASL is allowed, but there is no SASL; begin with \
             Security::sasl_scram_sha_512(user, password)"
        );
    }

    #[test]
    fn i12_configuration_is_checked_before_the_first_connection() {
        let table: [(ClientBuilder, &str); 7] = [
            (Client::builder(), "bootstrap.servers: no broker is named; write host:port, as \"localhost:9092\""),
            (
                Client::builder().property("bootstrap.server", "h"),
                "unknown property \"bootstrap.server\": did you mean \"bootstrap.servers\"?",
            ),
            (Client::builder().brokers("h").brokers("i"), "bootstrap.servers: is set twice; set it once"),
            (
                Client::builder().brokers("h").property("metadata.broker.list", "i"),
                "metadata.broker.list: is set twice; set it once",
            ),
            (Client::builder().brokers("h").client_id("a\0"), "client.id: the value holds a NUL byte; take it out"),
            (
                Client::builder().brokers("h").security(Security::plaintext().ca_pem("canary")),
                "security.protocol: is plaintext, but ssl.ca.pem is set: nothing would be encrypted; use ssl",
            ),
            (
                Client::builder().brokers("h").security(Security::tls().ca_pem("canary")),
                "ssl.ca.pem: the PEM holds no certificate; it begins with -----BEGIN CERTIFICATE-----",
            ),
        ];
        for (builder, expected) in table {
            assert_eq!(builder.build().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_topic_elsewhere_leads_to_its_own_brokers() {
        let client = Client::builder().brokers("h:1").topic_brokers("orders", "other:1").build().unwrap();
        assert_eq!(client.for_topic("orders").properties()["bootstrap.servers"], "other:1");
        assert_eq!(client.for_topic("prices").properties()["bootstrap.servers"], "h:1");
        assert!(client.for_topics(["orders", "prices"]).is_err());
        assert!(Client::builder().brokers("h:1").topic_brokers("a b", "h").build().is_err());
    }

    #[test]
    fn tokens_go_with_their_mechanism_alone() {
        let source = || async { Err::<OAuthToken, _>("canary") };
        let built = |builder: ClientBuilder| builder.brokers("h:1").build().map(|_| ()).map_err(|e| e.to_string());
        let oauth = || Client::builder().security(Security::sasl_oauthbearer());
        assert_eq!(built(oauth().oauth_token(source)), Ok(()));
        assert!(built(oauth()).unwrap_err().starts_with("sasl.mechanism: is OAUTHBEARER, which needs tokens"));
        let without = built(Client::builder().oauth_token(source)).unwrap_err();
        assert!(
            without.starts_with("sasl.mechanism: is not OAUTHBEARER, but there is a source of tokens"),
            "{without}"
        );
        let oidc = built(oauth().oauth_token(source).property("sasl.oauthbearer.method", "oidc")).unwrap_err();
        assert!(oidc.starts_with("sasl.oauthbearer.method: is oidc"), "{oidc}");
        let client = Client::builder().brokers("h:1").security(scram()).build().unwrap();
        assert!(client.set_credentials("", "x").is_err() && client.set_credentials("bob", "").is_err());
        client.set_credentials("bob", "new").unwrap();
        let open = Client::new("h:1").unwrap().set_credentials("bob", "canary").unwrap_err().to_string();
        assert!(open.starts_with("sasl.mechanism: the client logs in without a password"), "{open}");
    }

    #[test]
    fn no_secret_is_printed() {
        let security = scram()
            .client_cert_pem("-----BEGIN CERTIFICATE----- canary", "-----BEGIN PRIVATE KEY----- canary")
            .key_password("canary")
            .ca_pem("-----BEGIN CERTIFICATE----- canary");
        let builder = Client::builder().brokers("h:1").security(security.clone());
        let mut printed = format!("{security:?} {builder:?} {builder:#?}");
        printed.push_str(&format!("{:#?}", builder.build().unwrap()));
        assert!(!printed.contains("canary"), "{printed}");
        assert!(printed.contains("h:1"));
    }

    #[test]
    fn a_file_gives_way_to_what_is_set_in_code() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client.properties");
        std::fs::write(&path, "metadata.broker.list=file:1\nsecurity.protocol=SSL\n").unwrap();
        let client = Client::builder().properties_file(&path).brokers("code:1").build().unwrap();
        assert_eq!(client.properties()["bootstrap.servers"], "code:1");
        assert_eq!(client.properties()["security.protocol"], "ssl");
        let missing = Client::builder().properties_file("/no/client.properties").brokers("h").build();
        assert_eq!(missing.unwrap_err().to_string(), "/no/client.properties: no such file");
    }
}
