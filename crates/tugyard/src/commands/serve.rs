//! `tugyard serve`: receives, keeps and shows results and events.

use std::net::SocketAddr;

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;

use crate::{context::Context, exit::Verdict, state_dir::StateArgs};

/// Where the service listens unless told otherwise.
pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:7070";

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
    service: ServeSettings,
    #[command(flatten)]
    state: StateArgs,
}

/// What `serve` and `up` have in common.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeSettings {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = DEFAULT_LISTEN, env = "TUGYARD_LISTEN", value_name = "ADDRESS:PORT")]
    pub(crate) listen: SocketAddr,
    /// Largest upload, compressed
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    pub(crate) max_upload: ByteSize,
    /// Take uploads without a key
    #[arg(long)]
    pub(crate) open_upload: bool,
    /// Ask for a key for reading too
    #[arg(long)]
    pub(crate) closed_read: bool,
}

/// Serves until stopped.
pub(crate) async fn run(args: ServeArgs, context: &Context) -> Result<Verdict> {
    let _ = (args, context);
    Ok(Verdict::Success)
}
