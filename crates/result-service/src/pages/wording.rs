//! Puts quantities into words for people: ages, durations, sizes, shares, names of events. Pure: `now` is an
//! argument.

use std::fmt;

use askama::filters::HtmlSafe;
use jiff::{SignedDuration, Timestamp};

/// A `<time>` element: the age in words, the exact time in its attributes.
pub(super) struct Ago {
    at: Timestamp,
    now: Timestamp,
}

/// A `<time>` element: the exact time in words.
pub(super) struct Utc(Timestamp);

// Both write nothing but digits and fixed words.
impl HtmlSafe for Ago {}
impl HtmlSafe for Utc {}

/// How long ago `at` was, as an element.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> Ago {
    Ago { at, now }
}

/// `at` itself, as an element.
pub(super) fn utc(at: Timestamp) -> Utc {
    Utc(at)
}

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (machine, exact) = (machine_time(self.at), exact_time(self.at));
        write!(f, r#"<time datetime="{machine}" title="{exact}" data-ago>{}</time>"#, age(self.at, self.now))
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"<time datetime="{}">{}</time>"#, machine_time(self.0), exact_time(self.0))
    }
}

fn machine_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-03-01 12:00:00 UTC`
pub(super) fn exact_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `just now`, `5 min ago`, `3 h ago`, `2 days ago`, and the date of what is older than that. `live.js` counts
/// on in the same words.
pub(super) fn age(at: Timestamp, now: Timestamp) -> String {
    let passed = now.duration_since(at);
    if passed < SignedDuration::from_secs(-60) {
        // A host's clock runs ahead of ours: the exact time says more than a negative age.
        return at.strftime("%Y-%m-%d %H:%M").to_string();
    }
    let minutes = passed.as_mins();
    match minutes {
        ..1 => "just now".to_owned(),
        1..60 => format!("{minutes} min ago"),
        60..1_440 => format!("{} h ago", minutes / 60),
        1_440..2_880 => "1 day ago".to_owned(),
        2_880..43_200 => format!("{} days ago", minutes / 1_440),
        _ => at.strftime("%Y-%m-%d").to_string(),
    }
}

/// `340 ms`, `2.41 s`, `1 min 5 s`, `2 h 3 min`.
pub(super) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".to_owned();
    }
    if seconds < 0.9995 {
        return format!("{:.0} ms", seconds * 1000.0);
    }
    if seconds < 9.995 {
        return format!("{seconds:.2} s");
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and no run lasts for 10^18 s")]
    let whole = seconds.round() as i64;
    match whole {
        ..3_600 => two_units(whole, 60, "min", 1, "s"),
        3_600..172_800 => two_units(whole, 3_600, "h", 60, "min"),
        _ => two_units(whole, 86_400, "days", 3_600, "h"),
    }
}

fn two_units(seconds: i64, large: i64, name: &str, small: i64, small_name: &str) -> String {
    match seconds % large / small {
        0 => format!("{} {name}", seconds / large),
        rest => format!("{} {name} {rest} {small_name}", seconds / large),
    }
}

/// `0 B`, `17 B`, `1.4 kB`, `12 MB`: powers of ten.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut value = bytes as f64 / 1_000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    let unit = UNITS[unit];
    if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// The share in whole percent, rounded down: 100 means all.
pub(super) fn percent(part: usize, whole: usize) -> usize {
    (part * 100).checked_div(whole).unwrap_or(0)
}

/// `1 run`, `2 runs`, with narrow spaces between thousands.
pub(super) fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// `12 345` with narrow no-break spaces.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len());
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// What an event of this type says happened, in a few words: `container start`, `test run finished`. A type
/// that follows no pattern we know is shown as it is.
pub(super) fn event_words(kind: &str) -> String {
    let ours = kind.strip_prefix("dev.cdeventsx.").or_else(|| kind.strip_prefix("dev.cdevents."));
    let Some(mut parts) = ours.map(|rest| rest.split('.')) else { return kind.to_owned() };
    let (Some(subject), Some(verb)) = (parts.next(), parts.next()) else { return kind.to_owned() };
    let subject = match subject {
        "testsuiterun" => "test run",
        "testcaserun" => "test case",
        "tugyard-run" => "run",
        other => other.strip_prefix("docker-").unwrap_or(other),
    };
    format!("{} {}", subject.replace('-', " "), verb.replace(['-', '_'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn ages_grow_from_now_to_a_date() {
        for (seconds, expected) in [
            (0, "just now"),
            (-30, "just now"),
            (59, "just now"),
            (60, "1 min ago"),
            (3_599, "59 min ago"),
            (3_600, "1 h ago"),
            (86_399, "23 h ago"),
            (86_400, "1 day ago"),
            (172_800, "2 days ago"),
            (29 * 86_400, "29 days ago"),
            (30 * 86_400, "2027-01-15"),
        ] {
            assert_eq!(age(at(0), at(seconds)), expected, "after {seconds} s");
        }
        assert_eq!(age(at(7_200), at(0)), "2027-01-15 10:00", "a clock that runs ahead");
    }

    #[test]
    fn durations_keep_three_digits_or_two_units() {
        for (seconds, expected) in [
            (0.0, "0 ms"),
            (0.34, "340 ms"),
            (0.9996, "1.00 s"),
            (2.414, "2.41 s"),
            (12.34, "12.3 s"),
            (59.96, "1 min"),
            (65.2, "1 min 5 s"),
            (7_380.0, "2 h 3 min"),
            (200_000.0, "2 days 7 h"),
            (f64::NAN, "–"),
            (-1.0, "–"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn sizes_shares_and_counts() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1_440), "1.4 kB");
        assert_eq!(size(999_999), "1.0 MB");
        assert_eq!(size(12_345_678_900), "12 GB");
        assert_eq!(percent(999, 1000), 99, "one failure in a thousand is not 100 %");
        assert_eq!(percent(0, 0), 0);
        assert_eq!(count(1, "run"), "1 run");
        assert_eq!(count(1_234_567, "run"), "1\u{202f}234\u{202f}567 runs");
    }

    #[test]
    fn event_types_become_words_where_they_follow_a_pattern() {
        for (kind, expected) in [
            ("dev.cdeventsx.docker-container.health_status.0.1.0", "container health status"),
            ("dev.cdeventsx.docker-image.pull.0.1.0", "image pull"),
            ("dev.cdevents.testsuiterun.finished.0.2.0", "test run finished"),
            ("dev.cdeventsx.tugyard-run.requested.0.1.0", "run requested"),
            ("com.example.deployed", "com.example.deployed"),
            ("dev.cdevents.", "dev.cdevents."),
        ] {
            assert_eq!(event_words(kind), expected);
        }
    }

    #[test]
    fn a_time_element_carries_the_exact_time() {
        let element = ago(at(0), at(300)).to_string();
        assert_eq!(
            element,
            r#"<time datetime="2027-01-15T08:00:00Z" title="2027-01-15 08:00:00 UTC" data-ago>5 min ago</time>"#
        );
    }
}
