//! The frames of a WebSocket, byte by byte.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::fuzzing::websocket(data));
