//! Accepts connections and serves a router on them: bounded in number, head, and patience, and ended in good order.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use tracing::{debug, warn};

use super::{access::Peer, stall::CutsStalls};
use crate::settings::Limits;

/// Serves until `stop`; then lets what is in flight end, and returns. What has not ended within the grace period
/// is cut. `tasks` are those that must end before this returns.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: &Limits,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Mostly too many open files: accepting at once again would only spin.
                warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let connection = connection(stream, peer, router.clone(), limits, stop.clone());
        let cut = cut.clone();
        tasks.spawn(async move {
            let _until_closed = place;
            let _ = cut.run_until_cancelled(connection).await;
        });
    }
    drop(listener);
    tasks.close();
    if timeout(limits.grace, tasks.wait()).await.is_err() {
        warn!(tasks = tasks.len(), "cutting connections that did not end in time");
        cut.cancel();
        // What waited for the cut connections learns of it at once, unless it hangs.
        if timeout(AFTER_CUT, tasks.wait()).await.is_err() {
            warn!(tasks = tasks.len(), "leaving work behind that does not end");
        }
    }
}

/// How long work may take to end once its connection is cut.
const AFTER_CUT: Duration = Duration::from_secs(1);

type Accepted = (TcpStream, Peer, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<Accepted> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((stream, Peer(address.ip().to_canonical()), place))
}

fn connection(
    stream: TcpStream,
    peer: Peer,
    router: Router,
    limits: &Limits,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot switch off delayed sending");
    }
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        request.map(axum::body::Body::new)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_header_size(limits.head_bytes)
        .max_buf_size(limits.head_bytes.max(64 * 1024))
        .serve_connection(
            TokioIo::new(CutsStalls::new(stream, limits.stall_time)),
            TowerToHyperService::new(service),
        );
    async move {
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(peer = %peer.0, %error, "a connection ended early");
        }
    }
}
