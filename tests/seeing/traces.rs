//! Spans of real processes at a collector in the test: one trace per unit, across processes.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use crate::world::{PATIENCE, World};
use glmeval_tests::glmeval::{Coordinator, Running, command, succeeds};
use glmeval_tests::jobs::write_long_job;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A span, and the service it came from.
type Seen = (String, Span);

/// Keeps every span it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Seen>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let service = attributes.iter().find(|a| a.key == "service.name");
            let service = format!("{:?}", service.map(|a| a.value.clone()));
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let seen = spans.map(|span| (service.clone(), span));
            self.0.lock().unwrap().extend(seen);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Starts to listen; returns its endpoint.
    async fn start() -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self::default();
        let service = TraceServiceServer::new(collector.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (collector, endpoint)
    }

    fn named(&self, name: &str) -> Vec<Seen> {
        let seen = self.0.lock().unwrap();
        seen.iter().filter(|(_, span)| span.name == name).cloned().collect()
    }
}

fn traced(folder: &Path, arguments: &[&str], endpoint: &str) -> Running {
    let mut command = command(folder, arguments);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    Running::start(command)
}

#[tokio::test]
async fn a_unit_is_one_trace_across_processes_and_the_last_spans_arrive_after_sigterm() {
    let (collector, endpoint) = Collector::start().await;
    let folder = tempfile::tempdir().unwrap();
    write_long_job(folder.path(), 24, 8);
    let listen = ["coordinator", "--listen", "127.0.0.1:0", "--store", "store"];
    let mut process = traced(folder.path(), &listen, &endpoint);
    let line = process.line_with("listens on ").await;
    let address = line.rsplit(' ').next().unwrap().to_owned();
    let coordinator = Coordinator { process, address: address.clone() };
    succeeds(folder.path(), &["submit", "job.toml", "--coordinator", &address]).await;
    let work = ["worker", "--coordinator", &address, "--store", "store", "--until-idle"];
    let worker = traced(folder.path(), &work, &endpoint);
    assert_eq!(worker.exit().await.0, Some(0));
    coordinator.process.signal("TERM").await;
    let ended = tokio::time::timeout(PATIENCE, coordinator.process.exit()).await;
    assert_eq!(ended.unwrap().0, Some(0));

    let jobs = collector.named("job");
    let [(_, job)] = &jobs[..] else { panic!("{} spans of the job", jobs.len()) };
    let leases: BTreeMap<Vec<u8>, Seen> =
        collector.named("lease").into_iter().map(|seen| (seen.1.span_id.clone(), seen)).collect();
    let units = collector.named("unit");
    assert!(units.len() >= 5 && leases.len() == units.len(), "{} {}", units.len(), leases.len());
    for (service, unit) in &units {
        let (from, lease) = &leases[&unit.parent_span_id];
        assert!(service.contains("glmeval-worker") && from.contains("glmeval-coordinator"));
        assert_eq!(lease.trace_id, unit.trace_id);
        assert!(lease.parent_span_id.is_empty(), "one trace per unit");
        assert_ne!(lease.trace_id, job.trace_id);
        assert_eq!(lease.links[0].trace_id, job.trace_id);
        assert_eq!(lease.links[0].span_id, job.span_id);
    }
    for name in ["read", "tokenize", "forward", "encode", "commit", "report"] {
        let spans = collector.named(name);
        assert!(spans.len() >= 3, "{name}: {}", spans.len());
        for (_, span) in &spans {
            let parent = units.iter().find(|(_, unit)| unit.span_id == span.parent_span_id);
            let parent = parent.unwrap_or_else(|| panic!("{name} has no unit above it"));
            assert_eq!(parent.1.trace_id, span.trace_id, "{name}");
        }
    }
    let commits = collector.named("commit");
    let puts = collector.named("put");
    let below = |put: &Seen| commits.iter().any(|(_, of)| of.span_id == put.1.parent_span_id);
    assert!(puts.iter().filter(|put| below(put)).count() >= 3, "{} puts", puts.len());
}

#[tokio::test]
async fn logs_are_json_lines_with_the_unit_they_belong_to() {
    let world = World::start(&[]).await;
    world.submit("logged").await;
    let arguments = ["--log-format", "json", "worker", "--coordinator", &world.coordinator.address];
    let arguments = [&arguments[..], &["--store", "store", "--threads", "1"]].concat();
    let mut command = command(world.path(), &arguments);
    command.env("RUST_LOG", "info");
    let mut worker = Running::start(command);
    let line = worker.line_with("unit failed").await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "WARN");
    assert!(line["error"].as_str().unwrap().contains("gone.tsv"), "{line}");
    for field in ["job", "unit", "generation", "worker", "label"] {
        assert!(!line["span"][field].is_null(), "{field}: {line}");
    }
}
