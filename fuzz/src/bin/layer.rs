#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| isolate_images::fuzzing::layer(data));
