//! Brings a Debian or Ubuntu machine to where the tests run: says what is missing and why, installs it, starts the
//! engine. Does nothing, quickly, when all is there. Never removes or upgrades anything.

pub(crate) mod cargo_tools;
mod engine;
mod needs;
mod packages;

use std::path::Path;

use crate::program;
use needs::Need;

/// What a machine is set up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Purpose {
    /// The example product: an engine.
    Demo,
    /// All tests.
    Test,
    /// The release: a static build.
    Dist,
    /// The release's container image as well.
    Image,
    /// Measurements, on engines of their own.
    Bench,
    /// Everything.
    All,
}

impl Purpose {
    fn wants_engine(self) -> bool {
        self != Self::Dist
    }

    fn wants_musl(self) -> bool {
        matches!(self, Self::Dist | Self::Image | Self::All)
    }

    fn wants_cargo_tools(self) -> bool {
        matches!(self, Self::Test | Self::All)
    }
}

/// Installs what is missing for `purpose`, and starts the engine if none answers.
pub(crate) fn run(root: &Path, purpose: Purpose) -> anyhow::Result<()> {
    let running = purpose.wants_engine() && program::find("docker").is_some() && engine::answers();
    let missing: Vec<&Need> = needs::missing(purpose, running, needs::is_there);
    if !missing.is_empty() {
        packages::install(&missing)?;
    }
    if purpose.wants_musl() {
        cargo_tools::musl_target(root)?;
    }
    if purpose.wants_cargo_tools() {
        cargo_tools::install(root)?;
    }
    if purpose.wants_engine() && !running {
        engine::start(root)?;
    }
    eprintln!("setup: everything is there");
    Ok(())
}
