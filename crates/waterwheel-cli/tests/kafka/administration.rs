//! The library's admin: what it makes and says is so by Kafka's own tools; rights that are missing are told item by item.

use std::collections::BTreeMap;

use waterwheel::admin::{
    Acl, AclFilter, AclTarget, Admin, ConfigChanges, ConfigResource, ConfigSource, DeleteBelow, Isolation, Mode,
    NewPartitions, NewTopic, OffsetSpec, Operation, ScramChange, ScramMechanism,
};
use waterwheel::config::Secret;
use waterwheel::{Client, KafkaError, TopicPartition};

use crate::support::{Cluster, Kafka, PATIENCE, run, topic_name, wait_until};

fn admin(kafka: &Kafka) -> Admin {
    let client = Client::new(kafka.bootstrap()).expect("an address");
    client.admin().expect("an admin").deadline(PATIENCE.min(std::time::Duration::from_secs(30)))
}

fn codes<T>(outcomes: Vec<Result<T, KafkaError>>) -> Vec<Result<T, i32>> {
    outcomes.into_iter().map(|outcome| outcome.map_err(|error| error.code())).collect()
}

/// What `kafka-configs` says was set for a topic.
fn configs_by_tool(kafka: &Kafka, topic: &str) -> BTreeMap<String, String> {
    let told = kafka.tool("configs", &["--describe", "--entity-type", "topics", "--entity-name", topic]);
    let set = told.lines().filter_map(|line| line.trim().split_once(" sensitive=")?.0.split_once('='));
    set.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// What `kafka-get-offsets` says: `topic:partition:offset` a line.
fn offsets_by_tool(kafka: &Kafka, topic: &str, time: &str) -> BTreeMap<i32, i64> {
    let told = kafka.tool("get-offsets", &["--topic", topic, "--time", time]);
    let rows = told.lines().filter_map(|line| line.strip_prefix(topic)?.strip_prefix(':')?.split_once(':'));
    rows.map(|(n, offset)| (n.parse().expect("a number"), offset.parse().expect("a number"))).collect()
}

#[test]
fn kafkas_own_tools_see_what_admin_makes() {
    let Some(kafka) = Kafka::shared() else { return };
    if !Kafka::has_tools() {
        return;
    }
    let admin = admin(kafka);
    let (topic, other) = (topic_name("admin"), topic_name("admin-other"));
    let new = NewTopic::new(&topic).partitions(2).config("retention.ms", "60000").config("cleanup.policy", "compact");
    let made = run(admin.create_topics(vec![new, NewTopic::new(&other)], Mode::Execute)).expect("an answer");
    assert_eq!(codes(made), [Ok(()), Ok(())]);
    let described = || kafka.tool("topics", &["--describe", "--topic", &topic]);
    wait_until(PATIENCE, "the tool to see the topic", || described().contains("PartitionCount: 2"));
    let set = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    assert_eq!(configs_by_tool(kafka, &topic), set(&[("cleanup.policy", "compact"), ("retention.ms", "60000")]));

    let resource = ConfigResource::Topic(topic.clone());
    let changes = ConfigChanges::of(resource.clone())
        .unset("retention.ms")
        .append("cleanup.policy", "delete")
        .set("max.message.bytes", "4096");
    let changed = run(admin.alter_configs(vec![changes], Mode::Execute)).expect("an answer");
    assert_eq!(codes(changed), [Ok(())]);
    let expected = set(&[("cleanup.policy", "compact,delete"), ("max.message.bytes", "4096")]);
    wait_until(PATIENCE, "the tool to see the change", || configs_by_tool(kafka, &topic) == expected);
    let told = run(admin.configs(vec![resource])).expect("an answer").remove(0).expect("configurations");
    let of_topic = told.into_iter().filter(|entry| entry.source == ConfigSource::Topic);
    let of_topic: BTreeMap<_, _> = of_topic.map(|entry| (entry.name, entry.value.unwrap_or_default())).collect();
    assert_eq!(of_topic, expected);

    let more = vec![NewPartitions::up_to(&topic, 3)];
    assert_eq!(codes(run(admin.create_partitions(more, Mode::Execute)).expect("an answer")), [Ok(())]);
    wait_until(PATIENCE, "the tool to see the partition", || described().contains("PartitionCount: 3"));

    kafka.produce(&other, (0..10).map(|n| (None, format!("v{n}"))));
    let place = TopicPartition::new(other.as_str(), 0);
    let deleted = run(admin.delete_records(vec![(place.clone(), DeleteBelow::Offset(4))])).expect("an answer");
    assert_eq!(codes(deleted), [Ok(4)]);
    assert_eq!(offsets_by_tool(kafka, &other, "-2")[&0], 4);
    let asked = vec![
        (place.clone(), OffsetSpec::Earliest),
        (place.clone(), OffsetSpec::Latest),
        (place.clone(), OffsetSpec::MaxTimestamp),
    ];
    let found = run(admin.find_offsets(asked, Isolation::ReadCommitted)).expect("an answer");
    let found: Vec<_> = found.into_iter().map(|found| found.expect("an offset").offset).collect();
    let by_tool = offsets_by_tool(kafka, &other, "-3");
    assert_eq!(found, [Some(4), Some(offsets_by_tool(kafka, &other, "-1")[&0]), by_tool.get(&0).copied()]);

    assert_eq!(codes(run(admin.delete_topics(vec![topic.clone(), other])).expect("an answer")), [Ok(()), Ok(())]);
    wait_until(PATIENCE, "the tool to see no topic", || !kafka.tool("topics", &["--list"]).contains(&topic));
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_sent() {
    // Nobody listens there: an answer can only come from this side.
    let admin = Client::new("127.0.0.1:9").expect("an address").admin().expect("an admin");
    let said = |outcome: Result<(), waterwheel::Error>| outcome.expect_err("it cannot be").to_string();
    let create = |topics: Vec<NewTopic>| said(run(admin.create_topics(topics, Mode::DryRun)).map(drop));
    assert!(create(vec![NewTopic::new("a/b")]).contains("\"a/b\" holds '/'"));
    assert!(create(vec![NewTopic::new("a"), NewTopic::new("a")]).starts_with("a: is named twice"));
    assert!(create(vec![NewTopic::new("a").partitions(0)]).contains("at least one partition"));
    assert!(create(vec![NewTopic::new("a").partitions(1).replicas(vec![vec![1]])]).contains("leave out the numbers"));
    assert!(create(vec![NewTopic::new("a").replicas(vec![vec![1, 1]])]).contains("named twice"));
    assert!(said(run(admin.delete_topics(vec![String::new()])).map(drop)).contains("empty"));
    let records = vec![(TopicPartition::new("a", 0), DeleteBelow::Offset(-1))];
    assert!(said(run(admin.delete_records(records)).map(drop)).contains("negative"));
    let nothing = vec![ConfigChanges::of(ConfigResource::Topic("a".to_owned()))];
    assert!(said(run(admin.alter_configs(nothing, Mode::Execute)).map(drop)).contains("no change is named"));
    let rule = Acl::allow("alice", Operation::Read, AclTarget::Topic("a".to_owned()));
    assert!(said(run(admin.create_acls(vec![rule])).map(drop)).contains("write User:name"));
    let weak = ScramChange::set("alice", ScramMechanism::Sha256, Secret::new("canary")).iterations(10);
    let weak = said(run(admin.alter_scram_users(vec![weak])).map(drop));
    assert!(weak.contains("4096 to 16384") && !weak.contains("canary"), "{weak}");
}

/// The rules of a principal, by `kafka-acls`.
fn rules_by_tool(kafka: &Kafka, principal: &str) -> Vec<String> {
    let told = kafka.tool("acls", &["--list", "--principal", principal]);
    let mut rules: Vec<_> =
        told.lines().map(str::trim).filter(|line| line.starts_with("(principal=")).map(str::to_owned).collect();
    rules.sort();
    rules
}

#[test]
fn rules_and_users_are_what_kafkas_own_tools_see_and_missing_rights_are_told_item_by_item() {
    let cluster = Cluster::of(1).secure().property("super.users=User:ANONYMOUS");
    let cluster = cluster.property("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer");
    let Some(kafka) = cluster.start() else { return };
    let root = admin(&kafka);
    let user = "User:bob";
    let topic = |name: &str| AclTarget::Topic(name.to_owned());
    let rules = vec![
        Acl::allow(user, Operation::Create, topic("bobs-")).prefixed(),
        Acl::allow(user, Operation::Read, topic("shown")),
        Acl::deny(user, Operation::Delete, topic("bobs-kept")).from_host("127.0.0.1"),
        Acl::allow(user, Operation::Describe, AclTarget::Group("readers".to_owned())),
        Acl::allow(user, Operation::DescribeConfigs, AclTarget::Cluster),
    ];
    assert!(run(root.create_acls(rules.clone())).expect("an answer").iter().all(Result::is_ok));
    wait_until(PATIENCE, "the tool to see the rules", || rules_by_tool(&kafka, user).len() == rules.len());
    let told = rules_by_tool(&kafka, user);
    for part in ["operation=CREATE, permissionType=ALLOW", "host=127.0.0.1, operation=DELETE, permissionType=DENY"] {
        assert!(told.iter().any(|rule| rule.contains(part)), "{part}: {told:?}");
    }
    let mut expected = rules.clone();
    expected.sort();
    assert_eq!(run(root.acls(AclFilter::all().principal(user))).expect("rules"), expected);
    let concerning = run(root.acls(AclFilter::concerning(topic("bobs-kept")))).expect("rules");
    assert_eq!(concerning.len(), 2, "{concerning:?}");
    assert_eq!(run(root.acls(AclFilter::named(topic("shown")))).expect("rules"), [rules[1].clone()]);
    assert_eq!(run(root.acls(AclFilter::exactly(&rules[4]))).expect("rules"), [rules[4].clone()]);

    // A user of no rights but those.
    let change = ScramChange::set("bob", ScramMechanism::Sha512, Secret::new("bob-secret")).iterations(5_000);
    let gone = ScramChange::delete("nobody", ScramMechanism::Sha256);
    let changed = run(root.alter_scram_users(vec![change, gone])).expect("an answer");
    assert_eq!(codes(changed), [Ok(()), Err(91)]);
    let users = || run(root.scram_users(Some(vec!["bob".to_owned(), "nobody".to_owned()]))).expect("an answer");
    wait_until(PATIENCE, "the user to be there", || users()[0].is_ok());
    let mut told = users();
    assert_eq!(told.remove(1).expect_err("nobody").code(), 91);
    assert_eq!(told.remove(0).expect("a user").credentials, [(ScramMechanism::Sha512, 5_000)]);
    let by_tool = kafka.tool("configs", &["--describe", "--entity-type", "users", "--entity-name", "bob"]);
    assert!(by_tool.contains("SCRAM-SHA-512=iterations=5000"), "{by_tool}");
    let all = run(root.scram_users(None)).expect("an answer");
    let names: Vec<_> = all.into_iter().map(|user| user.expect("a user").name).collect();
    assert_eq!(names, ["alice", "bob"]);

    run(root.create_topics(vec![NewTopic::new("shown"), NewTopic::new("hidden")], Mode::Execute)).expect("topics");
    let bob = Client::builder().properties(crate::security::scram_of(&kafka, "bob", "bob-secret")).build();
    let bob = bob.expect("properties").admin().expect("an admin");
    let wanted = vec![NewTopic::new("bobs-one"), NewTopic::new("not-his"), NewTopic::new("bobs-kept")];
    let made = run(bob.create_topics(wanted, Mode::Execute)).expect("an answer");
    assert!(made[1].as_ref().expect_err("no right").is_unauthorised(), "{made:?}");
    assert_eq!(codes(made), [Ok(()), Err(29), Ok(())]);
    let seen = |names: &[&str]| run(bob.describe_topics(names.iter().map(|name| (*name).to_owned()).collect()));
    let told = seen(&["hidden", "shown"]).expect("an answer");
    assert_eq!((told[0].as_ref().expect_err("no right").code(), told[1].is_ok()), (29, true), "{told:?}");
    let deleted = run(bob.delete_topics(vec!["hidden".to_owned(), "bobs-kept".to_owned()])).expect("an answer");
    assert!(deleted.iter().all(|outcome| outcome.as_ref().is_err_and(KafkaError::is_unauthorised)), "{deleted:?}");
    let asked = ["shown", "hidden"].map(|name| ConfigResource::Topic(name.to_owned()));
    let configs = run(bob.configs(asked.into())).expect("an answer");
    assert!(configs.iter().all(|outcome| outcome.as_ref().is_err_and(KafkaError::is_unauthorised)), "{configs:?}");
    // librdkafka 2.12.1 drops the refusal of this question; at least nothing is told.
    assert_eq!(run(bob.acls(AclFilter::all())).unwrap_or_default(), []);
    let refused = run(bob.alter_scram_users(vec![ScramChange::delete("alice", ScramMechanism::Sha256)]));
    let refused = refused.map(|mut outcomes| outcomes.remove(0));
    assert!(!matches!(refused, Ok(Ok(()))), "a user without rights changed another one");

    let deleted = run(root.delete_acls(vec![
        AclFilter::all().principal(user).operation(Operation::Create),
        AclFilter::named(topic("nothing")),
    ]));
    let deleted = deleted.expect("an answer");
    assert_eq!(codes(deleted), [Ok(vec![rules[0].clone()]), Ok(vec![])]);
    wait_until(PATIENCE, "the tool to see that a rule went", || rules_by_tool(&kafka, user).len() == rules.len() - 1);
    run(root.alter_scram_users(vec![ScramChange::delete("bob", ScramMechanism::Sha512)])).expect("an answer");
    wait_until(PATIENCE, "the user to be gone", || users()[0].is_err());
}
