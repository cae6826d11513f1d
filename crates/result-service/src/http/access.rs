//! Who may do what: keys in requests, doors that stand open, and a bound on wrong keys.
//!
//! A key comes as `Authorization: Bearer KEY`, as `X-Api-Key: KEY`, or, for browsers, as the password of
//! `Authorization: Basic`. A key that is presented must be valid, also where none is needed.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;

use super::problem::Problem;
use crate::{
    app::App,
    store::{Presented, SecretShape},
    views::{KeyRow, Scope},
};

/// The address of the client, set for each connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Somebody who may read.
pub(crate) struct Reader;

/// Somebody who may store results and events.
pub(crate) struct Uploader {
    /// The key, unless the door stands open.
    pub(crate) key: Option<KeyRow>,
}

/// Somebody who may do everything.
pub(crate) struct Admin;

impl FromRequestParts<App> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let open = app.settings().access.open_read;
        authorize(parts, app, Scope::Read, open).await.map(|_| Self)
    }
}

impl FromRequestParts<App> for Uploader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let open = app.settings().access.open_upload;
        authorize(parts, app, Scope::Upload, open).await.map(|key| Self { key })
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        authorize(parts, app, Scope::Admin, false).await.map(|_| Self)
    }
}

/// Lets only readers through to the routes behind it.
pub(crate) async fn readers_only(State(app): State<App>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match Reader::from_request_parts(&mut parts, &app).await {
        Ok(Reader) => next.run(Request::from_parts(parts, body)).await,
        Err(problem) => problem.into_response(),
    }
}

async fn authorize(parts: &Parts, app: &App, scope: Scope, open: bool) -> Result<Option<KeyRow>, Problem> {
    let Some(secret) = presented(&parts.headers) else {
        return if open {
            Ok(None)
        } else {
            Err(Problem::unauthorized(format!("this needs a key with the scope `{scope}`")))
        };
    };
    let address = parts.extensions.get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
    let shape = SecretShape::of(&secret);
    let limit = app.settings().limits.wrong_keys;
    if let Some(wait) = app.wrong_keys().refused(address, shape.as_ref(), limit, Instant::now()) {
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many wrong keys from this address");
        return Err(problem.retry_after(wait));
    }
    let key = match &shape {
        Some(shape) => app.store().present(shape, Timestamp::now()).await?,
        None => Presented::Unknown,
    };
    match (key, shape) {
        (Presented::Valid(key), Some(shape)) => {
            app.wrong_keys().right(shape);
            let allowed = key.scopes.iter().any(|has| *has == scope || *has == Scope::Admin);
            if allowed || open {
                Ok(Some(key))
            } else {
                let detail = format!("key `{}` has not the scope `{scope}`", key.id);
                Err(Problem::new(StatusCode::FORBIDDEN, detail))
            }
        }
        (Presented::Revoked, _) => Err(Problem::unauthorized("this key was revoked")),
        _ => {
            app.wrong_keys().wrong(address, Instant::now());
            Err(Problem::unauthorized("this is no key of this service"))
        }
    }
}

/// The key of a request, wherever it is.
fn presented(headers: &HeaderMap) -> Option<String> {
    if let Some(key) = headers.get("x-api-key") {
        return Some(String::from_utf8_lossy(key.as_bytes()).trim().to_owned());
    }
    let value = String::from_utf8_lossy(headers.get(header::AUTHORIZATION)?.as_bytes()).into_owned();
    let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    let basic = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(rest.trim()).ok()).flatten();
    let password =
        basic.and_then(|pair| String::from_utf8(pair).ok()?.split_once(':').map(|(_, p)| p.to_owned()));
    // Another scheme is a key that cannot be valid: it must not pass for no key at all.
    Some(password.unwrap_or_default())
}

/// Counts wrong keys by address. Bounded: an attacker with many addresses makes it forget, not grow.
#[derive(Default)]
pub(crate) struct WrongKeys {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    wrong: HashMap<IpAddr, Minute>,
    /// Keys that were right before: they pass from a refused address too, so that nobody can lock out a
    /// collector that shares an address with him.
    right: HashSet<SecretShape>,
}

struct Minute {
    since: Instant,
    count: u32,
}

impl WrongKeys {
    const WINDOW: Duration = Duration::from_secs(60);
    const MOST: usize = 10_000;

    /// How long this address is refused; `None` when it is not.
    fn refused(
        &self,
        address: IpAddr,
        shape: Option<&SecretShape>,
        limit: u32,
        now: Instant,
    ) -> Option<Duration> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if shape.is_some_and(|shape| seen.right.contains(shape)) {
            return None;
        }
        let minute = seen.wrong.get(&address)?;
        let left = Self::WINDOW.checked_sub(now.duration_since(minute.since))?;
        (minute.count >= limit).then_some(left)
    }

    fn wrong(&self, address: IpAddr, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.wrong.len() >= Self::MOST {
            seen.wrong.retain(|_, minute| now.duration_since(minute.since) < Self::WINDOW);
        }
        if seen.wrong.len() >= Self::MOST {
            seen.wrong.clear();
        }
        let minute = seen.wrong.entry(address).or_insert(Minute { since: now, count: 0 });
        if now.duration_since(minute.since) >= Self::WINDOW {
            *minute = Minute { since: now, count: 0 };
        }
        minute.count += 1;
    }

    fn right(&self, shape: SecretShape) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.right.len() < Self::MOST {
            seen.right.insert(shape);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().expect("a name"), value.parse().expect("a value"))])
    }

    #[test]
    fn a_key_is_found_wherever_it_is() {
        let basic = format!("Basic {}", STANDARD.encode("anyone:ty_1"));
        for (name, value) in [
            ("authorization", "Bearer ty_1"),
            ("authorization", "bearer  ty_1 "),
            ("authorization", &basic),
            ("x-api-key", "ty_1"),
        ] {
            assert_eq!(presented(&headers(name, value)).as_deref(), Some("ty_1"), "{value}");
        }
        assert_eq!(presented(&HeaderMap::new()), None);
        for wrong in ["Digest x", "Bearer", "Basic %%", ""] {
            assert_eq!(presented(&headers("authorization", wrong)).as_deref(), Some(""), "{wrong}");
        }
    }

    #[test]
    fn an_address_is_refused_for_a_minute_after_too_many_wrong_keys() {
        let (keys, address, start) = (WrongKeys::default(), IpAddr::from([192, 0, 2, 1]), Instant::now());
        let good = SecretShape::of(&format!("ty_{}", "a".repeat(64))).expect("has the form");
        for _ in 0..3 {
            assert_eq!(keys.refused(address, None, 3, start), None);
            keys.wrong(address, start);
        }
        assert!(keys.refused(address, Some(&good), 3, start).is_some());
        assert_eq!(keys.refused(IpAddr::from([192, 0, 2, 2]), None, 3, start), None);
        keys.right(good.clone());
        assert_eq!(keys.refused(address, Some(&good), 3, start), None);
        let later = start + WrongKeys::WINDOW + Duration::from_secs(1);
        assert_eq!(keys.refused(address, None, 3, later), None);
        keys.wrong(address, later);
        assert_eq!(keys.refused(address, None, 3, later), None);
    }

    #[test]
    fn many_addresses_do_not_make_the_count_grow() {
        let (keys, now) = (WrongKeys::default(), Instant::now());
        for n in 0..25_000u32 {
            keys.wrong(IpAddr::from(n.to_be_bytes()), now);
        }
        assert!(keys.seen.lock().expect("not poisoned").wrong.len() <= WrongKeys::MOST);
    }
}
