//! `tugyard up`: serve, run and watch in one process, with nothing to set up.

use std::{os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::{Context as _, Result};
use clap::Args;
use jiff::Timestamp;
use result_collector::{CollectorSettings, Limits};
use result_service::{Presented, Scope, Store};
use secrecy::{ExposeSecret, SecretString};
use test_runner::{Removal, RunnerSettings};
use tokio::sync::mpsc;
use tracing::error;
use url::Url;

use crate::{
    collector_wiring,
    commands::{run::parse_overrides, serve::ServiceSetup},
    context::{Context, stop_on_signal},
    engine_args::EngineArgs,
    exit::Verdict,
    http_client,
    runner_wiring::RunnerWiring,
    state_dir::StateArgs,
};

const EXAMPLES: &str = "\
Examples:
  tugyard up                                    the page's address is printed
  docker run --label tugbot.test --label tugbot.event.timer=10m my-tests";

/// Serve, run and watch on this machine, with nothing to set up
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpArgs {
    /// Test containers to run, by exact name [default: all on the host]
    #[arg(value_name = "CONTAINER")]
    names: Vec<String>,
    /// Overrides labels of one test: `name=t;results=/r;event.timer=4h30m`
    #[arg(long = "container", short = 'c', value_name = "LABELS")]
    overrides: Vec<String>,
    #[command(flatten)]
    service: ServiceSetup,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs until stopped.
pub(crate) async fn run(args: UpArgs, context: &Context) -> Result<Verdict> {
    let overrides = parse_overrides(&args.overrides)?;
    let engine = args.engine.connect().await?;
    let host = engine.info().await?.name;
    let state_dir = args.state.path();
    let service = args.service.open(&args.state).await?;
    let key = own_key(service.store(), &state_dir.join("up.key")).await?;
    let (listener, announcement) = args.service.bind().await?;
    let url = Url::parse(&announcement.url)?;
    let stop = stop_on_signal()?;
    context.announce(&announcement, |a| format!("Tugyard is up: {}", a.url))?;

    let mut runner = RunnerSettings::new(host.clone());
    runner.names = args.names;
    runner.overrides = overrides;
    runner.removal = Removal::WhenCollected;
    let (collected, copies) = mpsc::channel(256);
    let http = http_client::build(None)?;
    let wiring = RunnerWiring {
        engine: engine.clone(),
        settings: runner,
        http: http.clone(),
        webhooks: Vec::new(),
        service: Some((url.clone(), Some(key.clone()))),
        control: None,
        watcher: None,
        collected: Some(copies),
    };
    let settings = CollectorSettings {
        service: url,
        key: Some(key),
        dirs: Vec::new(),
        containers: true,
        state_dir: state_dir.join("watch"),
        spool_max: 10 << 30,
        cleanup: false,
        hostname: host,
        limits: Limits::default(),
    };
    let collecting = async {
        let collected =
            collector_wiring::collect(settings, Some(engine), http, Some(collected), stop.clone()).await;
        if collected.is_err() {
            // Without it no result would arrive: better to stop than to look well.
            error!("the collector could not start");
            stop.cancel();
        }
        collected
    };
    // The service outlives the others, so that what they still send arrives.
    let service_stop = tokio_util::sync::CancellationToken::new();
    let working = async {
        let (collected, ()) = tokio::join!(collecting, wiring.run(stop.clone(), drop));
        service_stop.cancel();
        collected
    };
    let ((), collected) = tokio::join!(service.serve(listener, service_stop.clone()), working);
    collected?;
    Ok(Verdict::Success)
}

/// The key by which the parts of this process talk to each other: kept in a file that only its user can read, made
/// anew when it is gone or revoked.
async fn own_key(store: &Store, path: &Path) -> Result<SecretString> {
    if let Ok(text) = std::fs::read_to_string(path) {
        let key = SecretString::from(text.trim());
        if matches!(store.present_key(&key, Timestamp::now()).await?, Presented::Valid(_)) {
            return Ok(key);
        }
    }
    let made = store.create_key("tugyard up", &[Scope::Upload, Scope::Read], Timestamp::now()).await?;
    let write = || {
        use std::io::Write;
        // Removed first, so that the mode holds for a file that exists.
        let _ = std::fs::remove_file(path);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(made.secret.expose_secret().as_bytes())
    };
    write().with_context(|| format!("cannot keep the key of this service in `{}`", path.display()))?;
    Ok(made.secret)
}
