//! The rules of HTTP/1.1 and HTTP/2 that a proxy must keep, one row each: bytes in, bytes out, over
//! sockets.
//!
//! A row says what a client sends, what the backend answers, and what may come of it. The rows
//! know nothing of the proxy under test but its address, so that `cargo test` runs them against
//! ours and the program of this crate runs the same ones against nginx and HAProxy. Messages and frames
//! are read by small strict readers of our own ([`message`], [`http2`]): a library that is shared with
//! the proxy would share its mistakes.

pub mod backend;
pub mod backend_rows;
pub mod client;
pub mod forwarding_rows;
pub mod http2;
pub mod http2_rows;
pub mod message;
pub mod peers;
pub mod request_rows;
pub mod row;
pub mod steps;
pub mod upgrade_rows;
