//! `tugyard watch`: collects results of test containers and directories, and delivers them.

use std::path::PathBuf;

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;

use crate::{
    context::Context, engine_args::EngineArgs, exit::Verdict, service_args::ServiceArgs, state_dir::StateArgs,
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
pub(crate) async fn run(args: WatchArgs, context: &Context) -> Result<Verdict> {
    let _ = (args, context);
    Ok(Verdict::Success)
}
