//! Spans of what producers send, as an interceptor.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use opentelemetry::global::BoxedSpan;
use opentelemetry::trace::{Span as _, SpanId, SpanKind, Status, TraceState};
use opentelemetry::{Context, KeyValue};

use super::otel::{PARENT, Spans, parsed, start, traceparent};
use crate::producer::{Delivered, Interceptor, ProducerRecord, SendFailure};

/// The spans of records that are not answered yet, by the id that their records carry. No more than the producer has under
/// way.
#[derive(Default)]
pub(super) struct Sends(Mutex<HashMap<SpanId, BoxedSpan>>);

impl Interceptor for Spans {
    fn before(&self, record: ProducerRecord) -> ProducerRecord {
        if parent_in(&record).is_some() {
            return record;
        }
        let parent = Context::current();
        let span = self.span(start("send", record.topic(), SpanKind::Producer, "send"), &parent);
        let Some(header) = traceparent(span.span_context()) else { return record };
        let id = span.span_context().span_id();
        self.sends.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, span);
        record.header(PARENT, header)
    }

    fn after(&self, record: &ProducerRecord, outcome: Result<&Delivered, &SendFailure>) {
        let parent = parent_in(record).and_then(|text| parsed(std::str::from_utf8(text?).ok()?, TraceState::default()));
        let Some(parent) = parent else { return };
        let span = self.sends.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&parent.span_id());
        let Some(mut span) = span else { return };
        match outcome {
            Ok(at) => {
                span.set_attribute(KeyValue::new("messaging.destination.partition.id", at.partition.to_string()));
                if let Some(offset) = at.offset {
                    span.set_attribute(KeyValue::new("messaging.kafka.offset", offset));
                }
            }
            Err(failure) => {
                span.set_attribute(KeyValue::new("error.type", failure.error().code().to_string()));
                span.set_status(Status::error(""));
            }
        }
        span.end();
    }
}

/// The value of a record's `traceparent`, if it has one.
fn parent_in(record: &ProducerRecord) -> Option<Option<&[u8]>> {
    record.headers().find(|(name, _)| *name == PARENT.as_bytes()).map(|(_, value)| value)
}
