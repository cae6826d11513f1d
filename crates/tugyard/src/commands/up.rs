//! `tugyard up`: serve, run and watch in one process, with nothing to set up.

use anyhow::Result;
use clap::Args;

use crate::{
    commands::serve::ServeSettings, context::Context, engine_args::EngineArgs, exit::Verdict, state_dir::StateArgs,
};

/// Serve, run and watch on this machine, with nothing to set up
#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    /// Test containers to run, by exact name [default: all on the host]
    #[arg(value_name = "CONTAINER")]
    names: Vec<String>,
    /// Overrides labels of one test: `name=t;results=/r;event.timer=4h30m`
    #[arg(long = "container", short = 'c', value_name = "LABELS")]
    overrides: Vec<String>,
    #[command(flatten)]
    service: ServeSettings,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs until stopped.
pub(crate) async fn run(args: UpArgs, context: &Context) -> Result<Verdict> {
    let _ = (args, context);
    Ok(Verdict::Success)
}
