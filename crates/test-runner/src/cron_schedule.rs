//! `tugbot.event.cron`: a cron expression in a time zone. Pure: reads no clock.
//!
//! The zone is written in front, as cron daemons have it (`TZ=Europe/Berlin 0 3 * * *`, also `CRON_TZ=`), or behind
//! a semicolon (`0 3 * * *;Europe/Berlin`). Without one the schedule is in UTC. Five fields count minutes, six begin
//! with seconds; `@daily` and its like are understood.

use std::fmt;

use croner::Cron;
use jiff::{Timestamp, tz::TimeZone};

/// A schedule that has at least one slot to come.
#[derive(Clone, Debug)]
pub struct CronSchedule {
    expression: String,
    cron: Cron,
    zone: TimeZone,
}

/// Why a text is not a schedule.
#[derive(Debug, thiserror::Error)]
pub enum CronScheduleError {
    /// The zone is unknown.
    #[error("time zone `{zone}` is unknown: write a name of the IANA database such as Europe/Berlin")]
    Zone {
        /// What was given.
        zone: String,
        /// The cause.
        #[source]
        source: jiff::Error,
    },
    /// The expression has no meaning.
    #[error("`{expression}` is not a cron expression: {reason}")]
    Expression {
        /// What was given.
        expression: String,
        /// The parser's words.
        reason: String,
    },
    /// It never comes true, such as on the 30th of February.
    #[error("`{expression}` never comes true")]
    Never {
        /// What was given.
        expression: String,
    },
}

impl CronSchedule {
    /// Reads the label's value.
    pub fn parse(text: &str) -> Result<Self, CronScheduleError> {
        let (expression, zone) = split_zone(text.trim());
        let time_zone = match zone {
            Some(zone) => TimeZone::get(zone)
                .map_err(|source| CronScheduleError::Zone { zone: zone.to_owned(), source })?,
            None => TimeZone::UTC,
        };
        let cron: Cron = expression.parse().map_err(|error: croner::errors::CronError| {
            CronScheduleError::Expression { expression: expression.to_owned(), reason: error.to_string() }
        })?;
        let schedule = Self { expression: expression.to_owned(), cron, zone: time_zone };
        match schedule.next_after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(CronScheduleError::Never { expression: expression.to_owned() }),
        }
    }

    /// The first slot later than `at`; none if the schedule has run out.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let at = at.to_zoned(self.zone.clone());
        self.cron.find_next_occurrence(&at, false).ok().map(|slot| slot.timestamp())
    }

    /// The last slot that is not later than `at`.
    pub fn latest_until(&self, at: Timestamp) -> Option<Timestamp> {
        let at = at.to_zoned(self.zone.clone());
        self.cron.find_previous_occurrence(&at, true).ok().map(|slot| slot.timestamp())
    }
}

impl fmt::Display for CronSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cron {} ({})", self.expression, self.zone.iana_name().unwrap_or("UTC"))
    }
}

/// Takes the zone off the front or the back.
fn split_zone(text: &str) -> (&str, Option<&str>) {
    let assigned = |text| ["CRON_TZ=", "TZ="].iter().find_map(|name| str::strip_prefix(text, *name));
    if let Some((zone, expression)) =
        assigned(text).and_then(|rest: &str| rest.split_once(char::is_whitespace))
    {
        return (expression.trim(), Some(zone));
    }
    match text.split_once(';') {
        Some((expression, zone)) => {
            let zone = zone.trim();
            (expression.trim(), Some(assigned(zone).unwrap_or(zone)))
        }
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(schedule: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = CronSchedule::parse(schedule).unwrap();
        let mut at: Timestamp = from.parse().unwrap();
        (0..count)
            .map(|_| {
                at = schedule.next_after(at).unwrap();
                at.to_string()
            })
            .collect()
    }

    #[test]
    fn every_spelling_of_the_zone_means_the_same() {
        for text in [
            "TZ=Europe/Berlin 0 3 * * *",
            "CRON_TZ=Europe/Berlin  0 3 * * *",
            "0 3 * * *;Europe/Berlin",
            "0 3 * * * ; TZ=Europe/Berlin",
        ] {
            assert_eq!(slots(text, "2026-01-10T00:00:00Z", 1), ["2026-01-10T02:00:00Z"], "{text}");
            assert_eq!(
                CronSchedule::parse(text).unwrap().to_string(),
                "cron 0 3 * * * (Europe/Berlin)",
                "{text}"
            );
        }
        assert_eq!(slots("0 3 * * *", "2026-01-10T00:00:00Z", 1), ["2026-01-10T03:00:00Z"]);
    }

    #[test]
    fn a_day_has_one_slot_also_when_the_clock_changes() {
        // Europe/Berlin leaves out 02:30 on 2026-03-29 and has it twice on 2026-10-25.
        let spring = slots("30 2 * * *;Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(spring[0], "2026-03-28T01:30:00Z");
        assert_eq!(spring[2], "2026-03-30T00:30:00Z");
        let autumn = slots("30 2 * * *;Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    }

    #[test]
    fn seconds_are_an_optional_first_field() {
        assert_eq!(slots("*/10 * * * * *", "2026-01-01T00:00:05Z", 2)[1], "2026-01-01T00:00:20Z");
        assert_eq!(slots("@hourly", "2026-01-01T00:30:00Z", 1), ["2026-01-01T01:00:00Z"]);
    }

    #[test]
    fn the_latest_slot_includes_the_moment_itself() {
        let schedule = CronSchedule::parse("*/5 * * * *").unwrap();
        let latest =
            |at: &str| schedule.latest_until(at.parse().unwrap()).map(|slot| slot.to_string()).unwrap();
        assert_eq!(latest("2026-01-01T00:05:00Z"), "2026-01-01T00:05:00Z");
        assert_eq!(latest("2026-01-01T00:09:59.9Z"), "2026-01-01T00:05:00Z");
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        let message = |text| CronSchedule::parse(text).unwrap_err().to_string();
        assert!(message("0 3 * * *;Mars/Base").starts_with("time zone `Mars/Base` is unknown"));
        assert!(message("nightly").starts_with("`nightly` is not a cron expression"));
        assert_eq!(message("0 0 30 2 *"), "`0 0 30 2 *` never comes true");
        assert!(CronSchedule::parse("").is_err());
        assert!(CronSchedule::parse("61 * * * *").is_err());
    }
}
