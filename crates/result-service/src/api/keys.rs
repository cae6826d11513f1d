//! Keys: made, listed and revoked by an admin.

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use tracing::info;
use utoipa::ToSchema;

use crate::{
    app::App,
    http::{
        access::Admin,
        extract::At,
        problem::{self, Problem},
    },
    views::{KeyRow, Scope},
};

/// All keys, also revoked ones.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Keys {
    /// In the order in which they were made.
    items: Vec<KeyRow>,
}

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Wanted {
    /// What to call it.
    name: String,
    /// What it may do.
    scopes: Vec<Scope>,
}

/// A key that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct Made {
    /// The key itself: shown now and never again.
    key: String,
    #[serde(flatten)]
    row: KeyRow,
}

/// All keys, without their secrets.
#[utoipa::path(get, path = "/api/v1/keys", tag = "admin", operation_id = "listKeys", responses(
    (status = 200, body = Keys),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
), security(("bearer" = ["admin"]), ("header" = ["admin"])))]
pub(super) async fn list(State(app): State<App>, _: Admin) -> Result<Json<Keys>, Problem> {
    Ok(Json(Keys { items: app.store().keys().await? }))
}

/// Makes a key. The answer is the only place where it is ever shown.
#[utoipa::path(post, path = "/api/v1/keys", tag = "admin", operation_id = "createKey", request_body = Wanted, responses(
    (status = 201, body = Made),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
), security(("bearer" = ["admin"]), ("header" = ["admin"])))]
pub(super) async fn create(
    State(app): State<App>,
    _: Admin,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(wanted) = body.map_err(|error| Problem::new(error.status(), problem::chain(&error)))?;
    let name = wanted.name.trim();
    if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
        return Err(Problem::unprocessable("`name` must have 1 to 200 characters, all printable"));
    }
    if wanted.scopes.is_empty() {
        return Err(Problem::unprocessable("`scopes` is empty: give upload, read or admin"));
    }
    let made = app.store().create_key(name, &wanted.scopes, Timestamp::now()).await?;
    info!(key.id = made.row.id, "made a key");
    let body = Made { key: made.secret.expose_secret().to_owned(), row: made.row };
    let mut response = (StatusCode::CREATED, Json(body)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Revokes a key for good.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "admin", operation_id = "revokeKey", params(("id" = String, Path)), responses(
    (status = 204),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
), security(("bearer" = ["admin"]), ("header" = ["admin"])))]
pub(super) async fn revoke(
    State(app): State<App>,
    _: Admin,
    At(id): At<String>,
) -> Result<StatusCode, Problem> {
    if !app.store().revoke_key(&id, Timestamp::now()).await? {
        return Err(Problem::not_found(format!("there is no key `{id}`")));
    }
    info!(key.id = id, "revoked a key");
    Ok(StatusCode::NO_CONTENT)
}
