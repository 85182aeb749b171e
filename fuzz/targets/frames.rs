//! A client of HTTP/2, frame by frame.
#![no_main]

#[path = "../sockets.rs"]
mod sockets;

libfuzzer_sys::fuzz_target!(init: sockets::ignore_broken_pipes(), |data: &[u8]| proxy::fuzzing::frames(data));
