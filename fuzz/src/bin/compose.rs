#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    assert!(gpupin_fuzz::check("compose.yaml", bytes), "`compose.yaml` was not read");
});
