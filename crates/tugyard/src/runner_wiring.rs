//! Joins a runner with what it talks to: the log, webhooks, the result service, its own address.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use container_engine::{ContainerId, Engine};
use reqwest::Client;
use secrecy::SecretString;
use test_results::CloudEvent;
use test_runner::{
    Outlet, Runner, RunnerEvent, RunnerHandle, RunnerSettings,
    control::Control,
    event_sender::{EventSender, SenderLimits},
    inlet,
    metrics::RunnerMetrics,
    webhook::{WebhookLimits, WebhookTarget, Webhooks},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use url::Url;

use crate::exit::{Unavailable, Usage};

/// How long events that wait may take to leave when the runner stops.
const EVENT_GRACE: Duration = Duration::from_secs(2);

/// What a runner is joined with.
pub(crate) struct RunnerWiring {
    pub(crate) engine: Engine,
    pub(crate) settings: RunnerSettings,
    pub(crate) http: Client,
    pub(crate) webhooks: Vec<WebhookTarget>,
    pub(crate) service: Option<(Url, Option<SecretString>)>,
    pub(crate) control: Option<TcpListener>,
    /// Gets what the runner tells, besides the log; full is dropped.
    pub(crate) watcher: Option<mpsc::Sender<RunnerEvent>>,
    /// Copies whose results have been collected by this process.
    pub(crate) collected: Option<mpsc::Receiver<ContainerId>>,
}

impl RunnerWiring {
    /// Runs until `stop`; `with_handle` gets a handle before the runner starts.
    pub(crate) async fn run(self, stop: CancellationToken, with_handle: impl FnOnce(RunnerHandle)) {
        let Self { engine, settings, http, webhooks, service, control, watcher, collected } = self;
        let metrics = Arc::new(RunnerMetrics::default());
        let webhooks = Arc::new(Webhooks::start(&http, webhooks, WebhookLimits::default()));
        let sender = service.as_ref().map(|(url, key)| {
            Arc::new(EventSender::start(http.clone(), url, key.clone(), SenderLimits::default()))
        });
        let outlet = Reports {
            webhooks: Arc::clone(&webhooks),
            sender: sender.clone(),
            metrics: Arc::clone(&metrics),
            watcher,
        };
        let runner = Runner::new(engine, settings, outlet);
        let handle = runner.handle();
        with_handle(handle.clone());
        let key = service.as_ref().and_then(|(_, key)| key.clone());
        let control = async {
            if let Some(listener) = control {
                Control { runner: handle.clone(), metrics, key }.serve(listener, stop.clone()).await;
            }
        };
        let service_events = follow_service(http, service, handle.clone(), stop.clone());
        let collected = forward_collected(collected, handle.clone(), stop.clone());
        tokio::join!(runner.run(stop.clone()), control, service_events, collected);
        // The runner is gone and with it the outlet: these are the last holders.
        let close_webhooks = async {
            if let Some(webhooks) = Arc::into_inner(webhooks) {
                webhooks.close(EVENT_GRACE).await;
            }
        };
        let close_sender = async {
            if let Some(sender) = sender.and_then(Arc::into_inner) {
                sender.close(EVENT_GRACE).await;
            }
        };
        tokio::join!(close_webhooks, close_sender);
    }
}

/// Takes the address for [`Control`]. Without a key, only this machine may reach it.
pub(crate) async fn bind_control(address: SocketAddr, has_key: bool) -> Result<TcpListener> {
    if !address.ip().is_loopback() && !has_key {
        let message = format!(
            "--listen {address} can be reached from elsewhere: give --api-key-file, or use 127.0.0.1"
        );
        return Err(Usage(message).into());
    }
    TcpListener::bind(address)
        .await
        .with_context(|| Unavailable(format!("cannot listen on {address}: use --listen with another port")))
}

async fn follow_service(
    http: Client,
    service: Option<(Url, Option<SecretString>)>,
    runner: RunnerHandle,
    stop: CancellationToken,
) {
    let Some((url, key)) = service else { return };
    let (out, mut events) = mpsc::channel(256);
    let following = inlet::follow(http, url, key, out, stop);
    let forwarding = async {
        while let Some(event) = events.recv().await {
            runner.event(event).await;
        }
    };
    tokio::join!(following, forwarding);
}

async fn forward_collected(
    collected: Option<mpsc::Receiver<ContainerId>>,
    runner: RunnerHandle,
    stop: CancellationToken,
) {
    let Some(mut collected) = collected else { return };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            copy = collected.recv() => match copy {
                Some(copy) => runner.collected(copy).await,
                None => return,
            },
        }
    }
}

/// Where the runner's words go.
struct Reports {
    webhooks: Arc<Webhooks>,
    sender: Option<Arc<EventSender>>,
    metrics: Arc<RunnerMetrics>,
    watcher: Option<mpsc::Sender<RunnerEvent>>,
}

impl Outlet for Reports {
    fn report(&self, event: &RunnerEvent) {
        self.metrics.observe(event);
        log(event);
        if let Some(watcher) = &self.watcher {
            let _ = watcher.try_send(event.clone());
        }
    }

    fn announce(&self, event: CloudEvent) {
        if let Some(sender) = &self.sender {
            sender.send(event.clone());
        }
        self.webhooks.send(event);
    }

    fn takes_announcements(&self) -> bool {
        self.sender.is_some() || !self.webhooks.is_empty()
    }
}

fn log(event: &RunnerEvent) {
    match event {
        RunnerEvent::Discovered { test, problems, .. } => {
            info!(%test, "{event}");
            for problem in problems {
                warn!(%test, label = problem.label, value = problem.value, "label ignored: {}", problem.problem);
            }
        }
        RunnerEvent::Started { test, copy, cause, .. } => {
            info!(%test, %copy, cause = cause.summary, "{event}");
        }
        RunnerEvent::Finished { test, copy, took, .. } => {
            info!(%test, %copy, seconds = took.map(|t| t.as_secs_f64()), "{event}");
        }
        RunnerEvent::EventsMayBeMissed
        | RunnerEvent::Disconnected { .. }
        | RunnerEvent::NoSuchContainer { .. }
        | RunnerEvent::StartFailed { .. }
        | RunnerEvent::Killed { .. }
        | RunnerEvent::Trouble { .. } => warn!("{event}"),
        RunnerEvent::Queued { .. }
        | RunnerEvent::Coalesced { .. }
        | RunnerEvent::Skipped { .. }
        | RunnerEvent::Removed { .. } => debug!("{event}"),
        _ => info!("{event}"),
    }
}
