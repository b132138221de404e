//! Clients at run time: what they tell, tokens, new passwords, topics elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use waterwheel::admin::{ScramChange, ScramMechanism};
use waterwheel::config::{Secret, Security};
use waterwheel::{Client, ClientEvent, ClientRole, Consumer, OAuthToken, ProducerRecord, Raw, Subscription};

use crate::support::{Cluster, Kafka, PATIENCE, run, topic_name, wait_until};

/// The first event that is wanted.
async fn until<T>(events: &mut Subscription<ClientEvent>, mut wanted: impl FnMut(&ClientEvent) -> Option<T>) -> T {
    loop {
        let event = events.next().await.expect("the client lives");
        if let Some(found) = wanted(&event) {
            return found;
        }
    }
}

async fn pull(consumer: &mut Consumer<Raw>, count: usize) {
    for _ in 0..count {
        consumer.recv().await.expect("the consumer runs").finish();
    }
}

fn records(count: usize) -> impl Iterator<Item = (Option<String>, String)> {
    (0..count).map(|n| (Some(format!("k{n}")), format!("v{n}")))
}

#[test]
fn statistics_and_throttling_are_told_by_every_client_that_has_some() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, id) = (topic_name("statistics"), topic_name("throttled"));
    kafka.create_topic(&topic, 2, &[]);
    if Kafka::has_tools() {
        // The 200 kB that follow count as 18 to 20 kB/s: brokers take the mean of ten whole seconds and the one that runs.
        let words =
            ["--alter", "--add-config", "producer_byte_rate=14000", "--entity-type", "clients", "--entity-name"];
        kafka.tool("configs", &[&words[..], &[&id]].concat());
    }
    let client = Client::builder().brokers(kafka.bootstrap()).client_id(&id).property("statistics.interval.ms", "200");
    let client = client.build().expect("properties");
    run(async {
        let (mut events, mut throttled) = (client.events(), client.events());
        let producer = client.producer().expect("a producer");
        let mut consumer = client.consumer(&topic).topic(&topic).start().expect("a consumer");
        let value = vec![b'x'; 10_000];
        let each_has_statistics = async {
            let mut missing = vec![ClientRole::Membership, ClientRole::Fetch, ClientRole::Produce];
            while !missing.is_empty() {
                let told = until(&mut events, |event| match event {
                    ClientEvent::Statistics(told) => Some(told.clone()),
                    _ => None,
                });
                let told = told.await;
                assert_eq!(told.client_id, id);
                let is_whole = match told.role {
                    ClientRole::Fetch => told.received_records == 20 && told.partitions.len() == 2,
                    ClientRole::Produce => told.sent_records == 20 && told.sent_record_bytes >= 200_000,
                    _ => true,
                };
                let connected = told.brokers.iter().any(|broker| broker.state == "UP" && broker.received_bytes > 0);
                missing.retain(|role| !(*role == told.role && is_whole && connected));
            }
        };
        // Beside it: who does not take events for long misses the oldest.
        let producer_is_throttled = async {
            if Kafka::has_tools() {
                let (role, time) = until(&mut throttled, |event| match event {
                    ClientEvent::Throttled { role, time, .. } => Some((*role, *time)),
                    _ => None,
                })
                .await;
                assert!(role == ClientRole::Produce && time > Duration::ZERO, "{role} {time:?}");
            }
        };
        let sent_and_pulled = async {
            let sends = (0..20).map(|n| producer.send(ProducerRecord::to(&*topic).partition(n % 2).value(&value)));
            for sent in futures_util::future::join_all(sends).await {
                sent.expect("acknowledged");
            }
            pull(&mut consumer, 20).await;
        };
        futures_util::future::join3(sent_and_pulled, each_has_statistics, producer_is_throttled).await;
        consumer.close().await.map_err(|error| error.error).expect("it ends in order");
    });
}

#[test]
fn events_that_nobody_reads_are_counted_and_hold_up_nobody() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("unread");
    kafka.create_topic(&topic, 1, &[]);
    let client = Client::builder().brokers(kafka.bootstrap()).property("statistics.interval.ms", "1");
    let client = client.build().expect("properties");
    run(async {
        let mut events = client.events();
        let producer = client.producer().expect("a producer");
        // One record each tenth of a second or so, until more was told than is kept.
        let mut sent = 0;
        loop {
            producer.send(ProducerRecord::to(&*topic).value("v")).await.expect("acknowledged");
            sent += 1;
            if sent % 100 == 0 {
                let mut late = client.events();
                if let ClientEvent::Statistics(told) = late.next().await.expect("an event")
                    && told.age > Duration::from_secs(4)
                {
                    break;
                }
            }
        }
        let first = events.next().await.expect("an event");
        assert!(matches!(first, ClientEvent::Missed { events: 1.. }), "{first:?}");
    });
}

#[test]
fn a_password_changes_under_a_running_consumer() {
    let Some(kafka) = Cluster::of(1).secure().proxied(46).start() else { return };
    let topic = topic_name("rotation");
    kafka.create_topic(&topic, 2, &[]);
    let addresses = kafka.bootstrap_proxied();
    let mut properties = crate::security::scram_of(&kafka, "alice", "alice-secret");
    properties.insert("bootstrap.servers".to_owned(), addresses);
    let client = Client::builder().properties(properties).build().expect("properties");
    run(async {
        let mut events = client.events();
        let mut consumer = client.consumer(&topic).topic(&topic).start().expect("a consumer");
        let produced = tokio::task::block_in_place(|| kafka.produce(&topic, records(20)));
        pull(&mut consumer, produced.len()).await;

        let root = Client::new(kafka.bootstrap()).expect("an address").admin().expect("an admin");
        let change = ScramChange::set("alice", ScramMechanism::Sha512, Secret::new("alice-secret-2"));
        root.alter_scram_users(vec![change]).await.expect("an answer").remove(0).expect("it is changed");
        kafka.proxies()[0].reset();
        let refused = until(&mut events, |event| match event {
            ClientEvent::Error { error, .. } if error.is_unauthorised() => Some(error.to_string()),
            _ => None,
        });
        let refused = refused.await;
        assert!(!refused.contains("alice-secret"), "{refused}");

        client.set_credentials("alice", Secret::new("alice-secret-2")).expect("it logs in with a password");
        let produced = tokio::task::block_in_place(|| kafka.produce(&topic, records(20)));
        pull(&mut consumer, produced.len()).await;
        // What is made later logs in with the new one as well.
        client.admin().expect("an admin").topics().await.expect("an answer");
        consumer.close().await.map_err(|error| error.error).expect("it ends in order");
    });
}

/// A token without a signature, as Kafka's development validator takes it.
fn token(lifetime: Duration) -> OAuthToken {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    let expires = now + lifetime;
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let claims = format!(r#"{{"sub":"alice","iat":{},"exp":{}}}"#, now.as_secs(), expires.as_secs());
    let value = format!("{}.{}.", part(r#"{"alg":"none"}"#.to_owned()), part(claims));
    OAuthToken::new(value, "alice", SystemTime::UNIX_EPOCH + Duration::from_secs(expires.as_secs()))
}

#[test]
fn tokens_of_a_callback_log_in_and_are_renewed_and_one_that_fails_is_asked_again() {
    let login = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";
    let jaas = format!(
        "listener.name.sasl_ssl.oauthbearer.sasl.jaas.config={login} required unsecuredLoginStringClaim_sub=\"admin\";"
    );
    let cluster = Cluster::of(1).secure().property(&jaas);
    let cluster = cluster.property("sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER");
    // The broker ends a connection whose token has expired and is not renewed.
    let Some(kafka) = cluster.property("connections.max.reauth.ms=600000").start() else { return };
    let topic = topic_name("tokens");
    kafka.create_topic(&topic, 2, &[]);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let client = Client::builder()
        .brokers(kafka.bootstrap_sasl())
        .security(Security::sasl_oauthbearer().ca_file(kafka.tls_file("ca.pem")))
        .oauth_token(move || {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                match number {
                    0 => Err("canary-8461: the endpoint is down"),
                    1 => panic!("canary-8461"),
                    _ => Ok(token(Duration::from_secs(20))),
                }
            }
        })
        .build()
        .expect("properties");
    run(async {
        let mut events = client.events();
        // It has no token at first, and waits.
        let producer = client.producer().expect("a producer");
        let mut reasons = Vec::new();
        let mut renewed = 0;
        while renewed == 0 {
            match events.next().await.expect("the client lives") {
                ClientEvent::TokenFailed { reason, .. } => reasons.push(reason),
                ClientEvent::TokenRenewed { lifetime, .. } => {
                    assert!(lifetime > Duration::from_secs(10), "{lifetime:?}");
                    renewed += 1;
                }
                ClientEvent::Error { error, .. } => assert!(!error.to_string().contains("canary"), "{error}"),
                _ => {}
            }
        }
        assert_eq!(reasons, ["the callback failed", "the callback panicked"]);
        producer.send(ProducerRecord::to(&*topic).value("v")).await.expect("acknowledged");
        let mut consumer = client.consumer(&topic).topic(&topic).start().expect("a consumer");
        pull(&mut consumer, 1).await;
        let produced = tokio::task::block_in_place(|| kafka.produce(&topic, records(20)));
        pull(&mut consumer, produced.len()).await;
        let shared = asked.load(Ordering::SeqCst);
        wait_until(PATIENCE, "another token to be asked for", || asked.load(Ordering::SeqCst) > shared);
        for role in [ClientRole::Membership, ClientRole::Fetch] {
            until(&mut events, |event| match event {
                ClientEvent::TokenRenewed { role: of, .. } if *of == role => Some(()),
                _ => None,
            })
            .await;
        }
        let produced = tokio::task::block_in_place(|| kafka.produce(&topic, records(20)));
        pull(&mut consumer, produced.len()).await;
        consumer.close().await.map_err(|error| error.error).expect("it ends in order");
    });
}

#[test]
fn groups_have_their_prefix_and_a_topic_elsewhere_is_read_there() {
    let Some(kafka) = Kafka::shared() else { return };
    let elsewhere = waterwheel::embedded::Cluster::start(1).expect("a cluster in this process");
    let (here, there) = (topic_name("here"), topic_name("there"));
    kafka.create_topic(&here, 1, &[]);
    elsewhere.create_topic(&there, 1).expect("a topic");
    let client = Client::builder()
        .brokers(kafka.bootstrap())
        .topic_brokers(&there, elsewhere.bootstrap_servers())
        .group_prefix("staging.")
        .build()
        .expect("properties");
    let both = client.consumer("both").topic(&here).topic(&there).start().map(drop).expect_err("two clusters");
    assert!(both.to_string().contains("are on different clusters; make one for each cluster"), "{both}");
    let letters = client.worker("both").topic(&here).dead_letter(waterwheel::DeadLetter::topic(&there));
    let letters = letters.handler(async |_: waterwheel::Message<Raw>| Ok::<(), waterwheel::Failure>(())).build();
    assert!(letters.map(drop).expect_err("two clusters").to_string().contains("are on different clusters"));
    run(async {
        let producer = client.for_topic(&there).producer().expect("a producer");
        producer.send(ProducerRecord::to(&*there).value("v")).await.expect("acknowledged");
        let mut consumer = client.consumer(&there).topic(&there).start().expect("a consumer");
        pull(&mut consumer, 1).await;
        consumer.close().await.map_err(|error| error.error).expect("it ends in order");

        tokio::task::block_in_place(|| kafka.produce(&here, records(1)));
        let mut consumer = client.consumer(&here).topic(&here).start().expect("a consumer");
        pull(&mut consumer, 1).await;
        consumer.close().await.map_err(|error| error.error).expect("it ends in order");
        let groups = client.admin().expect("an admin").groups().await.expect("an answer").groups;
        let names: Vec<_> =
            groups.iter().map(|group| group.name.as_str()).filter(|name| name.ends_with(&here)).collect();
        assert_eq!(names, [format!("staging.{here}")]);
    });
}
