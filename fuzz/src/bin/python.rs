#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    assert!(gpupin_fuzz::check("app.py", bytes), "`app.py` was not read");
});
