//! The pages for people, rendered on the server. Never writes to the store.

use axum::Router;

use crate::app::App;

/// The routes of all pages.
pub(crate) fn router() -> Router<App> {
    Router::new()
}
