#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| isolate_netns::fuzzing::names(data));
