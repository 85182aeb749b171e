//! Heads of HTTP/2 that are cut into frames.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::fuzzing::cut_heads(data));
