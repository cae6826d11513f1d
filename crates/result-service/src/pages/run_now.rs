//! `POST /tests/{name}/run`: the button "Run now". Publishes a request; who runs tests hears of it on the stream.
//!
//! Needs no token of its own against forged posts: the service refuses every write that a page of another site makes
//! a browser send. Where a key is needed, the browser asks the user for it.

use axum::{Json, extract::State, response::Redirect};

use super::layout;
use crate::{
    api,
    app::App,
    http::{access::Uploader, extract::At, problem::Problem},
};

pub(super) async fn post(
    State(app): State<App>,
    by: Uploader,
    At(name): At<String>,
) -> Result<Redirect, Problem> {
    let page = layout::test_path(&name);
    let (_, Json(_)) = api::request_run(State(app), by, At(name)).await?;
    // Back to the page, so that reloading it asks for nothing.
    Ok(Redirect::to(&format!("{page}?asked=yes")))
}
