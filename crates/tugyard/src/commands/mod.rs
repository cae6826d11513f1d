//! A file per command: resolve settings, one library call, render.

pub(crate) mod config;
pub(crate) mod generate;
pub(crate) mod keys;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod up;
pub(crate) mod watch;

use anyhow::Result;

use crate::{cli::Command, context::Context, exit::Verdict};

/// Carries out a command.
pub(crate) async fn run(command: Command, context: &Context) -> Result<Verdict> {
    match command {
        Command::Run(args) => run::run(args, context).await,
        Command::Watch(args) => watch::run(args, context).await,
        Command::Serve(args) => serve::run(args, context).await,
        Command::Up(args) => up::run(args, context).await,
        Command::Keys(args) => keys::run(args, context).await,
        Command::Config(args) => config::run(&args, context),
        Command::Generate(args) => generate::run(&args),
    }
}
