//! `tugyard watch`: collects results of test containers and directories, and delivers them.

use std::path::PathBuf;

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use result_collector::{CollectorSettings, Limits};

use crate::{
    collector_wiring,
    context::{Context, stop_on_signal},
    engine_args::EngineArgs,
    exit::Verdict,
    http_client,
    service_args::ServiceArgs,
    state_dir::StateArgs,
};

const EXAMPLES: &str = "\
Examples:
  tugyard watch -r http://127.0.0.1:7070                     every test container on this host
  tugyard watch -d /var/tests -d /home/misc/tests -r URL     directories instead
  TUGYARD_API_KEY_FILE=/etc/tugyard/key tugyard watch -r URL --cleanup";

/// Collect results of test containers and directories, and deliver them
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WatchArgs {
    /// Directory to watch for results; may be repeated [default: all test containers on the host]
    #[arg(long, short, value_name = "DIR")]
    dir: Vec<PathBuf>,
    /// Remove a finished copy once the service has confirmed its result
    #[arg(long)]
    cleanup: bool,
    /// Results that may wait on disk; when it is full, collecting waits
    #[arg(long, default_value = "10GiB", value_name = "SIZE")]
    spool_max: ByteSize,
    /// CA certificates of the result service, besides the system's
    #[arg(long, value_name = "PATH")]
    service_ca: Option<PathBuf>,
    #[command(flatten)]
    service: ServiceArgs,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs until stopped.
pub(crate) async fn run(args: WatchArgs, _context: &Context) -> Result<Verdict> {
    let service = args.service.required()?;
    let key = args.service.key()?;
    let http = http_client::build(args.service_ca.as_deref())?;
    let (engine, hostname) = if args.dir.is_empty() {
        let engine = args.engine.connect().await?;
        let name = engine.info().await?.name;
        (Some(engine), name)
    } else {
        (None, rustix::system::uname().nodename().to_string_lossy().into_owned())
    };
    let settings = CollectorSettings {
        service,
        key,
        containers: engine.is_some(),
        dirs: args.dir,
        state_dir: args.state.path().join("watch"),
        spool_max: args.spool_max.as_u64(),
        cleanup: args.cleanup,
        hostname,
        limits: Limits::default(),
    };
    collector_wiring::collect(settings, engine, http, None, stop_on_signal()?).await?;
    Ok(Verdict::Success)
}
