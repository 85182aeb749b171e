//! Where backends come from, as a setting says it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::fuzzing::backends(data));
