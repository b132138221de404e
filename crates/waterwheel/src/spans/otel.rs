//! Spans by OpenTelemetry's conventions for messaging (in development; names as of 1.44), with W3C trace context from and to
//! records' headers. No attribute holds a key or a payload (R9).

use std::borrow::Cow;
use std::sync::Arc;

use opentelemetry::global::{self, BoxedSpan, BoxedTracer, ObjectSafeTracer};
use opentelemetry::trace::{
    Link, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
    TracerProvider,
};
use opentelemetry::{Context, ContextGuard, KeyValue};

use super::CUT_OFF;
use super::sends::Sends;
use crate::client::Outgoing;
use crate::record::{Record, TopicPartition};

/// The name that spans are told under.
const SCOPE: &str = "waterwheel";

pub(super) const PARENT: &str = "traceparent";
pub(super) const STATE: &str = "tracestate";

/// Makes spans of what workers and producers do. Cheap to clone.
///
/// For a worker ([`WorkerBuilder::spans`](crate::WorkerBuilder::spans)):
///
/// | span | kind | of | in the trace |
/// |---|---|---|---|
/// | `process TOPIC` | consumer | an attempt | a child of the record's `traceparent`; of a batch, a trace of its own with a link to each record's |
/// | `send TOPIC` | producer | a dead letter, until it is acknowledged | a child of the record's `traceparent` |
/// | `send TOPIC` | producer | an output of a [`Transform`](crate::Transform) | a child of its attempt's |
/// | `commit` | client | a commit, until it is answered | of its own |
///
/// While a handler is polled, its span is OpenTelemetry's current one: what it makes is a child of it. So is what a
/// producer sends in it that has the spans as an interceptor
/// ([`ProducerBuilder::interceptor`](crate::ProducerBuilder::interceptor)): it makes a span `send TOPIC` for each record,
/// until that is acknowledged, and writes its context into the record's `traceparent`, unless there is one already: such a
/// record goes on as it is, without a span. Dead letters keep the headers of their record; one without a `traceparent` gets
/// that of its letter's span. So does an output without one.
///
/// Of a worker that works [`exactly_once`](crate::WorkerBuilder::exactly_once), the spans of outputs and letters end when the
/// transaction that holds them is committed or aborted; until then each is kept, so that memory grows with
/// [`ExactlyOnce::records`](crate::ExactlyOnce::records). The commit of a transaction is a `commit`.
///
/// A span that fails has the attribute `error.type`: the class of the failure
/// ([`FailureClass::as_str`](crate::FailureClass::as_str)), Kafka's error code, or `cut_off`: its attempt was cut off, a
/// hand-over ended its transaction, or the worker was dropped. No attribute holds a key, a value, or the text of a handler's
/// error.
#[derive(Clone)]
pub struct Spans {
    tracer: Arc<BoxedTracer>,
    pub(super) sends: Arc<Sends>,
}

impl Spans {
    /// Of that provider.
    pub fn new<P>(provider: &P) -> Self
    where
        P: TracerProvider,
        P::Tracer: ObjectSafeTracer + Send + Sync + 'static,
    {
        Self::of(BoxedTracer::new(Box::new(provider.tracer(SCOPE))))
    }

    /// Of the provider that is the process's own when this is called.
    pub fn global() -> Self {
        Self::of(global::tracer(SCOPE))
    }

    fn of(tracer: BoxedTracer) -> Self {
        Self { tracer: Arc::new(tracer), sends: Arc::default() }
    }

    /// Of an attempt at those records.
    pub(crate) fn process<'a>(
        &self,
        group: &str,
        attempt: u32,
        records: impl ExactSizeIterator<Item = &'a Record>,
    ) -> Option<Span> {
        let count = records.len();
        let mut records = records.peekable();
        let first = *records.peek()?;
        let mut builder = start("process", first.topic(), SpanKind::Consumer, "process");
        let mut attributes = builder.attributes.take().unwrap_or_default();
        attributes.push(KeyValue::new("messaging.consumer.group.name", group.to_owned()));
        let parent = if count == 1 {
            attributes.push(KeyValue::new("messaging.destination.partition.id", first.partition().to_string()));
            attributes.push(KeyValue::new("messaging.kafka.offset", first.offset()));
            attributes.push(KeyValue::new("waterwheel.attempt", i64::from(attempt)));
            if first.value().is_none() {
                attributes.push(KeyValue::new("messaging.kafka.message.tombstone", true));
            }
            parent_of(first)
        } else {
            attributes.push(KeyValue::new("messaging.batch.message_count", i64::try_from(count).unwrap_or(i64::MAX)));
            builder.links = Some(records.filter_map(context_of).map(Link::with_context).collect());
            Context::new()
        };
        builder.attributes = Some(attributes);
        Some(self.begin(builder, &parent))
    }

    /// Of a letter about a record.
    pub(crate) fn letter(&self, record: &Record, letter: &mut Outgoing) -> Span {
        self.sent(letter, &parent_of(record))
    }

    /// Of what an attempt has made.
    pub(crate) fn output(&self, attempt: &Span, output: &mut Outgoing) -> Span {
        self.sent(output, &attempt.context)
    }

    /// Of a record, which gets its context unless it has one.
    fn sent(&self, record: &mut Outgoing, parent: &Context) -> Span {
        let span = self.begin(start("send", &record.topic, SpanKind::Producer, "send"), parent);
        if record.headers.iter().all(|(name, _)| **name != *PARENT.as_bytes())
            && let Some(parent) = traceparent(span.context.span().span_context())
        {
            record.headers.push((PARENT.as_bytes().into(), Some(parent.into_bytes().into())));
        }
        span
    }

    /// Of a commit of those partitions.
    pub(crate) fn commit<'a>(
        &self,
        group: &str,
        partitions: impl ExactSizeIterator<Item = &'a TopicPartition>,
    ) -> Span {
        let count = i64::try_from(partitions.len()).unwrap_or(i64::MAX);
        let mut topics: Vec<&str> = partitions.map(|partition| &*partition.topic).collect();
        topics.dedup();
        let mut builder = match topics[..] {
            [topic] => start("commit", topic, SpanKind::Client, "settle"),
            _ => start("commit", "", SpanKind::Client, "settle"),
        };
        let attributes = builder.attributes.get_or_insert_default();
        attributes.push(KeyValue::new("messaging.consumer.group.name", group.to_owned()));
        attributes.push(KeyValue::new("messaging.batch.message_count", count));
        self.begin(builder, &Context::new())
    }

    fn begin(&self, builder: SpanBuilder, parent: &Context) -> Span {
        Span { context: parent.with_span(self.span(builder, parent)), is_over: false }
    }

    pub(super) fn span(&self, builder: SpanBuilder, parent: &Context) -> BoxedSpan {
        self.tracer.build_with_context(builder, parent)
    }
}

/// A span that has begun; it ends with [`end`](Self::end), or, cut off, when it is dropped.
pub(crate) struct Span {
    context: Context,
    is_over: bool,
}

impl Span {
    /// Makes it the current one.
    pub(crate) fn enter(&self) -> ContextGuard {
        self.context.clone().attach()
    }

    /// It ends, badly where an error's kind is told.
    pub(crate) fn end(mut self, error: Option<&str>) {
        self.close(error);
    }

    fn close(&mut self, error: Option<&str>) {
        self.is_over = true;
        let span = self.context.span();
        if let Some(error) = error {
            span.set_attribute(KeyValue::new("error.type", error.to_owned()));
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if !self.is_over {
            self.close(Some(CUT_OFF));
        }
    }
}

/// A span of that operation.
pub(super) fn start(operation: &'static str, topic: &str, kind: SpanKind, of_type: &'static str) -> SpanBuilder {
    let mut attributes = vec![
        KeyValue::new("messaging.system", "kafka"),
        KeyValue::new("messaging.operation.name", operation),
        KeyValue::new("messaging.operation.type", of_type),
    ];
    let name = match topic {
        "" => Cow::Borrowed(operation),
        topic => {
            attributes.push(KeyValue::new("messaging.destination.name", topic.to_owned()));
            Cow::Owned(format!("{operation} {topic}"))
        }
    };
    SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes)
}

/// The record's context as a parent, whatever is current here.
fn parent_of(record: &Record) -> Context {
    context_of(record).map_or_else(Context::new, |context| Context::new().with_remote_span_context(context))
}

/// What a record's `traceparent` and `tracestate` say. A later version than 00 is read as far as it is like that, as the
/// specification asks.
fn context_of(record: &Record) -> Option<SpanContext> {
    let text = |name| record.header(name).and_then(|value| std::str::from_utf8(value).ok());
    let state = text(STATE).and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    parsed(text(PARENT)?, state)
}

pub(super) fn parsed(parent: &str, state: TraceState) -> Option<SpanContext> {
    let mut parts = parent.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_known = version.len() == 2 && version != "ff" && (version != "00" || parts.next().is_none());
    let is_hex = |part: &str, digits: usize| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_known || !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    Some(SpanContext::new(trace, span, flags, true, state)).filter(SpanContext::is_valid)
}

/// The context as a header has it; `None` for one that is of no trace.
pub(super) fn traceparent(of: &SpanContext) -> Option<String> {
    let (trace, span, flags) = (of.trace_id(), of.span_id(), of.trace_flags() & TraceFlags::SAMPLED);
    of.is_valid().then(|| format!("00-{trace}-{span}-{flags:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_specification_says() {
        const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read = |text: &str| parsed(text, TraceState::default());
        let context = read(GOOD).unwrap();
        assert!(context.is_remote() && context.is_sampled());
        assert_eq!(traceparent(&context).unwrap(), GOOD);
        assert!(read("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more").is_some(), "of a later version");
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333z-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }
}
