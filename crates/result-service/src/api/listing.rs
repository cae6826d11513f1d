//! The query parameters that listings share.

use serde::Deserialize;
use utoipa::IntoParams;

use crate::views::{Cursor, PageRequest};

/// How many items a page has when the client does not say.
const USUAL: u32 = 50;

/// Which page of a listing.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// Where to continue: `next` of the page before.
    after: Option<String>,
    /// How many items; 50 unless told, at most 500.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

impl From<Paging> for PageRequest {
    fn from(paging: Paging) -> Self {
        Self { after: paging.after.map(Cursor), limit: paging.limit.unwrap_or(USUAL) }
    }
}
