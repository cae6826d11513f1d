//! Any bytes read as subunit end in cases within their limits.
#![no_main]

mod within;

libfuzzer_sys::fuzz_target!(|stream: &[u8]| {
    within::limits(|limits, sink| test_results::subunit::parse(stream, limits, sink));
});
