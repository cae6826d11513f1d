//! Connections to an engine over a Unix socket or TCP, with or without TLS. Knows nothing of the engine's API.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::net::{TcpStream, UnixStream};
use tower::{BoxError, Service, timeout::Timeout, util::BoxCloneSyncService};

/// A name lookup, a TCP connection and a TLS handshake together take no longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle event stream to a remote engine can be dropped by a firewall without a word: probe it.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
/// Connections kept for the next call. Every one costs the engine a goroutine.
const IDLE_CONNECTIONS: usize = 4;
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

type TcpDialer = BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>;

/// A pool of connections to one engine. No timeout applies to what is sent over them.
#[derive(Clone)]
pub(crate) enum Transport {
    Unix(Client<UnixDialer, Full<Bytes>>),
    Tcp(Client<TcpDialer, Full<Bytes>>),
}

impl Transport {
    pub(crate) fn unix(socket: &Path) -> Self {
        Self::Unix(pool().build(UnixDialer { socket: socket.into() }))
    }

    /// `tls` is used for URIs with the scheme `https`.
    pub(crate) fn tcp(tls: rustls::ClientConfig) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(KEEPALIVE));
        http.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
        http.set_keepalive_retries(Some(KEEPALIVE_PROBES));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Self::Tcp(pool().build(TcpDialer::new(Timeout::new(https, CONNECT_TIMEOUT))))
    }

    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, legacy::Error> {
        match self {
            Self::Unix(client) => client.request(request).await,
            Self::Tcp(client) => client.request(request).await,
        }
    }
}

fn pool() -> legacy::Builder {
    let mut pool = Client::builder(TokioExecutor::new());
    pool.pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .pool_idle_timeout(IDLE_TIMEOUT);
    pool
}

/// Connects to one socket, whatever the URI says.
#[derive(Clone)]
pub(crate) struct UnixDialer {
    socket: Arc<Path>,
}

impl Service<Uri> for UnixDialer {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let socket = Arc::clone(&self.socket);
        Box::pin(async move { UnixStream::connect(socket).await.map(TokioIo::new) })
    }
}
