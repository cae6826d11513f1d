//! Any text as a label's key and value: spellings agree with each other, values are read or refused.
#![no_main]

use std::collections::BTreeMap;

use test_results::{
    CdFilter, CloudEvent, EventId, UpstreamEvent,
    event::EventLimits,
    labels::{canonical, get, is_copy, is_test, parse_go_duration},
    upload::UploadQuery,
};

libfuzzer_sys::fuzz_target!(|input: &str| {
    let (key, value) = input.split_once('\n').unwrap_or((input, input));
    let labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
    if let Some(name) = canonical(key) {
        assert_eq!(canonical(&name).as_deref(), Some(name.as_str()));
        assert_eq!(get(&labels, &name), Some(value));
    } else {
        assert!(!is_test(&labels) && !is_copy(&labels));
    }
    let _ = parse_go_duration(value);
    let _ = UploadQuery::from_pairs([(key, value)]);
    let _ = serde_json::from_str::<UpstreamEvent>(value);
    let event = CloudEvent::from_json(value.as_bytes(), &EventLimits::default()).unwrap_or_else(|_| {
        CloudEvent::new(EventId("1".into()), key, "dev.cdevents.artifact.published.0.2.0")
    });
    if let Ok(filter) = CdFilter::parse(key) {
        filter.matches(&event);
    }
});
