#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| isolate_cgroups::fuzzing::group(data));
