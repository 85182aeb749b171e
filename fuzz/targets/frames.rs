//! A client of HTTP/2, frame by frame.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::fuzzing::frames(data));
