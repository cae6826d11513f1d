//! What holds for every parser of results: what it delivers is bounded and counted.

use std::ops::ControlFlow;

use test_results::{CUT_MARK, Case, Limits, Sink, Totals};

/// The longest name that a parser gives a case by itself.
const OWN_NAME: usize = 32;

pub fn limits<E>(parse: impl FnOnce(&Limits, &mut Sink<'_>) -> Result<Totals, E>) {
    let limits = Limits { text: 64, name: 32, cases: 1000, depth: 8, open: 50 };
    let mut totals = Totals::default();
    let result = parse(&limits, &mut |case| {
        check(&case, &limits);
        totals.add(case.status);
        ControlFlow::Continue(())
    });
    assert!(totals.cases <= limits.cases);
    if let Ok(counted) = result {
        assert_eq!(counted, totals);
    }
}

fn check(case: &Case, limits: &Limits) {
    let name = limits.name.max(OWN_NAME) + CUT_MARK.len();
    let text = limits.text + limits.name + CUT_MARK.len() * 2;
    assert!(case.name.len() <= name);
    assert!(case.class.as_ref().is_none_or(|class| class.len() <= name));
    assert!(case.suite.len() <= limits.depth && case.suite.iter().all(|suite| suite.len() <= name));
    assert!(case.seconds.is_none_or(|seconds| seconds.is_finite() && seconds >= 0.0));
    assert!(case.output.as_ref().is_none_or(|output| output.len() <= text));
    if let Some(failure) = &case.failure {
        for part in [&failure.message, &failure.kind, &failure.text].into_iter().flatten() {
            assert!(part.len() <= text);
        }
    }
}
