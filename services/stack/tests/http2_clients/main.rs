//! Clients of HTTP/2 with prior knowledge, on the port where those of HTTP/1 are.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

#[path = "../common/mod.rs"]
mod common;

mod bodies;
mod connections;
mod heads;
mod interim;
mod limits;
mod streams;

use bytes::Bytes;
use common::http2::Body;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

fn request(method: &str, target: &str, body: &'static [u8]) -> Request<Body> {
    let request = Request::builder().method(method).uri(format!("http://shop.example{target}"));
    request.body(Full::new(Bytes::from_static(body)).boxed()).unwrap()
}

async fn whole(response: Response<Incoming>) -> (u16, HeaderMap, Bytes, Option<HeaderMap>) {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    (parts.status.as_u16(), parts.headers, body.to_bytes(), trailers)
}
