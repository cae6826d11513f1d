//! `tugyard run`: re-runs test containers when something happens.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use url::Url;

use crate::{
    context::Context, engine_args::EngineArgs, exit::Verdict, service_args::ServiceArgs,
};

const EXAMPLES: &str = "\
Examples:
  tugyard run                                        every test container on this host
  tugyard run --plan                                 what would run, when, and why not
  tugyard run --now selenium_tests                   one run by hand; exits with its verdict
  tugyard run -c 'name=bench;event.timer=4h30m'      override labels of one test
  tugyard run -h tcp://host:2376 --tlsverify         another engine";

/// Re-run test containers when something happens
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// Test containers to run, by exact name [default: all on the host]
    #[arg(value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
    /// Overrides labels of one test: `name=t;results=/r;event.timer=4h30m`
    #[arg(long = "container", short = 'c', value_name = "LABELS")]
    pub(crate) overrides: Vec<String>,
    /// Seconds between looks for newer images
    #[arg(long, short, default_value_t = 300, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) interval: u64,
    /// Do not pull: only watch the local images
    #[arg(long)]
    pub(crate) no_pull: bool,
    /// Remove the old image after a test has moved to a newer one
    #[arg(long)]
    pub(crate) cleanup: bool,
    /// Test runs at a time [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_parallel: Option<u64>,
    /// URL that gets each event; may be repeated, the variable takes a `;` list
    #[arg(long, env = "TUGBOT_WEBHOOKS", value_delimiter = ';', hide_env_values = true, value_name = "URL")]
    pub(crate) webhook: Vec<Url>,
    /// Form of the events for webhooks
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) webhook_format: WebhookForm,
    /// Root of the host's file system, for `tugbot.event.host`
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub(crate) host_root: PathBuf,
    /// Address for metrics, health, events from elsewhere and runs by hand
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Print each test container with its triggers, and end
    #[arg(long)]
    pub(crate) plan: bool,
    /// Run this test once, now, and end with its verdict; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with = "plan")]
    pub(crate) now: Vec<String>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) service: ServiceArgs,
}

/// Form of the events for webhooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum WebhookForm {
    /// As upstream's tugbot sent them: {Type, ID, StartedAt, …}
    #[default]
    Tugbot,
    /// CloudEvents in structured JSON
    Cloudevents,
}

impl RunArgs {
    /// Whether `-h` stood alone.
    pub(crate) fn asks_for_help(&self) -> bool {
        self.engine.host.as_deref() == Some("") && std::env::var_os("DOCKER_HOST").is_none_or(|v| !v.is_empty())
    }
}

/// Runs until stopped.
pub(crate) async fn run(args: RunArgs, context: &Context) -> Result<Verdict> {
    let _ = (args, context);
    Ok(Verdict::Success)
}
