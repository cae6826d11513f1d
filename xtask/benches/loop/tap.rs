//! A proxy that passes everything on and tells when certain bytes went by. Changes nothing, delays nothing.

use std::{net::SocketAddr, path::Path};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::mpsc,
};

use crate::docker_api::now;

/// When a piece with the wanted bytes went by, in nanoseconds since 1970, and the piece.
pub(crate) type Sighting = (u64, Vec<u8>);

/// What to look for.
#[derive(Clone, Copy)]
pub(crate) enum Look {
    /// In what clients send.
    Requests(&'static [u8]),
    /// In what the server answers.
    Answers(&'static [u8]),
}

/// In front of a Unix socket.
pub(crate) fn unix(
    listen: &Path,
    upstream: &Path,
    look: Look,
) -> anyhow::Result<mpsc::UnboundedReceiver<Sighting>> {
    let (send, receive) = mpsc::unbounded_channel();
    let (listener, upstream) = (UnixListener::bind(listen)?, upstream.to_owned());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = UnixStream::connect(&upstream).await else { continue };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            pass(from_client, to_server, from_server, to_client, look, &send);
        }
    });
    Ok(receive)
}

/// In front of a TCP server; returns the proxy's own address.
pub(crate) async fn tcp(
    upstream: SocketAddr,
    look: Look,
) -> anyhow::Result<(SocketAddr, mpsc::UnboundedReceiver<Sighting>)> {
    let (send, receive) = mpsc::unbounded_channel();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(upstream).await else { continue };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            pass(from_client, to_server, from_server, to_client, look, &send);
        }
    });
    Ok((address, receive))
}

fn pass<A, B, C, D>(
    from_client: A,
    to_server: B,
    from_server: C,
    to_client: D,
    look: Look,
    send: &mpsc::UnboundedSender<Sighting>,
) where
    A: AsyncRead + Unpin + Send + 'static,
    B: AsyncWrite + Unpin + Send + 'static,
    C: AsyncRead + Unpin + Send + 'static,
    D: AsyncWrite + Unpin + Send + 'static,
{
    let (requests, answers) = match look {
        Look::Requests(bytes) => (Some(bytes), None),
        Look::Answers(bytes) => (None, Some(bytes)),
    };
    tokio::spawn(copy(from_client, to_server, requests, send.clone()));
    tokio::spawn(copy(from_server, to_client, answers, send.clone()));
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    wanted: Option<&'static [u8]>,
    send: mpsc::UnboundedSender<Sighting>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let piece = &buffer[..length];
        // Clients write a head in one piece, so looking at its first line is enough.
        let head = &piece[..length.min(256)];
        if wanted.is_some_and(|wanted| head.windows(wanted.len()).any(|bytes| bytes == wanted)) {
            let _ = send.send((now(), piece.to_vec()));
        }
        if to.write_all(piece).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
