//! Responses of backends, and what clients get of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::fuzzing::answer(data));
