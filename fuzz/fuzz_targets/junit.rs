//! Any bytes read as JUnit's XML end in cases within their limits.
#![no_main]

mod within;

libfuzzer_sys::fuzz_target!(|document: &[u8]| {
    within::limits(|limits, sink| test_results::junit::parse(document, limits, sink));
});
