//! Answers of backends of HTTP/2, through a real proxy.
#![no_main]

#[path = "../sockets.rs"]
mod sockets;

libfuzzer_sys::fuzz_target!(init: sockets::ignore_broken_pipes(), |data: &[u8]| proxy::fuzzing::backend_frames(data));
