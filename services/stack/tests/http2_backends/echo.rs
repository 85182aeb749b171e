//! A backend that echoes, as a server of gRPC does it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::{
    common::{World, http2::Body},
    over,
};

/// A backend of HTTP/2 that notes the heads that it sees and on how many connections.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) heads: Arc<Mutex<Vec<http::request::Parts>>>,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Backend {
    /// Streams at once that it allows.
    pub(crate) async fn start(streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heads, connections) = (Arc::default(), Arc::<AtomicUsize>::default());
        let (seen, count) = (Arc::clone(&heads), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let seen: Arc<Mutex<Vec<_>>> = Arc::clone(&seen);
                let service = service_fn(move |request: Request<Incoming>| {
                    let (parts, body) = request.into_parts();
                    seen.lock().unwrap().push(parts.clone());
                    async move { Ok::<_, std::convert::Infallible>(answer(parts, body).await) }
                });
                let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                builder.max_concurrent_streams(streams);
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, heads, connections }
    }

    pub(crate) async fn world(&self, variables: &[(&str, &str)]) -> World {
        over(&[self.address], variables).await
    }
}

/// Echoes what it got, with trailers as gRPC has them; or, as `/refuse`, trailers only.
async fn answer(parts: http::request::Parts, body: Incoming) -> Response<Body> {
    let status = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let mut response = Response::builder().header("content-type", "application/grpc");
    match parts.uri.path() {
        "/refuse" => {
            response = response.header("grpc-status", "12");
            response.body(Empty::new().boxed()).unwrap()
        }
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            response.body(Full::default().boxed()).unwrap()
        }
        "/never" => std::future::pending().await,
        _ => {
            let body = body.collect().await.unwrap().to_bytes();
            let frames = [Frame::data(body), Frame::trailers(status)].map(Ok);
            response.body(StreamBody::new(futures_util::stream::iter(frames)).boxed()).unwrap()
        }
    }
}

pub(crate) fn call(path: &str, message: &'static [u8]) -> Request<Body> {
    let frames = [Ok(Frame::data(Bytes::from_static(message)))];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
    let request = Request::post(format!("http://api.example{path}"));
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    request.body(body).unwrap()
}
