//! The pages for people, rendered on the server. Each is a pure function from what the store says to HTML, with a thin
//! handler before it, and has a JSON twin under the same address. Never writes to the store but for "run now".

mod ansi;
mod assets;
mod console;
mod event_list;
mod layout;
mod one_run;
mod one_test;
mod plot;
mod reply;
mod run_now;
mod test_list;
mod wording;

use axum::{
    Router,
    response::Redirect,
    routing::{get, post},
};
use test_results::{State, TriggerKind};

pub(crate) use self::reply::problems_as_pages;
use crate::{app::App, http::problem::Problem};

/// The routes of all pages.
pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/", get(test_list::get))
        .route("/index.json", get(test_list::get))
        .route("/tests", get(|| async { Redirect::permanent("/") }))
        .route("/tests/{name}", get(one_test::get))
        .route("/tests/{name}/run", post(run_now::post))
        .route("/runs/{id}", get(one_run::get))
        .route("/events", get(event_list::get))
        .route("/events.json", get(event_list::get))
        .route("/events/{id}", get(event_list::get_one))
        .route("/assets/{name}", get(assets::get))
}

/// The state that a query names; none when it is empty.
fn state_named(word: &str) -> Result<Option<State>, Problem> {
    let states = [State::Passed, State::Failed, State::TimedOut, State::Lost];
    let named = states.into_iter().find(|state| state.as_str() == word);
    if named.is_none() && !word.is_empty() {
        let detail = format!("`{word}` is not a state: use passed, failed, timed-out or lost");
        return Err(Problem::bad_request(detail));
    }
    Ok(named)
}

/// What kind of trigger it was, in a word.
fn trigger_word(trigger: &TriggerKind) -> &'static str {
    match trigger {
        TriggerKind::Timer => "timer",
        TriggerKind::Docker => "container engine",
        TriggerKind::Cron => "schedule",
        TriggerKind::Image => "new image",
        TriggerKind::Host => "host",
        TriggerKind::After => "after another test",
        TriggerKind::Cd => "delivery event",
        TriggerKind::Manual => "by hand",
    }
}

/// The path of the icon that stands for a state, a status or an act, on a ground of 16 × 16.
fn icon(word: &str) -> &'static str {
    match word {
        "passed" => "M3.5 8.6l3 3 6-7.2",
        "failed" => "M4.2 4.2l7.6 7.6m0-7.6l-7.6 7.6",
        "timed-out" => "M2.4 8a5.6 5.6 0 1 0 11.2 0a5.6 5.6 0 1 0-11.2 0M8 4.9V8l2.2 1.6",
        "lost" => "M5.6 6.1a2.5 2.5 0 1 1 3.4 2.3c-.7.3-1 .8-1 1.5M8 12.4v.1",
        "skipped" => "M4 4l4.5 4L4 12zM11.5 4v8",
        "error" | "unexpected-success" => "M8 3v6.2M8 12.6v.1",
        "expected-failure" => "M3.5 5.6l2.3 2.3 4.6-5M4 12.5h8",
        "run" => "M5 3.5l7 4.5-7 4.5z",
        _ => "",
    }
}
