//! Configurations of topics, brokers and groups.

use std::collections::{BTreeSet, HashMap};
use std::ptr;

use rdkafka::bindings as sys;

use super::{Asker, Objects, WAIT, dry_run};
use crate::client::librdkafka::errors;
use crate::client::librdkafka::list::c_string;
use crate::client::{ConfigChange, ConfigChanges, ConfigEntry, ConfigResource, ConfigSource, Mode};
use crate::error::KafkaError;

type Resources = Objects<sys::rd_kafka_ConfigResource_t>;
type Told<T> = HashMap<ConfigResource, Result<T, KafkaError>>;

impl Asker {
    pub(super) fn configs(
        &self,
        of: &[ConfigResource],
    ) -> Result<Vec<Result<Vec<ConfigEntry>, KafkaError>>, KafkaError> {
        // A resource that comes twice makes the whole question invalid.
        let once: BTreeSet<&ConfigResource> = of.iter().collect();
        let mut told = Told::new();
        for group in in_questions(once.into_iter(), |resource| resource) {
            let mut resources = Resources::freed_by(sys::rd_kafka_ConfigResource_destroy);
            for resource in group {
                resources.add(new_resource(resource)?);
            }
            let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
            let event = self.request(kind, WAIT, |rk, options, queue| {
                let (resources, count) = resources.array();
                // SAFETY: all pointers are live; the resources are copied.
                unsafe { sys::rd_kafka_DescribeConfigs(rk, resources, count, options, queue) }
            })?;
            // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
            unsafe {
                let mut count = 0;
                let result = sys::rd_kafka_event_DescribeConfigs_result(event.as_ptr());
                let answers = sys::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
                read(answers, count, &mut told, |resource| entries(resource));
            }
        }
        Ok(in_order(of.iter(), &told))
    }

    pub(super) fn alter_configs(
        &self,
        changes: &[ConfigChanges],
        mode: Mode,
    ) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        let mut told = Told::new();
        for group in in_questions(changes.iter(), |changes| &changes.resource) {
            let mut resources = Resources::freed_by(sys::rd_kafka_ConfigResource_destroy);
            for changes in group {
                let resource = new_resource(&changes.resource)?;
                resources.add(resource);
                for (name, change) in &changes.changes {
                    add_change(resource, name, change)?;
                }
            }
            let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS;
            let event = self.request(kind, WAIT, |rk, options, queue| {
                let (resources, count) = resources.array();
                // SAFETY: all pointers are live; the resources are copied. The option is one of this question's.
                unsafe {
                    dry_run(options, mode);
                    sys::rd_kafka_IncrementalAlterConfigs(rk, resources, count, options, queue);
                }
            })?;
            // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
            unsafe {
                let mut count = 0;
                let result = sys::rd_kafka_event_IncrementalAlterConfigs_result(event.as_ptr());
                let answers = sys::rd_kafka_IncrementalAlterConfigs_result_resources(result, &raw mut count);
                read(answers, count, &mut told, |_| ());
            }
        }
        Ok(in_order(changes.iter().map(|changes| &changes.resource), &told))
    }
}

/// What may be asked in one question: a broker has to be asked itself, and alone; the others may be asked together.
fn in_questions<'a, T: 'a>(all: impl Iterator<Item = T>, resource: impl Fn(&T) -> &ConfigResource) -> Vec<Vec<T>> {
    let (brokers, together): (Vec<T>, Vec<T>) = all.partition(|of| matches!(resource(of), ConfigResource::Broker(_)));
    let mut questions: Vec<Vec<T>> = brokers.into_iter().map(|of| vec![of]).collect();
    if !together.is_empty() {
        questions.push(together);
    }
    questions
}

fn new_resource(resource: &ConfigResource) -> Result<*mut sys::rd_kafka_ConfigResource_t, KafkaError> {
    use sys::rd_kafka_ResourceType_t as raw;
    let (kind, name) = match resource {
        ConfigResource::Topic(name) => (raw::RD_KAFKA_RESOURCE_TOPIC, name.clone()),
        ConfigResource::Group(name) => (raw::RD_KAFKA_RESOURCE_GROUP, name.clone()),
        ConfigResource::Broker(id) => (raw::RD_KAFKA_RESOURCE_BROKER, id.to_string()),
    };
    let name = c_string(&name)?;
    // SAFETY: the name ends in NUL and is copied.
    let made = unsafe { sys::rd_kafka_ConfigResource_new(kind, name.as_ptr()) };
    if made.is_null() {
        return Err(errors::error(errors::INVALID_ARGUMENT, resource.to_string()));
    }
    Ok(made)
}

fn add_change(
    resource: *mut sys::rd_kafka_ConfigResource_t,
    name: &str,
    change: &ConfigChange,
) -> Result<(), KafkaError> {
    use sys::rd_kafka_AlterConfigOpType_t as raw;
    let (operation, value) = match change {
        ConfigChange::Set(value) => (raw::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET, Some(value)),
        ConfigChange::Unset => (raw::RD_KAFKA_ALTER_CONFIG_OP_TYPE_DELETE, None),
        ConfigChange::Append(words) => (raw::RD_KAFKA_ALTER_CONFIG_OP_TYPE_APPEND, Some(words)),
        ConfigChange::Subtract(words) => (raw::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SUBTRACT, Some(words)),
    };
    let c_name = c_string(name)?;
    let value = value.map(|value| c_string(value)).transpose()?;
    let value = value.as_ref().map_or(ptr::null(), |value| value.as_ptr());
    // SAFETY: the resource is live, both texts end in NUL and are copied; the error object is ours.
    unsafe {
        let refused = sys::rd_kafka_ConfigResource_add_incremental_config(resource, c_name.as_ptr(), operation, value);
        errors::take(refused, name)
    }
}

/// What `of` makes of each resource of an answer, or the resource's error.
///
/// # Safety
/// `answers` points to `count` live resources; `of` is sound with them.
unsafe fn read<T>(
    answers: *mut *const sys::rd_kafka_ConfigResource_t,
    count: usize,
    told: &mut Told<T>,
    mut of: impl FnMut(*const sys::rd_kafka_ConfigResource_t) -> T,
) {
    for i in 0..count {
        // SAFETY: as the caller says.
        let (kind, name, code, said, answer) = unsafe {
            let answer = *answers.add(i);
            (
                errors::raw::rd_kafka_ConfigResource_type(answer),
                errors::text(sys::rd_kafka_ConfigResource_name(answer)),
                errors::raw::rd_kafka_ConfigResource_error(answer),
                errors::text(sys::rd_kafka_ConfigResource_error_string(answer)),
                answer,
            )
        };
        let resource = match kind {
            TOPIC => ConfigResource::Topic(name),
            GROUP => ConfigResource::Group(name),
            // Nothing else was asked for.
            _ => ConfigResource::Broker(name.parse().unwrap_or(-1)),
        };
        let outcome = errors::check_said(code, &resource.to_string(), &said).map(|()| of(answer));
        told.insert(resource, outcome);
    }
}

fn in_order<'a, T: Clone>(
    asked: impl Iterator<Item = &'a ConfigResource>,
    told: &Told<T>,
) -> Vec<Result<T, KafkaError>> {
    let missing = |of: &ConfigResource| {
        let said = format!("the answer lacks {of}");
        Err(errors::error(errors::BAD_ANSWER, said))
    };
    asked.map(|resource| told.get(resource).cloned().unwrap_or_else(|| missing(resource))).collect()
}

/// # Safety
/// The resource is live.
unsafe fn entries(resource: *const sys::rd_kafka_ConfigResource_t) -> Vec<ConfigEntry> {
    // SAFETY: as the caller says; all that is read lives with the resource.
    let mut entries: Vec<ConfigEntry> = unsafe {
        let mut count = 0;
        let all = sys::rd_kafka_ConfigResource_configs(resource, &raw mut count);
        let entry = |i| {
            let entry = *all.add(i);
            let value = sys::rd_kafka_ConfigEntry_value(entry);
            ConfigEntry {
                name: errors::text(sys::rd_kafka_ConfigEntry_name(entry)),
                value: (!value.is_null()).then(|| errors::text(value)),
                source: source(errors::raw::rd_kafka_ConfigEntry_source(entry)),
                is_read_only: sys::rd_kafka_ConfigEntry_is_read_only(entry) == 1,
                is_sensitive: sys::rd_kafka_ConfigEntry_is_sensitive(entry) == 1,
            }
        };
        (0..count).map(entry).collect()
    };
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    entries
}

/// Kafka's numbers.
fn source(of: i32) -> ConfigSource {
    match of {
        1 => ConfigSource::Topic,
        2 => ConfigSource::Broker,
        3 => ConfigSource::AllBrokers,
        4 => ConfigSource::BrokerFile,
        5 => ConfigSource::Default,
        8 => ConfigSource::Group,
        _ => ConfigSource::Unknown,
    }
}

const TOPIC: i32 = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC as i32;
const GROUP: i32 = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_GROUP as i32;
