//! Delays against retention: a record that is deleted before it is due never starts.

use std::time::Duration;

use waterwheel::admin::{Admin, ConfigEntry, ConfigResource};

use super::check::{Findings, Level};
use super::subjects::Subjects;
use crate::exit::Failure;
use crate::words::about;

pub(super) async fn look(admin: &Admin, subjects: &Subjects, findings: &mut Findings) -> Result<(), Failure> {
    if subjects.delays.is_empty() {
        return Ok(());
    }
    let resources = subjects.delays.keys().map(|topic| ConfigResource::Topic(topic.clone())).collect();
    let configs = admin.configs(resources).await?;
    for ((topic, delay), config) in subjects.delays.iter().zip(configs) {
        // A topic that is missing, or may not be described, is told as that.
        if let Some(kept) = config.ok().as_deref().and_then(retention).filter(|kept| *kept <= *delay) {
            let said = format!("keeps records for {}, and they start after {}", about(kept), about(*delay));
            let remedy = "raise retention.ms, or make the delay shorter";
            findings.add(format!("topic {topic}"), Level::Warning, said, remedy);
        }
    }
    Ok(())
}

/// How long a topic keeps its records at least; `None` where it deletes none for their age.
fn retention(config: &[ConfigEntry]) -> Option<Duration> {
    let value = |name: &str| config.iter().find(|entry| entry.name == name)?.value.as_deref();
    if !value("cleanup.policy")?.contains("delete") {
        return None;
    }
    value("retention.ms")?.parse().ok().map(Duration::from_millis)
}
