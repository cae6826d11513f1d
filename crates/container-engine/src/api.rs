//! Requests to the engine's HTTP API: addresses, time limits, errors. One place for all calls; what they mean is
//! known elsewhere.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde::{Serialize, de::DeserializeOwned};
use tracing::trace;
use url::form_urlencoded;

use crate::{
    EngineError,
    error::{NoAnswer, Subject, message_of},
    transport::Transport,
    version::ApiVersion,
};

/// Reads that only look something up.
pub(crate) const QUICK: Duration = Duration::from_secs(30);
/// Calls that make the engine work: create, start, remove. A busy disk takes its time.
pub(crate) const SLOW: Duration = Duration::from_secs(180);

/// A stream of bytes from the engine.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, EngineError>> + Send>>;

/// An engine's API; cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    /// `http://host:port/prefix`, without a slash at the end.
    base: String,
    /// Set by the negotiation; until then the engine answers in its newest.
    version: RwLock<Option<ApiVersion>>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("base", &self.inner.base).field("version", &self.version()).finish()
    }
}

impl Api {
    pub(crate) fn new(transport: Transport, base: String) -> Self {
        Self { inner: Arc::new(Inner { transport, base, version: RwLock::new(None) }) }
    }

    pub(crate) fn version(&self) -> Option<ApiVersion> {
        *self.inner.version.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Speaks this version from now on, in all clones.
    pub(crate) fn set_version(&self, version: ApiVersion) {
        *self.inner.version.write().unwrap_or_else(PoisonError::into_inner) = Some(version);
    }

    /// Begins a call. Each segment of the path is encoded by itself, so a name can never become another path.
    pub(crate) fn call(&self, method: Method, path: &[&str]) -> Call {
        self.call_at(self.version(), method, path)
    }

    /// `GET` outside all versions, as only `/version` can be asked for.
    pub(crate) fn get_unversioned(&self, path: &[&str]) -> Call {
        self.call_at(None, Method::GET, path)
    }

    fn call_at(&self, version: Option<ApiVersion>, method: Method, path: &[&str]) -> Call {
        let mut uri = self.inner.base.clone();
        if let Some(version) = version {
            uri.push_str(&format!("/v{version}"));
        }
        let mut nameless = false;
        for segment in path {
            nameless |= matches!(*segment, "" | "." | "..");
            uri.push('/');
            encode_segment(&mut uri, segment);
        }
        Call {
            transport: self.inner.transport.clone(),
            method,
            uri,
            nameless,
            query: String::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            limit: Some(QUICK),
            subject: Subject { kind: "object", name: path.join("/"), action: "answer".to_owned() },
        }
    }

    pub(crate) fn get(&self, path: &[&str]) -> Call {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &[&str]) -> Call {
        self.call(Method::POST, path).within(SLOW)
    }

    pub(crate) fn delete(&self, path: &[&str]) -> Call {
        self.call(Method::DELETE, path).within(SLOW)
    }
}

/// A call that has not been sent.
#[must_use]
pub(crate) struct Call {
    transport: Transport,
    method: Method,
    uri: String,
    nameless: bool,
    query: String,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    body: Bytes,
    limit: Option<Duration>,
    subject: Subject,
}

impl Call {
    /// The object that the call is about and the deed, for errors: `inspect` on `container`, `t1`.
    pub(crate) fn to(mut self, deed: &str, kind: &'static str, name: &str) -> Self {
        let action = if name.is_empty() { deed.to_owned() } else { format!("{deed} {kind} `{name}`") };
        self.subject = Subject { kind, name: name.to_owned(), action };
        self
    }

    pub(crate) fn query(mut self, key: &str, value: &str) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(key);
        self.query.push('=');
        self.query.extend(form_urlencoded::byte_serialize(value.as_bytes()));
        self
    }

    pub(crate) fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn json_body(mut self, body: &impl Serialize) -> Self {
        self.body =
            serde_json::to_vec(body).expect("a document of strings and numbers can be written").into();
        self
    }

    /// How long the whole exchange may take; for a stream: how long until it begins.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// For calls that answer when something happens, not when they can.
    pub(crate) fn unlimited(mut self) -> Self {
        self.limit = None;
        self
    }

    /// Sends the call and returns the answer when it is a success.
    pub(crate) async fn send(self) -> Result<(Response<Incoming>, Subject), EngineError> {
        let Self { transport, method, mut uri, nameless, query, headers, body, limit, subject } = self;
        if nameless {
            // The engine would redirect to another resource altogether.
            return Err(EngineError::NotFound { kind: subject.kind, name: subject.name });
        }
        uri.push_str(&query);
        trace!(%method, uri, "engine call");
        let mut request = Request::builder().method(method).uri(uri);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| subject.garbled(error))?;
        let exchange = async {
            let response = transport.send(request).await.map_err(|error| subject.unreachable(error))?;
            let status = response.status();
            if status.is_success() || status == StatusCode::NOT_MODIFIED {
                return Ok(response);
            }
            let body = response.into_body().collect().await.map_err(|error| subject.unreachable(error))?;
            Err(subject.error(status, message_of(&body.to_bytes())))
        };
        let response = bounded(limit, &subject, exchange).await?;
        Ok((response, subject))
    }

    /// Sends the call; the answer's body does not matter.
    pub(crate) async fn done(self) -> Result<(), EngineError> {
        let limit = self.limit;
        let (response, subject) = self.send().await?;
        // Read to the end, so that the connection can serve the next call.
        bounded(limit, &subject, async {
            response.into_body().collect().await.map_err(|error| subject.unreachable(error))
        })
        .await?;
        Ok(())
    }

    /// Sends the call and reads its answer, a JSON document.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, EngineError> {
        let limit = self.limit;
        let (response, subject) = self.send().await?;
        let body = bounded(limit, &subject, async {
            response.into_body().collect().await.map_err(|error| subject.unreachable(error))
        })
        .await?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| subject.garbled(error))
    }

    /// Sends the call and returns its answer's body as it arrives. Only the beginning is limited in time.
    pub(crate) async fn stream(self) -> Result<(ByteStream, Subject), EngineError> {
        let (response, subject) = self.send().await?;
        let about = subject.clone();
        let bytes =
            response.into_body().into_data_stream().map_err(move |error| about.unreachable(error)).boxed();
        Ok((bytes, subject))
    }
}

async fn bounded<T>(
    limit: Option<Duration>,
    subject: &Subject,
    exchange: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    let Some(limit) = limit else { return exchange.await };
    tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| Err(subject.unreachable(NoAnswer(limit))))
}

/// RFC 3986's unreserved characters, and `:` and `@` of image references, stay as they are.
fn encode_segment(uri: &mut String, segment: &str) {
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' => {
                uri.push(char::from(byte));
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_become_another_path_or_a_query() {
        let mut uri = String::new();
        encode_segment(&mut uri, "a b?x=1/../info#é");
        assert_eq!(uri, "a%20b%3Fx%3D1%2F..%2Finfo%23%C3%A9");
    }

    #[tokio::test]
    async fn an_empty_name_is_not_sent() {
        let api = Api::new(Transport::unix("/nowhere".as_ref()), "http://localhost".into());
        for name in ["", ".", ".."] {
            let call = api.get(&["containers", name, "json"]).to("inspect", "container", name);
            assert!(call.done().await.expect_err("no such name").is_not_found());
        }
    }
}
