//! Decides what an answer of the service means for a result, and when to try again. Pure: no clock, no network, no
//! randomness of its own.

use std::time::Duration;

use jiff::Timestamp;

use crate::activity::RefusalKind;

/// The first pause, before jitter.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause that we choose ourselves.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest pause that we let a service choose.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// 200 or 201 with a receipt that could be read.
    Receipt,
    /// A success without a receipt, or a redirect: someone else answered.
    Unreadable,
    /// Any other status, with the text of `Retry-After`.
    Status(u16, Option<&'a str>),
    /// No answer: refused, cut, timed out.
    Nothing,
}

/// What an attempt's end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The service has it.
    Delivered,
    /// It will never take it like this.
    Refused(RefusalKind),
    /// Again, after this long.
    Retry {
        /// The pause.
        after: Duration,
        /// Whether the failure says something about the service rather than about this result: everything waits.
        everyone: bool,
    },
}

/// Judges an attempt. `attempts` counts this one; `jitter` is uniform in `0.0..1.0`.
pub(crate) fn judge(answer: Answer<'_>, attempts: u32, jitter: f64, now: Timestamp) -> Verdict {
    let retry = |everyone| Verdict::Retry { after: pause(attempts, jitter), everyone };
    match answer {
        Answer::Receipt => Verdict::Delivered,
        Answer::Unreadable => retry(false),
        Answer::Nothing => retry(true),
        Answer::Status(408 | 425 | 429 | 500..=599, asked) => {
            let everyone = !matches!(answer, Answer::Status(500 | 501 | 505..=599, _));
            match asked.and_then(|text| retry_after(text, now)) {
                // A little later than asked, so that all collectors do not come back in the same instant.
                Some(asked) => Verdict::Retry { after: asked + FIRST.mul_f64(jitter), everyone: true },
                None => retry(everyone),
            }
        }
        Answer::Status(401 | 403 | 404 | 405 | 407, _) => Verdict::Refused(RefusalKind::Access),
        Answer::Status(400..=499, _) => Verdict::Refused(RefusalKind::Content),
        Answer::Status(..) => retry(false),
    }
}

/// Doubles from [`FIRST`] to [`LONGEST`]; the upper half is jitter.
pub(crate) fn pause(attempts: u32, jitter: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LONGEST);
    doubled.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// `Retry-After` in either form of RFC 9110, 10.2.3: seconds, or a date.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let asked = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
        }
    };
    Some(asked.min(LONGEST_ASKED))
}

/// How long one attempt may take: half a minute, and longer for what is large on a slow line (64 KiB/s).
pub(crate) fn attempt_limit(bytes: u64) -> Duration {
    Duration::from_secs(30 + bytes / (64 * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn judged(answer: Answer<'_>) -> Verdict {
        judge(answer, 1, 0.0, at("2026-11-20T12:00:00Z"))
    }

    #[test]
    fn only_a_receipt_is_success() {
        assert_eq!(judged(Answer::Receipt), Verdict::Delivered);
        for answer in
            [Answer::Unreadable, Answer::Nothing, Answer::Status(204, None), Answer::Status(302, None)]
        {
            assert!(matches!(judged(answer), Verdict::Retry { .. }), "{answer:?}");
        }
    }

    #[test]
    fn a_client_error_is_final_except_the_three_that_mean_later() {
        for status in [400, 409, 411, 413, 415, 422] {
            assert_eq!(
                judged(Answer::Status(status, None)),
                Verdict::Refused(RefusalKind::Content),
                "{status}"
            );
        }
        for status in [401, 403, 404] {
            assert_eq!(
                judged(Answer::Status(status, None)),
                Verdict::Refused(RefusalKind::Access),
                "{status}"
            );
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 507] {
            assert!(matches!(judged(Answer::Status(status, None)), Verdict::Retry { .. }), "{status}");
        }
    }

    #[test]
    fn retry_after_is_honoured_in_both_forms_and_bounded() {
        let wait = |text| match judged(Answer::Status(503, Some(text))) {
            Verdict::Retry { after, everyone: true } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(wait("7"), Duration::from_secs(7));
        assert_eq!(wait("Fri, 20 Nov 2026 12:00:30 GMT"), Duration::from_secs(30));
        assert_eq!(wait("Fri, 20 Nov 2026 11:00:00 GMT"), Duration::ZERO);
        assert_eq!(wait("999999999"), LONGEST_ASKED);
        assert_eq!(wait("soon"), FIRST / 2);
    }

    #[test]
    fn pauses_double_up_to_half_a_minute_and_jitter_fills_the_upper_half() {
        assert_eq!(pause(1, 0.0), FIRST / 2);
        assert_eq!(pause(1, 1.0), FIRST);
        assert_eq!(pause(3, 1.0), FIRST * 4);
        assert_eq!(pause(40, 1.0), LONGEST);
        assert_eq!(pause(u32::MAX, 0.0), LONGEST / 2);
    }

    #[test]
    fn a_failure_of_one_result_does_not_hold_up_the_others() {
        assert!(matches!(judged(Answer::Status(500, None)), Verdict::Retry { everyone: false, .. }));
        assert!(matches!(judged(Answer::Status(503, None)), Verdict::Retry { everyone: true, .. }));
        assert!(matches!(judged(Answer::Nothing), Verdict::Retry { everyone: true, .. }));
    }
}
