//! The reference of labels says what the code does: each label is in it, and each of its examples is understood.

use std::collections::BTreeMap;

use test_results::labels;
use test_runner::spec::TestSpec;

const REFERENCE: &str = include_str!("../../../../docs/reference/labels.md");

/// The blocks of labels, one `key=value` per line.
fn examples() -> Vec<BTreeMap<String, String>> {
    let blocks = REFERENCE.split("```labels\n").skip(1).map(|rest| rest.split("```").next().unwrap_or(rest));
    let label = |line: &str| {
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("`{line}` is key=value"));
        (key.to_owned(), value.to_owned())
    };
    blocks.map(|block| block.lines().map(label).collect()).collect()
}

#[test]
fn every_label_is_described_in_both_spellings() {
    for label in labels::KNOWN {
        assert!(REFERENCE.contains(&format!("| [`{label}`]")), "{label} has a row");
        let dashed = label.replace('.', "-");
        assert!(REFERENCE.contains(&format!("`{dashed}`")), "{dashed} is mentioned");
    }
}

#[test]
fn every_example_is_understood() {
    let examples = examples();
    for example in &examples {
        assert_eq!(TestSpec::read("example", example).problems, [], "{example:?}");
    }
    let shown = |label: &str| examples.iter().any(|example| example.contains_key(label));
    for label in labels::KNOWN.iter().filter(|label| ![labels::CREATED_FROM, labels::CAUSE].contains(label)) {
        assert!(shown(label), "{label} has an example");
    }
}

#[test]
fn defaults_are_those_of_the_code() {
    let spec = TestSpec::read("example", &BTreeMap::new());
    let row = |label: &str| {
        let row = REFERENCE.lines().find(|line| line.starts_with(&format!("| [`{label}`]"))).expect("a row");
        row.rsplit('|').nth(1).expect("a last column").trim().to_owned()
    };
    assert_eq!(row(labels::RESULTS), format!("`{}`", spec.results));
    assert_eq!(row(labels::KEEP), format!("`{}`", spec.policy.keep));
    assert_eq!(row(labels::RETRIES), format!("`{}`", spec.policy.retries));
    assert_eq!(row(labels::OVERLAP), format!("`{}`", spec.policy.overlap.as_str()));
}
