//! A backend of HTTP/2. Reading its frames by hand would mean a decoder of HPACK, so that it is the proxy's
//! own library that reads them here: what that gets wrong on both sides alike is not seen.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
};

use evenkeel_conformance::{
    backend::Seen,
    message::{Fields, Message},
};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;

use super::Recorder;

/// It listens until the process ends, and answers each whole request with 200.
pub(crate) struct H2cBackend {
    pub(crate) address: SocketAddr,
    messages: Arc<Mutex<Vec<Message>>>,
}

impl H2cBackend {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let messages = Arc::default();
        let heard = Arc::clone(&messages);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(serve(stream, Arc::clone(&heard)));
                }
            });
        });
        Self { address, messages }
    }
}

impl Recorder for H2cBackend {
    fn forget(&self) {
        self.messages.lock().unwrap().clear();
    }

    fn seen(&self) -> Vec<Seen> {
        let messages = self.messages.lock().unwrap().clone();
        vec![Seen { messages, ..Seen::default() }]
    }
}

async fn serve(stream: TcpStream, messages: Arc<Mutex<Vec<Message>>>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond, Arc::clone(&messages)));
    }
}

/// Who sent it learns from the missing answer if it was not whole.
async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<bytes::Bytes>,
    messages: Arc<Mutex<Vec<Message>>>,
) -> Option<()> {
    let (head, mut stream) = request.into_parts();
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    let start = format!("{} {target} HTTP/1.1", head.method);
    let mut fields = listed(&head.headers);
    if let Some(authority) = head.uri.authority() {
        fields.push(("host".to_owned(), authority.as_str().into()));
    }
    let mut body = Vec::new();
    while let Some(part) = stream.data().await {
        let part = part.ok()?;
        stream.flow_control().release_capacity(part.len()).ok()?;
        body.extend_from_slice(&part);
    }
    let trailers = listed(&stream.trailers().await.ok()?.unwrap_or_default());
    messages.lock().unwrap().push(Message { start, fields, body, trailers });
    let mut sending = respond.send_response(Response::new(()), false).ok()?;
    sending.send_data("ok".into(), true).ok()
}

fn listed(fields: &HeaderMap) -> Fields {
    let one = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().to_owned(), value.as_bytes().to_vec())
    };
    fields.iter().map(one).collect()
}
