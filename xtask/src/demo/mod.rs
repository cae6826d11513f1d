//! `cargo xtask demo`: the main job with a real example. Builds the example shop and its test container, lets
//! `tugyard up` re-run the test on a timer and on a Docker event, and ends with a page to open.
//! Touches only what carries its own label; needs no registry and no configuration.

mod base_image;
mod runs;
mod shop;
mod up;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    program, references,
    setup::{self, Purpose},
};
use runs::{Run, wait_for};
use shop::{Shop, TEST};
use up::Up;

/// A run takes seconds; a machine that is busy with a build may need more.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(clap::Args)]
pub(crate) struct DemoArgs {
    /// End and clean up after printing, instead of serving until Ctrl-C
    #[arg(long)]
    exit: bool,
    /// Use this `tugyard` instead of building one
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

pub(crate) fn run(root: &Path, args: &DemoArgs) -> anyhow::Result<()> {
    setup::run(root, Purpose::Demo)?;
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => {
            // A release takes three times as long to build, and a demo's speed is the engine's.
            eprintln!("demo: building tugyard for development (three minutes on two cores the first time)");
            references::build(root)?
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (shop, folder) = (Shop::new(root), program::target(root).join("demo"));
        let mut up = None;
        // Whatever happens, nothing of the demo keeps running behind the user's back.
        let shown = tokio::select! {
            shown = show(&binary, &folder, &shop, &mut up, args.exit) => shown,
            interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for Ctrl-C"),
        };
        let stopped = match up {
            Some(up) => up.stop().await,
            None => Ok(()),
        };
        eprintln!("demo: removing its containers");
        let cleaned = shop.clean_up();
        shown.and(stopped).and(cleaned)
    })
}

/// The story. With `exit` it ends by itself.
async fn show(
    binary: &Path,
    folder: &Path,
    shop: &Shop,
    running: &mut Option<Up>,
    exit: bool,
) -> anyhow::Result<()> {
    shop.clean_up()?;
    eprintln!("demo: building the example product and its test container (examples/shop)");
    shop.prepare()?;
    eprintln!("demo: starting the shop, then its test container for the first time");
    shop.deploy("50")?;
    shop.first_run().await?;

    let up = running.insert(Up::start(binary, folder).await?);
    eprintln!("demo: tugyard serves on {}; waiting for the first run's results and for the timer", up.url());
    let first = wait_for(up, "the first run", Run::is_first, PATIENCE).await?;
    let timed = wait_for(up, "a run by the timer", Run::is_by_timer, PATIENCE).await?;

    eprintln!("demo: deploying the shop again, with a mistake in its configuration");
    shop.deploy("500")?;
    let deployed = wait_for(up, "a run by the Docker event", Run::is_by_docker_event, PATIENCE).await?;

    println!("\n{}\n\nOpen {}/tests/{TEST}", runs::table(&[first, timed, deployed]), up.url());
    if exit {
        return Ok(());
    }
    println!("The timer goes on. Ctrl-C ends the demo and removes its containers.");
    up.until_it_ends().await
}
