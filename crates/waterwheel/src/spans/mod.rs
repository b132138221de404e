//! Spans of attempts, sends and commits, where a program has OpenTelemetry. Without the feature `otel` the types are there,
//! and nobody can make one.

#[cfg(feature = "otel")]
mod otel;
#[cfg(feature = "otel")]
mod sends;
#[cfg(not(feature = "otel"))]
mod without;

/// The kind of error of what was given up before its end was known.
pub(crate) const CUT_OFF: &str = "cut_off";

#[cfg(feature = "otel")]
pub(crate) use self::otel::Span;
#[cfg(feature = "otel")]
pub use self::otel::Spans;
#[cfg(not(feature = "otel"))]
pub(crate) use self::without::{Span, Spans};
