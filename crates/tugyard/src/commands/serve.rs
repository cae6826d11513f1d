//! `tugyard serve`: receives, keeps and shows results and events.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use bytesize::ByteSize;
use clap::Args;
use result_service::{Access, Service, ServiceSettings};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::{
    context::{Context, stop_on_signal},
    exit::{Unavailable, Verdict},
    state_dir::StateArgs,
};

const EXAMPLES: &str = "\
Examples:
  tugyard keys create --name ci --scope upload     a key for collectors
  tugyard serve                                    http://127.0.0.1:7070
  tugyard serve --listen 0.0.0.0:7070              reachable from elsewhere: put TLS in front of it";

/// Receive, keep and show results and events
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    service: ServiceSetup,
    #[command(flatten)]
    state: StateArgs,
}

/// What `serve` and `up` have in common.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServiceSetup {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:7070", env = "TUGYARD_LISTEN", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where people find the service, e.g. https://results.example.org; links in events begin with it
    #[arg(long, env = "TUGYARD_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,
    /// Largest upload, as it is sent
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    max_upload: ByteSize,
    /// Largest upload, unpacked
    #[arg(long, default_value = "4GiB", value_name = "SIZE")]
    max_unpacked: ByteSize,
    /// Take uploads without a key
    #[arg(long)]
    open_upload: bool,
    /// Ask for a key for reading too
    #[arg(long)]
    closed_read: bool,
}

/// What a listening service tells the caller.
#[derive(Serialize)]
pub(crate) struct Announcement {
    pub(crate) url: String,
}

impl ServiceSetup {
    /// Opens the service on its state.
    pub(crate) async fn open(&self, state: &StateArgs) -> Result<Service> {
        let mut settings = ServiceSettings::new(state.path());
        settings.public_url.clone_from(&self.public_url);
        settings.access = Access { open_read: !self.closed_read, open_upload: self.open_upload };
        settings.limits.upload_bytes = self.max_upload.as_u64();
        settings.limits.unpacked_bytes = self.max_unpacked.as_u64();
        Ok(Service::open(settings).await?)
    }

    /// Takes the address; the URL has the port that was given.
    pub(crate) async fn bind(&self) -> Result<(TcpListener, Announcement)> {
        let listener = TcpListener::bind(self.listen).await.with_context(|| {
            Unavailable(format!(
                "cannot listen on {}: use --listen with another address or port",
                self.listen
            ))
        })?;
        let url = format!("http://{}", listener.local_addr()?);
        Ok((listener, Announcement { url }))
    }
}

/// Serves until stopped.
pub(crate) async fn run(args: ServeArgs, context: &Context) -> Result<Verdict> {
    let service = args.service.open(&args.state).await?;
    let (listener, announcement) = args.service.bind().await?;
    let stop = stop_on_signal()?;
    context.announce(&announcement, |a| format!("results and events: {}", a.url))?;
    service.serve(listener, stop).await;
    Ok(Verdict::Success)
}
