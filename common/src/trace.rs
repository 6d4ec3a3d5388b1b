//! Traces across processes: a span's W3C `traceparent`, and spans that belong under one from elsewhere.
//!
//! Leaves out: exporting spans (cli). Invariant: without an exporter every text here is empty, nothing is
//! allocated, and what arrives is never trusted: a text that is no `traceparent` is as good as none.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The span as the next process is told of it (W3C Trace Context, version 00); empty without traces.
pub fn traceparent(span: &Span) -> String {
    let context = span.context();
    let span = context.span();
    let of = span.span_context();
    if !of.is_valid() {
        return String::new();
    }
    format!("00-{}-{}-{:02x}", of.trace_id(), of.span_id(), of.trace_flags().to_u8())
}

/// Puts `span`, which nobody has entered yet, under the span that `traceparent` names.
pub fn set_parent(span: &Span, traceparent: &str) {
    if let Some(parent) = parse(traceparent) {
        // The one error is a span that no exporter sees; it needs no parent.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

/// Says that `span` has to do with the span that `traceparent` names, which is of another trace.
pub fn link(span: &Span, traceparent: &str) {
    if let Some(other) = parse(traceparent) {
        span.add_link(other);
    }
}

fn parse(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00" || (trace.len(), span.len(), flags.len()) != (32, 16, 2) {
        return None;
    }
    let trace = TraceId::from_hex(trace).ok()?;
    let span = SpanId::from_hex(span).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_traceparent_names_no_span() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(parse(good).is_some());
        for text in ["", "00", "00-0-0-01", "zz", &good.replace("00-", "01-"), &good[..40]] {
            assert!(parse(text).is_none(), "{text}");
        }
        let nobody = format!("00-{}-{}-01", "0".repeat(32), "0".repeat(16));
        assert!(parse(&nobody).is_none());
    }

    #[test]
    fn without_an_exporter_a_span_has_no_traceparent() {
        assert_eq!(traceparent(&tracing::info_span!("unit")), "");
    }
}
