#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waterwheel_fuzz::AVRO.run(data));
