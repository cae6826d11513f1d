//! `tugyard run`: re-runs test containers when something happens.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Args, ValueEnum};
use container_engine::Engine;
use test_runner::{
    ImageSettings, Override, PlanRow, RunnerSettings,
    webhook::{WebhookFormat, WebhookTarget},
};
use tokio::sync::mpsc;

use crate::{
    by_hand,
    commands::serve::Announcement,
    context::{Context, stop_on_signal, table},
    engine_args::EngineArgs,
    exit::{Usage, Verdict},
    http_client,
    runner_wiring::{RunnerWiring, bind_control},
    service_args::ServiceArgs,
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
    /// Seconds between looks for newer images of all tests [default: 300, for tests with the label tugbot.event.image;
    /// called as tugbot, for all]
    #[arg(long, short, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) interval: Option<u64>,
    /// Do not pull: only watch the local images
    #[arg(long)]
    pub(crate) no_pull: bool,
    /// Remove the old image after a test has moved to a newer one
    #[arg(long)]
    pub(crate) cleanup: bool,
    /// Test runs at a time [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_parallel: Option<u64>,
    /// URL that gets each event; may be repeated or be a `;` list. `cloudevents+https://…` chooses the form of one
    #[arg(long, env = "TUGBOT_WEBHOOKS", hide_env_values = true, value_name = "URL")]
    pub(crate) webhook: Vec<String>,
    /// Form of the events for webhooks
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) webhook_format: WebhookForm,
    /// CA certificates for the result service and webhooks, besides the system's
    #[arg(long, value_name = "PATH")]
    pub(crate) service_ca: Option<PathBuf>,
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

/// Reads `-c` in the form of the proposal.
pub(crate) fn parse_overrides(texts: &[String]) -> Result<Vec<Override>> {
    let parse =
        |text: &String| Override::parse(text).map_err(|e| Usage(format!("--container `{text}`: {e}")).into());
    texts.iter().map(parse).collect()
}

impl RunArgs {
    /// Whether `-h` stood alone.
    pub(crate) fn asks_for_help(&self) -> bool {
        self.engine.host.as_deref() == Some("")
            && std::env::var_os("DOCKER_HOST").is_none_or(|v| !v.is_empty())
    }

    fn runner(&self, program: &str) -> Result<RunnerSettings> {
        // The host's name is the engine's own; it is asked for once it is connected.
        let mut settings = RunnerSettings::new(String::new());
        settings.names.clone_from(&self.names);
        settings.overrides = parse_overrides(&self.overrides)?;
        settings.host_root.clone_from(&self.host_root);
        if let Some(most) = self.max_parallel {
            settings.max_parallel = usize::try_from(most).unwrap_or(usize::MAX);
        }
        settings.images = Some(ImageSettings {
            interval: self.interval.map_or(ImageSettings::default().interval, Duration::from_secs),
            pull: !self.no_pull,
            cleanup: self.cleanup,
            all_tests: self.interval.is_some() || program == "tugbot",
        });
        Ok(settings)
    }

    fn webhooks(&self) -> Result<Vec<WebhookTarget>> {
        let format = match self.webhook_format {
            WebhookForm::Tugbot => WebhookFormat::Tugbot,
            WebhookForm::Cloudevents => WebhookFormat::CloudEvents,
        };
        Ok(WebhookTarget::parse_list(&self.webhook.join(";"), format)?)
    }
}

/// Runs until stopped; with `--plan` and `--now`, until that is done.
pub(crate) async fn run(args: RunArgs, context: &Context) -> Result<Verdict> {
    if args.asks_for_help() {
        return print_help();
    }
    let mut settings = args.runner(context.program)?;
    let webhooks = args.webhooks()?;
    let key = args.service.key()?;
    let engine = args.engine.connect().await?;
    settings.host = engine.info().await?.name;
    if args.plan {
        return print_plan(&engine, &settings, context).await;
    }
    let stop = stop_on_signal()?;
    if !args.now.is_empty() {
        settings.by_hand_only = true;
        settings.images = None;
    }
    let control = match args.listen {
        Some(address) => Some(bind_control(address, key.is_some()).await?),
        None => None,
    };
    if let Some(listener) = &control {
        let url = format!("http://{}", listener.local_addr()?);
        context.announce(&Announcement { url }, |a| format!("runner: {}", a.url))?;
    }
    let http = http_client::build(args.service_ca.as_deref())?;
    let service = args.service.result_service.clone().map(|url| (url, key));
    let (watcher, told) = match args.now.is_empty() {
        true => (None, None),
        false => Some(mpsc::channel(1024)).unzip(),
    };
    let wiring =
        RunnerWiring { engine, settings, http, webhooks, service, control, watcher, collected: None };
    let Some(told) = told else {
        wiring.run(stop, drop).await;
        return Ok(Verdict::Success);
    };
    let (give, handle) = tokio::sync::oneshot::channel();
    let running = wiring.run(stop.clone(), move |handle| drop(give.send(handle)));
    let by_hand = async {
        let verdict = match handle.await {
            Ok(handle) => by_hand::run(&handle, &args.now, told, context, &stop).await,
            Err(_) => Ok(Verdict::Negative),
        };
        stop.cancel();
        verdict
    };
    let ((), verdict) = tokio::join!(running, by_hand);
    verdict
}

fn print_help() -> Result<Verdict> {
    let mut command = crate::whole_command();
    command.build();
    if let Some(run) = command.find_subcommand_mut("run") {
        run.print_help()?;
    }
    Ok(Verdict::Success)
}

async fn print_plan(engine: &Engine, settings: &RunnerSettings, context: &Context) -> Result<Verdict> {
    let rows = test_runner::plan::plan(engine, settings).await?;
    context.print(&rows, |rows| {
        if rows.is_empty() {
            return "There are no test containers: give a container the label tugbot.test.".to_owned();
        }
        table(["container", "triggers", "next due", "policy", "remarks"], rows.iter().map(plan_cells))
    })?;
    Ok(Verdict::Success)
}

fn plan_cells(row: &PlanRow) -> [String; 5] {
    let lines = |texts: Vec<String>| texts.join("\n");
    let triggers = row.triggers.iter().map(|t| format!("{}: {}", t.kind.as_str(), t.description));
    let due = row.triggers.iter().map(|t| t.next_due.map(|at| format!("{at:.0}")).unwrap_or_default());
    let problems = row.problems.iter().map(|p| format!("{}={}: {}", p.label, p.value, p.problem));
    let not = row.not_a_candidate.iter().map(|reason| format!("not a candidate: {reason}"));
    [
        row.container.clone(),
        lines(triggers.collect()),
        lines(due.collect()),
        row.policy.as_ref().map(ToString::to_string).unwrap_or_default(),
        lines(not.chain(row.remark.clone()).chain(problems).collect()),
    ]
}
