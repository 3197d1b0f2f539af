#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flatmin_model::fuzzing::tflite(bytes));
