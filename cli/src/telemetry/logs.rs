//! Log lines on stderr, for people or as JSON, and spans on their way to a collector.
//!
//! Leaves out: what is logged, what is traced. Invariant: without `OTEL_EXPORTER_OTLP_ENDPOINT` no span
//! is made for a collector; with it, spans reach the collector before the process ends. The span of a worker's whole
//! life is for its log alone: every lease is a trace of its own.

use super::LogFormat;
use glmeval_worker::agent::WORKER_SPAN;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// Names where spans go (OpenTelemetry's own variables; the exporter reads the others).
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
/// What an engine calls this process, and the attribute it goes under.
const ENGINE_NAMES: [(&str, &str); 4] = [
    ("SLURM_JOB_ID", "slurm.job.id"),
    ("SLURM_ARRAY_TASK_ID", "slurm.array.task.id"),
    ("POD_UID", "k8s.pod.uid"),
    ("POD_NAME", "k8s.pod.name"),
];

/// Sends what is left to the collector when it is dropped.
#[derive(Default)]
pub(crate) struct Flush(Option<SdkTracerProvider>);

impl Drop for Flush {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown()
        {
            crate::output::complain(&format!(
                "the last spans did not reach the collector: {error}"
            ));
        }
    }
}

/// Starts to log in `format` and to trace for a process of `role`; `RUST_LOG` says what is logged.
///
/// Spans are sent by a thread of their own over gRPC, which needs a runtime to be entered.
pub(crate) fn start(format: LogFormat, role: &str) -> Flush {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let colour = std::env::var_os("NO_COLOR").is_none()
        && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(colour).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let provider = provider(role);
    let spans = provider.as_ref().map(|provider| {
        let tracer = provider.tracer("glmeval");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false);
        layer.with_filter(filter_fn(|meta| {
            meta.is_span()
                && meta.name() != WORKER_SPAN
                && meta.target().starts_with("glmeval")
                && *meta.level() <= tracing::Level::INFO
        }))
    });
    tracing_subscriber::registry().with(spans).with(lines.with_filter(filter)).init();
    Flush(provider)
}

/// Sends spans to the collector that the environment names; `None` without one.
fn provider(role: &str) -> Option<SdkTracerProvider> {
    ENDPOINTS.iter().find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))?;
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build();
    let exporter = match exporter {
        Ok(exporter) => exporter,
        Err(error) => {
            crate::output::complain(&format!("no traces: {error}"));
            return None;
        }
    };
    let instance = format!("{}-{}", role, glmeval_common::rng::random_token());
    let mut attributes = vec![KeyValue::new("service.instance.id", instance)];
    attributes.push(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    for (variable, attribute) in ENGINE_NAMES {
        if let Ok(value) = std::env::var(variable) {
            attributes.push(KeyValue::new(attribute, value));
        }
    }
    let mut resource = Resource::builder().with_attributes(attributes);
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(format!("glmeval-{role}"));
    }
    let builder = SdkTracerProvider::builder().with_batch_exporter(exporter);
    Some(builder.with_resource(resource.build()).build())
}
