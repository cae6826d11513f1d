//! A real HTTP server that keeps what it receives and answers as the test says.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{HeaderMap, Method, Response, Uri, body::Frame, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

const DEADLINE: Duration = Duration::from_secs(60);

/// What was received.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What to answer.
pub(super) enum Answer {
    /// A status with an empty body.
    Status(u16),
    /// A status with a header.
    Header(u16, &'static str, String),
    /// Nothing, and the connection stays open.
    Never,
    /// A stream of server-sent events in these pieces.
    Stream(Vec<Bytes>, End),
}

/// How a stream ends.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// As it should.
    Close,
    /// The connection breaks.
    Break,
    /// It does not, and nothing more comes.
    Silence,
}

type Body = UnsyncBoxBody<Bytes, io::Error>;
type Answers = dyn Fn(usize, &Request) -> Answer + Send + Sync;

/// The server; ends when dropped.
pub(super) struct Receiver {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    count: watch::Receiver<usize>,
    _stop: DropGuard,
}

impl Receiver {
    /// Answers each request, numbered from 0 in the order of arrival.
    pub(super) async fn start(answers: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (counted, count) = watch::channel(0);
        let stop = CancellationToken::new();
        let shared =
            Arc::new(Shared { answers: Box::new(answers), requests: Arc::clone(&requests), counted });
        let stopped = stop.clone();
        tokio::spawn(async move {
            while let Some(Ok((socket, _))) = stopped.run_until_cancelled(listener.accept()).await {
                let (shared, stopped) = (Arc::clone(&shared), stopped.clone());
                tokio::spawn(async move {
                    let service = service_fn(|request| shared.answer(request));
                    let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
                    // A client that goes away is what some tests are about.
                    let _ = stopped.run_until_cancelled(connection).await;
                });
            }
        });
        Self { address, requests, count, _stop: stop.drop_guard() }
    }

    /// Answers everything with one status.
    pub(super) async fn always(status: u16) -> Self {
        Self::start(move |_, _| Answer::Status(status)).await
    }

    pub(super) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far, once there are as many as that.
    pub(super) async fn requests(&self, at_least: usize) -> Vec<Request> {
        let mut count = self.count.clone();
        let enough = tokio::time::timeout(DEADLINE, count.wait_for(|count| *count >= at_least)).await;
        assert!(matches!(enough, Ok(Ok(_))), "{} of {at_least} requests came", self.received().len());
        self.received()
    }

    /// The requests so far.
    pub(super) fn received(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

struct Shared {
    answers: Box<Answers>,
    requests: Arc<Mutex<Vec<Request>>>,
    counted: watch::Sender<usize>,
}

impl Shared {
    async fn answer(
        &self,
        request: hyper::Request<hyper::body::Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let request = Request { method: head.method, uri: head.uri, headers: head.headers, body };
        let number = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(request.clone());
            requests.len() - 1
        };
        let answer = (self.answers)(number, &request);
        self.counted.send_modify(|count| *count += 1);
        let (status, header, body) = match answer {
            Answer::Status(status) => (status, None, empty()),
            Answer::Header(status, name, value) => (status, Some((name, value)), empty()),
            Answer::Never => std::future::pending().await,
            Answer::Stream(pieces, end) => {
                (200, Some(("content-type", "text/event-stream".to_owned())), pieces_then(pieces, end))
            }
        };
        let mut response = Response::builder().status(status);
        if let Some((name, value)) = header {
            response = response.header(name, value);
        }
        Ok(response.body(body).unwrap())
    }
}

fn empty() -> Body {
    Full::default().map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn pieces_then(pieces: Vec<Bytes>, end: End) -> Body {
    let pieces = stream::iter(pieces).map(|piece| Ok(Frame::data(piece)));
    // Let each piece go out by itself.
    let pieces = pieces.then(|piece| async {
        tokio::task::yield_now().await;
        piece
    });
    match end {
        End::Close => StreamBody::new(pieces).boxed_unsync(),
        End::Break => {
            let broken = stream::once(async { Err(io::ErrorKind::ConnectionReset.into()) });
            StreamBody::new(pieces.chain(broken)).boxed_unsync()
        }
        End::Silence => StreamBody::new(pieces.chain(stream::pending())).boxed_unsync(),
    }
}
