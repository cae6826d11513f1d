//! A byte proxy that cuts, refuses and delays: the faults of a real network in front of a real server.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What the proxy does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Pass everything on.
    Forward,
    /// Accept and close at once; connections that are open are cut.
    Refuse,
    /// Pass on, but cut each connection after this many bytes from the client.
    CutAfter(u64),
    /// Pass on, each piece late by this much.
    Delay(Duration),
}

/// A proxy in front of one server. Ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    mode: watch::Sender<Mode>,
    connections: Arc<AtomicU64>,
    address: Address,
    _home: Option<TempDir>,
    _stop: DropGuard,
}

#[derive(Clone, Debug)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Proxy {
    /// A proxy on a loopback port before a TCP server.
    pub async fn tcp(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port");
        let address = Address::Tcp(listener.local_addr().expect("a bound listener has an address"));
        Self::start(Listener::Tcp(listener), address, Address::Tcp(upstream), None)
    }

    /// A proxy on a Unix socket before a Unix socket.
    pub async fn unix(upstream: &Path) -> Self {
        let home = tempfile::Builder::new().prefix("ty-").tempdir().expect("a temporary directory");
        let path = home.path().join("p.sock");
        let listener = UnixListener::bind(&path).expect("a socket in a new directory");
        Self::start(Listener::Unix(listener), Address::Unix(path), Address::Unix(upstream.into()), Some(home))
    }

    fn start(listener: Listener, address: Address, upstream: Address, home: Option<TempDir>) -> Self {
        let (mode, modes) = watch::channel(Mode::Forward);
        let connections = Arc::new(AtomicU64::new(0));
        let stop = CancellationToken::new();
        let (count, stopped) = (Arc::clone(&connections), stop.clone());
        tokio::spawn(async move {
            loop {
                let client = tokio::select! {
                    client = listener.accept() => client,
                    () = stopped.cancelled() => return,
                };
                let Ok(client) = client else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(client, upstream.clone(), modes.clone(), stopped.clone()));
            }
        });
        Self { mode, connections, address, _home: home, _stop: stop.drop_guard() }
    }

    /// Changes what happens. [`Mode::Refuse`] also cuts what is open.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The proxy's own TCP address.
    pub fn address(&self) -> SocketAddr {
        match &self.address {
            Address::Tcp(address) => *address,
            Address::Unix(path) => panic!("the proxy listens on {}", path.display()),
        }
    }

    /// The proxy's own socket.
    pub fn socket(&self) -> &Path {
        match &self.address {
            Address::Unix(path) => path,
            Address::Tcp(address) => panic!("the proxy listens on {address}"),
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Listener {
    async fn accept(&self) -> std::io::Result<Box<dyn Duplex>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

async fn serve(
    client: Box<dyn Duplex>,
    upstream: Address,
    modes: watch::Receiver<Mode>,
    stop: CancellationToken,
) {
    if *modes.borrow() == Mode::Refuse {
        return;
    }
    let server: std::io::Result<Box<dyn Duplex>> = match &upstream {
        Address::Tcp(address) => TcpStream::connect(address).await.map(|s| Box::new(s) as _),
        Address::Unix(path) => UnixStream::connect(path).await.map(|s| Box::new(s) as _),
    };
    let Ok(server) = server else { return };
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    let mut refused = modes.clone();
    tokio::select! {
        _ = async {
            tokio::try_join!(
                copy(from_client, to_server, modes.clone(), true),
                copy(from_server, to_client, modes.clone(), false),
            )
        } => {}
        _ = refused.wait_for(|mode| *mode == Mode::Refuse) => {}
        () = stop.cancelled() => {}
    }
}

/// The connection is to be cut in both directions at once.
struct Cut;

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    modes: watch::Receiver<Mode>,
    is_upload: bool,
) -> Result<(), Cut> {
    let mut buffer = vec![0; 16 * 1024];
    let mut passed = 0;
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        passed += n as u64;
        let mode = *modes.borrow();
        match mode {
            Mode::CutAfter(limit) if is_upload && passed > limit => return Err(Cut),
            Mode::Delay(late) => tokio::time::sleep(late).await,
            _ => {}
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
    Ok(())
}
