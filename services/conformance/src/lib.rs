//! The rules of HTTP/1.1 that a proxy must keep, one row each: bytes in, bytes out, over sockets.
//!
//! A row says what a client sends, what the backend answers, and what may come of it. The rows
//! know nothing of the proxy under test but its address, so that `cargo test` runs them against
//! ours and the program of this crate runs the same ones against nginx and HAProxy. Messages are
//! read by a small strict reader of our own ([`message`]): a library that is shared with the proxy
//! would share its mistakes.

pub mod backend;
pub mod backend_rows;
pub mod client;
pub mod forwarding_rows;
pub mod message;
pub mod peers;
pub mod request_rows;
pub mod row;
