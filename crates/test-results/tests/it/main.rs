//! The crate as its users see it: documents in, cases out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod junit;
mod memory;
mod subunit;
mod tap;
mod upload;

use std::ops::ControlFlow;

use test_results::{Case, CaseStatus, Limits, Totals};

/// Runs a parser and gathers what it delivers, also when it fails.
fn gather<E>(
    parse: impl FnOnce(&Limits, &mut test_results::Sink<'_>) -> Result<Totals, E>,
) -> (Vec<Case>, Result<Totals, E>) {
    gather_within(&Limits::default(), parse)
}

fn gather_within<E>(
    limits: &Limits,
    parse: impl FnOnce(&Limits, &mut test_results::Sink<'_>) -> Result<Totals, E>,
) -> (Vec<Case>, Result<Totals, E>) {
    let mut cases = Vec::new();
    let result = parse(limits, &mut |case| {
        cases.push(case);
        ControlFlow::Continue(())
    });
    (cases, result)
}

/// `suite/class/name: status` of each case.
fn told(cases: &[Case]) -> Vec<String> {
    let path = |case: &Case| {
        let parts = case.suite.iter().map(String::as_str).chain(case.class.as_deref());
        parts.chain([case.name.as_str()]).collect::<Vec<_>>().join("/")
    };
    cases.iter().map(|case| format!("{}: {}", path(case), case.status.as_str())).collect()
}

fn message(case: &Case) -> &str {
    case.failure.as_ref().and_then(|failure| failure.message.as_deref()).unwrap_or("")
}

fn text(case: &Case) -> &str {
    case.failure.as_ref().and_then(|failure| failure.text.as_deref()).unwrap_or("")
}

fn kind(case: &Case) -> &str {
    case.failure.as_ref().and_then(|failure| failure.kind.as_deref()).unwrap_or("")
}

fn only(cases: Vec<Case>) -> Case {
    assert_eq!(cases.len(), 1, "{:?}", told(&cases));
    cases.into_iter().next().unwrap()
}

fn statuses(cases: &[Case]) -> Vec<CaseStatus> {
    cases.iter().map(|case| case.status).collect()
}
