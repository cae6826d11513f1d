//! Positions in listings as text that clients hand back. Pure.

use super::StoreError;
use crate::views::Cursor;

/// The position of a row in a listing by time: `<microseconds>.<key>`.
pub(super) fn by_time(at: i64, key: i64) -> Cursor {
    Cursor(format!("{at}.{key}"))
}

pub(super) fn time_and_key(cursor: &Cursor) -> Result<(i64, i64), StoreError> {
    let bad = || StoreError::BadCursor(cursor.0.clone());
    let (at, key) = cursor.0.split_once('.').ok_or_else(bad)?;
    Ok((at.parse().map_err(|_| bad())?, key.parse().map_err(|_| bad())?))
}

/// The position of a row in a listing by number.
pub(super) fn number(cursor: &Cursor) -> Result<i64, StoreError> {
    cursor.0.parse().map_err(|_| StoreError::BadCursor(cursor.0.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_and_anything_else_is_refused() {
        assert_eq!(time_and_key(&by_time(-5, 7)).ok(), Some((-5, 7)));
        for bad in ["", "1", "a.b", "1.2.3", "9223372036854775808.1"] {
            assert!(time_and_key(&Cursor(bad.to_owned())).is_err(), "{bad}");
        }
        assert!(number(&Cursor("x".to_owned())).is_err());
    }
}
