//! A result service that records what it is sent and answers as told. It parses nothing; it only keeps the contract of
//! idempotency keys.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, Response, body::Bytes, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use test_results::upload::{self, Entry, EntryKind, UploadLimits};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, sync::DropGuard};
use url::Url;

/// One upload that was stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) key: String,
    pub(crate) query: HashMap<String, String>,
    pub(crate) headers: HeaderMap,
    body: Bytes,
}

impl Stored {
    /// The files of the archive, read as the service reads them.
    pub(crate) fn files(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut files = BTreeMap::new();
        self.read(|entry, content| {
            if entry.kind == EntryKind::File {
                assert!(files.insert(entry.path.clone(), content).is_none());
            }
        });
        files
    }

    /// What else was there, by path.
    pub(crate) fn notes(&self) -> BTreeMap<Vec<u8>, EntryKind> {
        let mut notes = BTreeMap::new();
        self.read(|entry, _| {
            if entry.kind != EntryKind::File {
                notes.insert(entry.path.clone(), entry.kind.clone());
            }
        });
        notes
    }

    fn read(&self, mut each: impl FnMut(&Entry, Vec<u8>)) {
        let limits = UploadLimits { ratio: u64::MAX, ..UploadLimits::default() };
        upload::read(&self.body[..], &limits, &mut |entry, from| {
            let mut content = Vec::new();
            from.read_to_end(&mut content)?;
            each(entry, content);
            Ok(())
        })
        .expect("the service takes it");
    }

    /// A file of the archive as text.
    pub(crate) fn text(&self, path: &str) -> String {
        let files = self.files();
        let content =
            files.get(path.as_bytes()).unwrap_or_else(|| panic!("no {path} in {:?}", names(&files)));
        String::from_utf8_lossy(content).into_owned()
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.files().contains_key(path.as_bytes())
    }
}

pub(crate) fn names(files: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<String> {
    files.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}

/// What to answer instead of storing.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// This status, header and body.
    Say(u16, Option<(&'static str, &'static str)>, &'static str),
    /// Store the result, and cut the connection instead of answering.
    StoreAndCut,
}

#[derive(Debug, Default)]
struct State {
    stored: Vec<Stored>,
    ids: HashMap<String, usize>,
    /// Answers to the next requests.
    script: VecDeque<Reply>,
    /// Answer to all requests after those.
    always: Option<Reply>,
    requests: u64,
    repeats: u64,
}

/// The service; ends when dropped.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _stop: DropGuard,
}

impl Sink {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let stop = CancellationToken::new();
        let (shared, stopped) = (Arc::clone(&state), stop.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap(),
                    () = stopped.cancelled() => return,
                };
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
                    hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                        .ok();
                });
            }
        });
        Self { address, state, _stop: stop.drop_guard() }
    }

    pub(crate) fn url(&self) -> Url {
        url_of(self.address)
    }

    pub(crate) fn next(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state.lock().unwrap().script.extend(replies);
    }

    pub(crate) fn always(&self, reply: Option<Reply>) {
        self.state.lock().unwrap().always = reply;
    }

    pub(crate) fn stored(&self) -> Vec<Stored> {
        self.state.lock().unwrap().stored.clone()
    }

    pub(crate) fn has_key_with(&self, part: &str) -> bool {
        self.state.lock().unwrap().stored.iter().rev().any(|stored| stored.key.contains(part))
    }

    pub(crate) fn count(&self) -> usize {
        self.state.lock().unwrap().stored.len()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.state.lock().unwrap().requests
    }

    pub(crate) fn repeats(&self) -> u64 {
        self.state.lock().unwrap().repeats
    }

    /// Waits until this many results are stored, and gives them.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Stored> {
        let what = format!("{count} stored results");
        testkit::eventually(&what, Duration::from_secs(120), async || {
            (self.count() >= count).then(|| self.stored())
        })
        .await
    }
}

pub(crate) fn url_of(address: SocketAddr) -> Url {
    format!("http://{address}/base/").parse().unwrap()
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Cut> {
    assert_eq!(request.uri().path(), "/base/results");
    assert_eq!(request.method(), "POST");
    let headers = request.headers().clone();
    let query = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect();
    // A body that breaks off was never sent.
    let body = request.into_body().collect().await.map_err(|_| Cut)?.to_bytes();
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(text("content-type").as_deref(), Some("application/gzip"));
    assert_eq!(text("content-length"), Some(body.len().to_string()));
    let key = text("idempotency-key").expect("every upload has a key");
    let mut state = state.lock().unwrap();
    state.requests += 1;
    let reply = state.script.pop_front().or_else(|| state.always.clone());
    if let Some(Reply::Say(status, header, words)) = reply {
        let mut response = Response::builder().status(status);
        if let Some((name, value)) = header {
            response = response.header(name, value);
        }
        return Ok(response.body(Full::from(words)).unwrap());
    }
    let (status, id) = match state.ids.get(&key) {
        Some(id) => {
            let id = *id;
            state.repeats += 1;
            (200, id)
        }
        None => {
            let id = state.stored.len();
            state.ids.insert(key.clone(), id);
            state.stored.push(Stored { key, query, headers, body });
            (201, id)
        }
    };
    if matches!(reply, Some(Reply::StoreAndCut)) {
        return Err(Cut);
    }
    let receipt =
        format!(r#"{{"id":"00000000-0000-7000-8000-{id:012}","state":"passed","url":"/runs/{id}"}}"#);
    Ok(Response::builder().status(status).body(Full::from(receipt)).unwrap())
}

/// Makes hyper close the connection without an answer.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

impl From<Infallible> for Cut {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
