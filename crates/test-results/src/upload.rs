//! The form in which results travel to the result service.
use jiff::Timestamp;

/// Reads a time as RFC 3339.
pub fn parse_time(text: &str) -> Result<Option<Timestamp>, jiff::Error> {
    let repaired = text.trim().replace(' ', "+");
    if repaired.starts_with("0001-01-01") {
        return Ok(None);
    }
    repaired.parse().map(Some)
}
