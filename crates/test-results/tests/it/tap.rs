//! TAP as its producers write it.

use proptest::prelude::*;
use test_results::{
    CUT_MARK, Case,
    CaseStatus::*,
    Limits, Totals,
    tap::{TapError, parse},
};

use crate::{gather, gather_within, kind, message, statuses, text, told};

fn read(stream: &str) -> (Vec<Case>, Result<Totals, TapError>) {
    gather(|limits, sink| parse(stream.as_bytes(), limits, sink))
}

fn whole(stream: &str) -> Vec<Case> {
    let (cases, result) = read(stream);
    assert_eq!(result.unwrap().cases, cases.len() as u64);
    cases
}

#[test]
fn prove_and_bats() {
    let cases = whole(
        "1..5\nok 1 addition using bc\nnot ok 2 - fails\n#   Failed test 'fails'\n#   at t/a.t line 3.\n\
         ok 3 - windows only # SKIP not windows\nnot ok 4 - later # TODO not written\nok # todo done early\n",
    );
    assert_eq!(statuses(&cases), [Passed, Failed, Skipped, ExpectedFailure, Passed]);
    assert_eq!(cases[0].name, "addition using bc");
    assert_eq!(cases[1].output.as_deref(), Some("  Failed test 'fails'\n  at t/a.t line 3."));
    assert_eq!((message(&cases[2]), message(&cases[3])), ("not windows", "not written"));
    assert_eq!((cases[4].name.as_str(), cases[4].output.as_deref()), ("test 5", Some("TODO: done early")));
}

#[test]
fn yaml_blocks_are_the_text_of_the_failure() {
    let cases = whole(
        "TAP version 13\r\nok 1 - a\r\n  ---\r\n  duration_ms: 12.5\r\n  ...\r\nnot ok 2 - b\r\n  ---\r\n  \
         duration_ms: 3\r\n  error: |-\r\n    Expected values to be strictly equal:\r\n\r\n    1 !== 2\r\n  \
         name: 'AssertionError'\r\n  at:\r\n    name: inner\r\n  ...\r\nnot ok 3 - c\r\n  ---\r\n  message: 'boom'\r\n  \
         severity: fail\r\n  ...\r\n1..3\r\n",
    );
    assert_eq!(statuses(&cases), [Passed, Failed, Failed]);
    assert_eq!((cases[0].seconds, cases[0].failure.clone()), (Some(0.0125), None));
    assert_eq!(message(&cases[1]), "Expected values to be strictly equal:");
    assert_eq!(kind(&cases[1]), "AssertionError");
    assert!(text(&cases[1]).contains("\n  1 !== 2\n"), "{:?}", text(&cases[1]));
    assert_eq!((message(&cases[2]), text(&cases[2])), ("boom", "message: 'boom'\nseverity: fail"));
}

#[test]
fn node_test_names_its_subtests_above_them() {
    let cases = whole(
        "TAP version 13\n# Subtest: cart\n    # Subtest: adds\n    ok 1 - adds\n      ---\n      duration_ms: 1.5\n      ...\n    \
         # Subtest: pays\n        # Subtest: by card\n        not ok 1 - by card\n          ---\n          error: 'declined'\n          ...\n        \
         1..1\n    not ok 2 - pays\n      ---\n      error: '1 subtest failed'\n      ...\n    1..2\nnot ok 1 - cart\n\
         # Subtest: plain\nok 2 - plain\n1..2\n# tests 2\n",
    );
    assert_eq!(told(&cases), ["cart/adds: passed", "cart/pays/by card: failed", "plain: passed"]);
    assert_eq!((cases[0].seconds, message(&cases[1])), (Some(0.0015), "declined"));
}

#[test]
fn test_more_names_its_subtests_inside_them() {
    let cases = whole(
        "    # Subtest: outer\n        # Subtest: inner\n        ok 1 - x\n        1..1\n    ok 1 - inner\n    1..1\nok 1 - outer\n\
         # Subtest: second\n    1..1\n    ok 1 - y\nok 2 - second\n    ok 1 - z\n    1..1\nok 3 - unnamed\n1..3\n",
    );
    assert_eq!(told(&cases), ["outer/inner/x: passed", "second/y: passed", "subtest/z: passed"]);
}

#[test]
fn node_tap_puts_subtests_in_braces() {
    let cases = whole(
        "TAP version 14\nok 1 - cart # time=5ms {\n    ok 1 - adds\n    ok 2 - pays\n    1..2\n}\n\nnot ok 2 - ship {\n    1..0\n}\n1..2\n",
    );
    assert_eq!(told(&cases), ["cart/adds: passed", "cart/pays: passed", "ship: failed"]);
}

#[test]
fn a_summing_test_that_disagrees_is_a_case() {
    let cases = whole(
        "# Subtest: a\n    ok 1 - x\n    1..1\nnot ok 1 - a\n# Subtest: b\n    not ok 1 - y\n    1..1\nok 2 - b\n1..2\n",
    );
    assert_eq!(told(&cases), ["a/x: passed", "a: failed", "b/y: failed", "b: passed"]);
}

#[test]
fn missing_tests_of_the_plan_are_failures() {
    let cases = whole("1..4\nok 1 - a\nok 2 - b\n");
    assert_eq!(told(&cases), ["a: passed", "b: passed", "test 3: failed", "test 4: failed"]);
    assert_eq!(message(&cases[3]), "4 tests were planned, this one was not run");
    let cases = whole("1..1000000000000\nok 1 - a\n");
    assert_eq!(cases.len(), 102);
    assert_eq!(message(&cases[101]), "1000000000000 tests were planned, 999999999899 more were not run");
    let cases = whole("# Subtest: s\n    1..2\n    ok 1 - a\nok 1 - s\n1..1\n");
    assert_eq!(told(&cases), ["s/a: passed", "s/test 2: failed", "s: passed"]);
}

#[test]
fn a_stream_without_plan_or_beyond_it_does_not_pass() {
    let cases = whole("ok 1 - a\n");
    assert_eq!(told(&cases), ["a: passed", "(plan): error"]);
    let cases = whole("1..1\nok 1 - a\nok 2 - b\n");
    assert_eq!(told(&cases), ["a: passed", "b: passed", "(plan): error"]);
    assert_eq!(message(&cases[2]), "1 tests were planned, but 2 were run");
}

#[test]
fn a_skipped_file_is_one_skipped_case() {
    let cases = whole("1..0 # SKIP needs docker\n");
    assert_eq!((told(&cases), message(&cases[0])), (vec!["(all): skipped".to_owned()], "needs docker"));
}

#[test]
fn a_bail_out_is_an_error_and_the_end() {
    let cases = whole("1..3\nok 1 - a\nBail out! database is down\nok 2 - b\n");
    assert_eq!(told(&cases), ["a: passed", "Bail out!: error"]);
    assert_eq!(message(&cases[1]), "database is down");
}

#[test]
fn other_output_belongs_to_the_test_after_it() {
    let cases = whole("\u{feff}1..2\nstarting\n  ok so far\nok 1 - a\nbetween\n# diagnosis of a\nok 2 - b\n");
    assert_eq!(cases[0].output.as_deref(), Some("starting\n  ok so far\ndiagnosis of a"));
    assert_eq!(cases[1].output.as_deref(), Some("between"));
}

#[test]
fn an_open_yaml_block_ends_with_its_indentation() {
    let cases = whole("1..2\nnot ok 1 - a\n  ---\n  message: x\nok 2 - b\n");
    assert_eq!(told(&cases), ["a: failed", "b: passed"]);
}

#[test]
fn what_is_not_tap_says_so() {
    assert_eq!(
        read("hello\nworld\n").1.unwrap_err().to_string(),
        "none of the 2 lines is of the Test Anything Protocol"
    );
    assert!(matches!(read("").1, Err(TapError::NotTap { lines: 0 })));
}

#[test]
fn limits_hold() {
    let limits = Limits { text: 10, name: 4, cases: 3, depth: 3, ..Limits::default() };
    let read = |stream: &str| gather_within(&limits, |limits, sink| parse(stream.as_bytes(), limits, sink));
    let long = "x".repeat(100);
    let (cases, _) = read(&format!("1..1\n{long}\nnot ok 1 - {long}\n  ---\n  message: {long}\n  ...\n"));
    assert_eq!(cases[0].output, Some(format!("xxxxxxxxxx{CUT_MARK}")));
    assert!(cases[0].name.len() <= 4 + CUT_MARK.len());
    assert!(message(&cases[0]).len() <= 10 + CUT_MARK.len());
    let (cases, _) = read(&format!("1..1\nnot ok 1\n  ---\n  type: {long}\n  ...\n"));
    assert_eq!(kind(&cases[0]), format!("xxxx{CUT_MARK}"));
    let (cases, _) = read(&format!("1..1\nBail out! {long}\n"));
    assert_eq!(message(&cases[0]), format!("xxxxxxxxxx{CUT_MARK}"));
    assert!(matches!(read("1..9\nok\nok\nok\nok\n").1, Err(TapError::TooManyCases { limit: 3 })));
    let deep = "            ok 1\n";
    assert_eq!(read(deep).1.unwrap_err().to_string(), "more than 3 subtests are inside each other in line 1");
}

proptest! {
    #[test]
    fn any_lines_end_in_bounded_cases(lines in prop::collection::vec(prop::sample::select(vec![
        "ok", "not ok 1 - a", "1..2", "1..18446744073709551615", "    ok 1", "        not ok", "    1..1", "# Subtest: x",
        "    # Subtest: y", "  ---", "  message: |", "    z", "  ...", "ok 1 - a {", "}", "Bail out! b", "noise", "\u{0}é",
        "not ok # TODO", "ok # SKIP", "1..0", "TAP version 14", "# c", "",
    ]), 0..40)) {
        let limits = Limits { text: 16, name: 8, ..Limits::default() };
        let stream = lines.join("\n");
        let (cases, result) = gather_within(&limits, |limits, sink| parse(stream.as_bytes(), limits, sink));
        if let Ok(totals) = result {
            prop_assert_eq!(totals.cases, cases.len() as u64);
        }
        for case in cases {
            prop_assert!(case.output.is_none_or(|output| output.len() <= 16 + CUT_MARK.len()));
            prop_assert!(case.name.len() <= 20 + CUT_MARK.len());
        }
    }

    #[test]
    fn any_bytes_end_in_a_result(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = gather(|limits, sink| parse(bytes.as_slice(), limits, sink));
    }
}
