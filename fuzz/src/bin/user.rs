#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| isolate::fuzzing::user(data));
