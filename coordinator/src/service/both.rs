//! Two gRPC services behind one socket, told apart by path.
//!
//! Leaves out: a router. tonic's own brings a web framework for what is one comparison here.

use std::convert::Infallible;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};

const HEALTH_PREFIX: &str = "/grpc.health.v1.Health/";

/// The control service and the health service.
#[derive(Clone)]
pub(super) struct Both<C, H> {
    pub(super) control: C,
    pub(super) health: H,
}

type Answer = BoxFuture<http::Response<Body>, Infallible>;

impl<C, H> Service<http::Request<Body>> for Both<C, H>
where
    C: Service<http::Request<Body>, Error = Infallible, Future = Answer>,
    H: Service<http::Request<Body>, Error = Infallible, Future = Answer>,
    C: Service<http::Request<Body>, Response = http::Response<Body>>,
    H: Service<http::Request<Body>, Response = http::Response<Body>>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match self.control.poll_ready(context) {
            Poll::Ready(Ok(())) => self.health.poll_ready(context),
            other => other,
        }
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        if request.uri().path().starts_with(HEALTH_PREFIX) {
            self.health.call(request)
        } else {
            self.control.call(request)
        }
    }
}
