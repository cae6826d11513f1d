//! The HTTP API: routes and their OpenAPI document. Handlers are thin: what they decide is decided elsewhere.

#![allow(unused_qualifications, reason = "utoipa's macros write the types of parameters with a path")]

mod events;
mod files;
mod health;
mod keys;
mod listing;
mod results;
mod runs;
mod stream;
mod tests;

pub(crate) use self::tests::request_run;
use axum::{Router, extract::DefaultBodyLimit, http::StatusCode};
use tower_http::timeout::TimeoutLayer;
use utoipa::{
    OpenApi as _,
    openapi::{
        OpenApi,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::App, settings::Limits};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Tugyard result service",
        description = "Stores test results and events, and shows them. Errors are problem details (RFC 9457); \
                       listings are paged: hand `next` back as `after`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        contact(),
    ),
    tags(
        (name = "intake", description = "Results and events on their way in"),
        (name = "read", description = "What is stored"),
        (name = "admin", description = "Keys"),
        (name = "health", description = "For monitors"),
    ),
)]
struct Document;

/// The routes of the API, and their description.
pub(crate) fn routes(app: &App) -> (Router<App>, OpenApi) {
    described(&app.settings().limits)
}

fn described(limits: &Limits) -> (Router<App>, OpenApi) {
    let patient = OpenApiRouter::new().routes(routes!(results::post)).routes(routes!(stream::get));
    let prompt = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(events::post))
        .routes(routes!(events::list))
        .routes(routes!(tests::list))
        .routes(routes!(tests::show))
        .routes(routes!(tests::request_run))
        .routes(routes!(runs::list))
        .routes(routes!(runs::show))
        .routes(routes!(runs::cases))
        .routes(routes!(runs::files))
        .routes(routes!(files::download))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .layer(DefaultBodyLimit::max(limits.events_bytes))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, limits.answer_time));
    let (router, mut document) = prompt.merge(patient).split_for_parts();
    describe_keys(&mut document);
    describe_file_paths(&mut document);
    (router, document)
}

/// The OpenAPI document, as it is checked in.
pub fn openapi_json() -> String {
    let (_, document) = described(&Limits::default());
    // The document is made of strings, lists and maps with string keys.
    let mut text = document.to_pretty_json().expect("a document of plain values is JSON");
    text.push('\n');
    text
}

fn describe_keys(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A key: `ty_…`")).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    components
        .add_security_scheme("header", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-Api-Key"))));
}

/// The router's notation for "the rest of the path" is not one of OpenAPI.
fn describe_file_paths(document: &mut OpenApi) {
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
}
