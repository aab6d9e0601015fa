#![no_main]
#[path = "../../tests/decoders/properties.rs"]
mod properties;
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::index(bytes));
