//! `/ws`: a WebSocket that says back what it hears.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code, rejection},
    },
    response::{IntoResponse, Response},
};
use chassis::problem::Problem;

use crate::state::{OpenWebSocket, Server};

/// A message is kept in memory until it is sent back.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// What a client gets to answer our close frame: a few round trips.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

pub(crate) async fn echo(
    State(server): State<Arc<Server>>,
    upgrade: Result<WebSocketUpgrade, rejection::WebSocketUpgradeRejection>,
) -> Response {
    match upgrade {
        Ok(upgrade) => {
            let open = server.open_websocket();
            upgrade
                .max_message_size(MESSAGE_BYTES_MAX)
                .max_frame_size(MESSAGE_BYTES_MAX)
                .on_upgrade(move |socket| converse(server, socket, open))
        }
        Err(rejection) => {
            let detail = format!("/ws speaks WebSocket: {}", rejection.body_text());
            Problem::new(rejection.status(), detail).into_response()
        }
    }
}

async fn converse(server: Arc<Server>, mut socket: WebSocket, _open: OpenWebSocket) {
    tokio::select! {
        () = say_back(&mut socket) => {}
        () = server.time_to_leave() => {
            // A client that does not answer is left without one.
            let _ = tokio::time::timeout(CLOSE_WAIT, say_goodbye(&mut socket)).await;
        }
    }
}

/// Ends when either side has closed. Pings are answered, and a close frame is sent back with its
/// code, by the library as it reads on.
async fn say_back(socket: &mut WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(message, Message::Text(_) | Message::Binary(_))
            && socket.send(message).await.is_err()
        {
            return;
        }
    }
}

async fn say_goodbye(socket: &mut WebSocket) {
    let close = CloseFrame { code: close_code::AWAY, reason: "the server is stopping".into() };
    if socket.send(Message::Close(Some(close))).await.is_ok() {
        while let Some(Ok(_)) = socket.recv().await {}
    }
}
