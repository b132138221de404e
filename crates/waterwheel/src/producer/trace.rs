//! W3C trace context in records' headers (<https://www.w3.org/TR/trace-context/>).

use super::record::ProducerRecord;
use super::watch::Interceptor;

/// The place of a send in a trace: what goes into a record's headers `traceparent` and `tracestate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent {
    parent: String,
    state: Option<String>,
}

impl TraceParent {
    /// A place as `traceparent` has it: `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, lower case, neither id all
    /// zeros. `None` for anything else.
    pub fn new(traceparent: impl Into<String>) -> Option<Self> {
        let parent = traceparent.into();
        let parts: Vec<&str> = parent.split('-').collect();
        let [version, trace, span, flags] = parts[..] else { return None };
        let is_hex = |part: &str, digits: usize| {
            part.len() == digits && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let is_id = |part: &str, digits| is_hex(part, digits) && part.bytes().any(|b| b != b'0');
        let valid = version == "00" && is_id(trace, 32) && is_id(span, 16) && is_hex(flags, 2);
        valid.then_some(Self { parent, state: None })
    }

    /// With a vendor's `tracestate`.
    #[must_use]
    pub fn with_state(mut self, tracestate: impl Into<String>) -> Self {
        self.state = Some(tracestate.into());
        self
    }
}

/// The interceptor behind [`ProducerBuilder::trace_context`](crate::ProducerBuilder::trace_context).
pub(super) struct TraceContext<F>(pub(super) F);

impl<F: Fn() -> Option<TraceParent> + Send + Sync + 'static> Interceptor for TraceContext<F> {
    fn before(&self, record: ProducerRecord) -> ProducerRecord {
        let Some(TraceParent { parent, state }) = (self.0)() else { return record };
        let record = record.without_header(PARENT).without_header(STATE).header(PARENT, parent);
        match state {
            Some(state) => record.header(STATE, state),
            None => record,
        }
    }
}

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT_OF_SPEC: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_no_trace_parent_is_refused() {
        assert!(TraceParent::new(PARENT_OF_SPEC).is_some());
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-00",
        ] {
            assert_eq!(TraceParent::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_context_replaces_an_older_one_and_leaves_the_rest() {
        let copied =
            || ProducerRecord::to("t").header("traceparent", "old").header("a", "1").header("tracestate", "old");
        let headers = |record: &ProducerRecord| -> Vec<(String, String)> {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            record.headers().map(|(name, value)| (text(name), text(value.unwrap()))).collect()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let parent = TraceParent::new(PARENT_OF_SPEC);
        let sent = TraceContext(move || parent.clone().map(|p| p.with_state("v=1"))).before(copied());
        assert_eq!(headers(&sent), [pair("a", "1"), pair(PARENT, PARENT_OF_SPEC), pair(STATE, "v=1")]);
        assert_eq!(headers(&TraceContext(|| None).before(copied())).len(), 3, "no context: the record as it is");
    }
}
