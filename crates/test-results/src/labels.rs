//! The labels that make a container a test container: how their names are spelled, and the values that several
//! readers share. Decides nothing about when a test runs.
//!
//! The seed writes `tugbot.event.timer`, later releases of upstream write `tugbot-event-timer`, and the seed once
//! writes the prefix as `tagbot.`. All of them are read; the dotted spelling is canonical and the only one written.

use std::{collections::BTreeMap, ops::Bound, time::Duration};

/// Marks a test container.
pub const TEST: &str = "tugbot.test";
/// The directory inside the container that holds its results.
pub const RESULTS: &str = "tugbot.results";
/// Runs the test at an interval.
pub const EVENT_TIMER: &str = "tugbot.event.timer";
/// Runs the test on events of the engine.
pub const EVENT_DOCKER: &str = "tugbot.event.docker";
/// Narrows [`EVENT_DOCKER`] to types of objects.
pub const EVENT_DOCKER_FILTER_TYPE: &str = "tugbot.event.docker.filter.type";
/// Narrows [`EVENT_DOCKER`] to actions.
pub const EVENT_DOCKER_FILTER_ACTION: &str = "tugbot.event.docker.filter.action";
/// Narrows [`EVENT_DOCKER`] to containers.
pub const EVENT_DOCKER_FILTER_CONTAINER: &str = "tugbot.event.docker.filter.container";
/// Narrows [`EVENT_DOCKER`] to images.
pub const EVENT_DOCKER_FILTER_IMAGE: &str = "tugbot.event.docker.filter.image";
/// Narrows [`EVENT_DOCKER`] to objects with labels.
pub const EVENT_DOCKER_FILTER_LABEL: &str = "tugbot.event.docker.filter.label";
/// Runs the test on a schedule.
pub const EVENT_CRON: &str = "tugbot.event.cron";
/// Runs the test when an image is newer.
pub const EVENT_IMAGE: &str = "tugbot.event.image";
/// Runs the test when the host changes.
pub const EVENT_HOST: &str = "tugbot.event.host";
/// Runs the test after another one.
pub const EVENT_AFTER: &str = "tugbot.event.after";
/// Runs the test on CDEvents; the value is read by [`crate::CdFilter`].
pub const EVENT_CD: &str = "tugbot.event.cd";
/// What happens when a trigger fires while a run is on.
pub const OVERLAP: &str = "tugbot.overlap";
/// How long triggers are gathered into one run.
pub const DEBOUNCE: &str = "tugbot.debounce";
/// How long a run may take.
pub const TIMEOUT: &str = "tugbot.timeout";
/// The group whose members share a number of places.
pub const CONCURRENCY: &str = "tugbot.concurrency";
/// How often a failed run is repeated.
pub const RETRIES: &str = "tugbot.retries";
/// What must be ready before a run starts.
pub const WAIT_FOR: &str = "tugbot.wait-for";
/// How many finished copies are kept.
pub const KEEP: &str = "tugbot.keep";
/// On a copy: the name of the test container that it was made from.
pub const CREATED_FROM: &str = "tugbot.created.from";
/// On a copy: the [`crate::Cause`] of its run, as JSON.
pub const CAUSE: &str = "tugbot.cause";

/// Every label that has a meaning, in its canonical spelling.
pub const KNOWN: &[&str] = &[
    TEST,
    RESULTS,
    EVENT_TIMER,
    EVENT_DOCKER,
    EVENT_DOCKER_FILTER_TYPE,
    EVENT_DOCKER_FILTER_ACTION,
    EVENT_DOCKER_FILTER_CONTAINER,
    EVENT_DOCKER_FILTER_IMAGE,
    EVENT_DOCKER_FILTER_LABEL,
    EVENT_CRON,
    EVENT_IMAGE,
    EVENT_HOST,
    EVENT_AFTER,
    EVENT_CD,
    OVERLAP,
    DEBOUNCE,
    TIMEOUT,
    CONCURRENCY,
    RETRIES,
    WAIT_FOR,
    KEEP,
    CREATED_FROM,
    CAUSE,
];

/// The directory that is collected when [`RESULTS`] is absent.
pub const DEFAULT_RESULTS: &str = "/var/tests/results";

/// The prefixes that are read, the canonical one first.
const PREFIXES: [&str; 2] = ["tugbot", "tagbot"];

/// Names of upstream that are more than another spelling: what follows the prefix, and what it means.
const RENAMED: &[(&str, &str)] = &[("results.dir", RESULTS)];

/// The canonical spelling of a label's key, or `None` for a key that is not one of ours.
///
/// A key with our prefix that has no known meaning comes back too, with dots if it was written with dashes, so
/// that a reader can point at a misspelt label.
///
/// ```
/// use test_results::labels::canonical;
/// assert_eq!(canonical("tugbot-event-docker-filter-type").as_deref(), Some("tugbot.event.docker.filter.type"));
/// assert_eq!(canonical("tugbot-results-dir").as_deref(), Some("tugbot.results"));
/// assert_eq!(canonical("com.example.tugbot"), None);
/// ```
pub fn canonical(key: &str) -> Option<String> {
    let (separator, rest) = without_prefix(key)?;
    if let Some(known) = known(rest) {
        return Some(known.to_owned());
    }
    let rest = if separator == '-' { rest.replace('-', ".") } else { rest.to_owned() };
    Some(format!("{}.{rest}", PREFIXES[0]))
}

/// The value of the label with this canonical key, in whatever spelling it was given.
///
/// When one label is given in several spellings, the canonical one wins, then the prefix `tugbot`, then the first
/// in alphabetical order.
pub fn get<'a>(labels: &'a BTreeMap<String, String>, canonical: &str) -> Option<&'a str> {
    if let Some(value) = labels.get(canonical) {
        return Some(value);
    }
    PREFIXES.iter().find_map(|prefix| {
        labels
            .range::<str, _>((Bound::Included(*prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .find(|(key, _)| spells(key, canonical))
            .map(|(_, value)| value.as_str())
    })
}

/// Whether these labels mark a test container: [`TEST`] with any value but `false`, `0` and `no`.
pub fn is_test(labels: &BTreeMap<String, String>) -> bool {
    get(labels, TEST).is_some_and(|value| {
        let value = value.trim();
        !["false", "0", "no"].iter().any(|off| value.eq_ignore_ascii_case(off))
    })
}

/// Whether these labels are on a copy that a runner made. Such a container is never a candidate itself.
pub fn is_copy(labels: &BTreeMap<String, String>) -> bool {
    get(labels, CREATED_FROM).is_some()
}

/// Splits `tugbot.rest` and `tugbot-rest` into the separator and the rest.
fn without_prefix(key: &str) -> Option<(char, &str)> {
    let rest = PREFIXES.iter().find_map(|prefix| key.strip_prefix(prefix))?;
    let separator = rest.chars().next().filter(|c| matches!(c, '.' | '-'))?;
    Some((separator, &rest[1..])).filter(|(_, rest)| !rest.is_empty())
}

/// The known label that is meant by what follows the prefix.
fn known(rest: &str) -> Option<&'static str> {
    let renamed = RENAMED.iter().find(|(name, _)| same(name, rest)).map(|(_, meant)| *meant);
    renamed.or_else(|| KNOWN.iter().copied().find(|known| same(&known[PREFIXES[0].len() + 1..], rest)))
}

/// Whether the key is a spelling of the canonical one. Equal to `canonical(key) == canonical`, without allocating.
fn spells(key: &str, canonical: &str) -> bool {
    let Some((separator, rest)) = without_prefix(key) else { return false };
    match (known(rest), separator) {
        (Some(known), _) => known == canonical,
        (None, separator) => without_prefix(canonical).is_some_and(|(_, wanted)| {
            if separator == '-' { !wanted.contains('-') && same(wanted, rest) } else { wanted == rest }
        }),
    }
}

/// Equality that takes dots and dashes for the same.
fn same(left: &str, right: &str) -> bool {
    let fold = |b: u8| if b == b'-' { b'.' } else { b };
    left.len() == right.len() && left.bytes().map(fold).eq(right.bytes().map(fold))
}

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// Nothing was given.
    #[error("a duration is missing: write for example `30s` or `4h30m`")]
    Empty,
    /// It has a minus sign.
    #[error("duration `{text}` is negative")]
    Negative {
        /// What was given.
        text: String,
    },
    /// A number was expected.
    #[error("duration `{text}` has no number before `{rest}`: write for example `30s` or `4h30m`")]
    Number {
        /// What was given.
        text: String,
        /// From where it could not be read.
        rest: String,
    },
    /// A number with a fraction, or one that follows another unit, has no unit.
    #[error("duration `{text}` has no unit after `{number}`: write ns, us, ms, s, m or h")]
    UnitMissing {
        /// What was given.
        text: String,
        /// The number that lacks the unit.
        number: String,
    },
    /// The unit is not one of Go's.
    #[error("duration `{text}` has the unknown unit `{unit}`: write ns, us, ms, s, m or h")]
    Unit {
        /// What was given.
        text: String,
        /// The unknown unit.
        unit: String,
    },
    /// It is longer than Go's durations reach.
    #[error("duration `{text}` is longer than 292 years")]
    TooLong {
        /// What was given.
        text: String,
    },
}

/// Reads a duration as Go's `time.ParseDuration` does (`30s`, `4h30m`, `1.5h`, `250ms`), and a plain integer as
/// seconds. Zero is a duration; a negative one is an error.
///
/// ```
/// use std::time::Duration;
/// use test_results::labels::parse_go_duration;
/// assert_eq!(parse_go_duration("4h30m"), Ok(Duration::from_secs(16_200)));
/// assert_eq!(parse_go_duration("90"), Ok(Duration::from_secs(90)));
/// ```
pub fn parse_go_duration(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    let too_long = || DurationError::TooLong { text: text.to_owned() };
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text.starts_with('-') {
        return Err(DurationError::Negative { text: text.to_owned() });
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return nanoseconds(unsigned, "", SECOND).and_then(in_range).ok_or_else(too_long);
    }
    let mut total: u64 = 0;
    let mut rest = unsigned;
    loop {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), split_digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(DurationError::Number { text: text.to_owned(), rest: rest.to_owned() });
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let Some(scale) = unit_scale(unit) else {
            let number = rest[..rest.len() - after.len()].to_owned();
            return Err(match unit {
                "" => DurationError::UnitMissing { text: text.to_owned(), number },
                unit => DurationError::Unit { text: text.to_owned(), unit: unit.to_owned() },
            });
        };
        let part = nanoseconds(whole, fraction, scale).ok_or_else(too_long)?;
        total = total.checked_add(part).ok_or_else(too_long)?;
        rest = next;
        if rest.is_empty() {
            return in_range(total).ok_or_else(too_long);
        }
    }
}

const SECOND: u64 = 1_000_000_000;

fn unit_scale(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // Both the micro sign and the Greek letter, as in Go.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3_600 * SECOND,
        _ => return None,
    })
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// `whole.fraction` of a unit, rounded down to a nanosecond.
fn nanoseconds(whole: &str, fraction: &str, scale: u64) -> Option<u64> {
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Fifteen digits are finer than a nanosecond of an hour.
    let fraction = &fraction[..fraction.len().min(15)];
    let part = fraction.bytes().fold(0u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
    let exponent = u32::try_from(fraction.len()).ok()?;
    let part = part * u128::from(scale) / 10u128.pow(exponent);
    whole.checked_mul(scale)?.checked_add(u64::try_from(part).ok()?)
}

fn in_range(nanoseconds: u64) -> Option<Duration> {
    i64::try_from(nanoseconds).is_ok().then(|| Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_spelling_means_the_dotted_label() {
        for (given, meant) in [
            ("tugbot.test", TEST),
            ("tugbot-test", TEST),
            ("tagbot.test", TEST),
            ("tagbot-test", TEST),
            ("tugbot.results", RESULTS),
            ("tugbot-results", RESULTS),
            ("tugbot-results-dir", RESULTS),
            ("tagbot.results.dir", RESULTS),
            ("tugbot.results-dir", RESULTS),
            ("tugbot-event-timer", EVENT_TIMER),
            ("tagbot.event.timer", EVENT_TIMER),
            ("tugbot-event-docker", EVENT_DOCKER),
            ("tugbot-event-docker-filter-type", EVENT_DOCKER_FILTER_TYPE),
            ("tugbot-event-docker-filter-action", EVENT_DOCKER_FILTER_ACTION),
            ("tugbot-event-docker-filter-container", EVENT_DOCKER_FILTER_CONTAINER),
            ("tugbot-event-docker-filter-image", EVENT_DOCKER_FILTER_IMAGE),
            ("tugbot.event.docker.filter.label", EVENT_DOCKER_FILTER_LABEL),
            ("tugbot-created-from", CREATED_FROM),
            ("tugbot-wait-for", WAIT_FOR),
            ("tugbot.wait.for", WAIT_FOR),
            ("tugbot.wait-for", WAIT_FOR),
        ] {
            assert_eq!(canonical(given).as_deref(), Some(meant), "{given}");
            assert_eq!(get(&labels(&[(given, "value")]), meant), Some("value"), "{given}");
        }
    }

    #[test]
    fn every_known_label_is_canonical_already() {
        for known in KNOWN {
            assert_eq!(canonical(known).as_deref(), Some(*known));
        }
    }

    #[test]
    fn foreign_keys_are_not_ours() {
        for key in [
            "",
            "tugbot",
            "tugbot.",
            "tugbot-",
            "tugbots.test",
            "tugbot_test",
            "com.tugbot.test",
            "TUGBOT.TEST",
        ] {
            assert_eq!(canonical(key), None, "{key}");
        }
    }

    #[test]
    fn a_misspelt_label_keeps_its_name_with_our_prefix() {
        assert_eq!(canonical("tagbot-event-tiemr").as_deref(), Some("tugbot.event.tiemr"));
        assert_eq!(canonical("tugbot.my-own").as_deref(), Some("tugbot.my-own"));
        assert_eq!(get(&labels(&[("tugbot-my-own", "1")]), "tugbot.my.own"), Some("1"));
    }

    #[test]
    fn the_canonical_spelling_wins_over_the_others() {
        let given =
            labels(&[("tagbot.results", "/c"), ("tugbot-results-dir", "/b"), ("tugbot.results", "/a")]);
        assert_eq!(get(&given, RESULTS), Some("/a"));
        let given = labels(&[("tagbot.results", "/c"), ("tugbot-results-dir", "/b")]);
        assert_eq!(get(&given, RESULTS), Some("/b"));
        let given = labels(&[("tagbot.results", "/c"), ("tugbox", "x")]);
        assert_eq!(get(&given, RESULTS), Some("/c"));
    }

    #[test]
    fn a_bare_marker_makes_a_test_container() {
        for value in ["", "true", "TRUE", "1", "yes", "on", "anything"] {
            assert!(is_test(&labels(&[("tugbot-test", value)])), "{value}");
        }
        for value in ["false", "False", " no ", "0", "NO"] {
            assert!(!is_test(&labels(&[("tugbot.test", value)])), "{value}");
        }
        assert!(!is_test(&labels(&[("tugbot.testing", "")])));
        assert!(!is_test(&labels(&[])));
    }

    #[test]
    fn a_copy_is_known_in_both_spellings() {
        assert!(is_copy(&labels(&[("tugbot.created.from", "t1")])));
        assert!(is_copy(&labels(&[("tugbot-created-from", "t1")])));
        assert!(!is_copy(&labels(&[("tugbot.test", "")])));
    }

    #[test]
    fn go_durations_in_every_unit() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("30s", 30_000_000_000),
            ("90", 90_000_000_000),
            ("+5s", 5_000_000_000),
            (" 4h30m ", 16_200_000_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("2.s", 2_000_000_000),
            ("250ms", 250_000_000),
            ("7\u{b5}s", 7_000),
            ("7\u{3bc}s", 7_000),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("1m1m", 120_000_000_000),
            ("9223372036854775807ns", i64::MAX as u64),
        ] {
            assert_eq!(parse_go_duration(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_says_why() {
        for (text, message) in [
            ("", "a duration is missing: write for example `30s` or `4h30m`"),
            ("-5s", "duration `-5s` is negative"),
            ("soon", "duration `soon` has no number before `soon`: write for example `30s` or `4h30m`"),
            ("+", "duration `+` has no number before ``: write for example `30s` or `4h30m`"),
            ("1.5", "duration `1.5` has no unit after `1.5`: write ns, us, ms, s, m or h"),
            ("1h30", "duration `1h30` has no unit after `30`: write ns, us, ms, s, m or h"),
            ("2d", "duration `2d` has the unknown unit `d`: write ns, us, ms, s, m or h"),
            ("1h 30m", "duration `1h 30m` has the unknown unit `h `: write ns, us, ms, s, m or h"),
            ("9223372036854775808ns", "duration `9223372036854775808ns` is longer than 292 years"),
            ("99999999999999999999h", "duration `99999999999999999999h` is longer than 292 years"),
        ] {
            assert_eq!(parse_go_duration(text).map_err(|e| e.to_string()), Err(message.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn canonical_is_a_fixed_point(key in "(tugbot|tagbot|x)?[.-]?[a-z.-]{0,20}") {
            if let Some(once) = canonical(&key) {
                prop_assert_eq!(canonical(&once), Some(once));
            }
        }

        #[test]
        fn get_finds_what_canonical_names(key in "(tugbot|tagbot)[.-][a-z]{1,8}([.-][a-z]{1,8}){0,3}") {
            let name = canonical(&key).expect("has the prefix");
            let given = labels(&[(&key, "v")]);
            prop_assert_eq!(get(&given, &name), Some("v"));
        }

        #[test]
        fn durations_never_panic(text in "\\PC{0,24}") {
            let _ = parse_go_duration(&text);
        }

        #[test]
        fn compound_durations_add_up(h in 0u64..1000, m in 0u64..1000, s in 0u64..1000, ms in 0u64..1000) {
            let text = format!("{h}h{m}m{s}s{ms}ms");
            let expected = Duration::from_secs(h * 3600 + m * 60 + s) + Duration::from_millis(ms);
            prop_assert_eq!(parse_go_duration(&text), Ok(expected));
        }
    }
}
