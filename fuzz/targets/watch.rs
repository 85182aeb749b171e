//! A watch of the Kubernetes API, byte by byte.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::fuzzing::watch(data));
