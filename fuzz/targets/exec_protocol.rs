#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waterwheel_fuzz::EXEC_PROTOCOL.run(data));
