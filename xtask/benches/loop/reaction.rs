//! How long after an event the engine is asked for a copy, with 1,000 other containers present; and what `tugyard run`
//! weighs while nothing happens.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use serde_json::json;
use testkit::Engine;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    docker_api::{DockerApi, Seen, between, container},
    figures::{Figure, megabytes, milliseconds, percentile},
    product::Product,
    tap::{self, Look, Sighting},
};

const BYSTANDERS: usize = 1_000;
const SAMPLES: usize = 100;
const IDLE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn measure(binary: &Path) -> anyhow::Result<Vec<Figure>> {
    // Here and not on a thread of the runtime's: an engine ends with the thread that started it.
    let engine = Engine::private();
    let busybox = engine.busybox();
    let api = DockerApi::new(engine.socket())?;
    eprintln!("  creating {BYSTANDERS} containers");
    api.crowd(BYSTANDERS, &container(&busybox, &["true"], &json!({"team": "shop", "tier": "web"}))).await?;
    // The event that triggers: a container, neither test nor copy, gets another name.
    let renamed = api.create("renamed", &container(&busybox, &["true"], &json!({}))).await?;
    let labels = json!({"tugbot.test": "true", "tugbot.event.docker": "rename", "tugbot.keep": "1"});
    let test = api.create("probe", &container(&busybox, &["true"], &labels)).await?;
    api.post(&format!("/containers/{test}/start")).await?;
    api.post(&format!("/containers/{test}/wait")).await?;

    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("tap.sock");
    let mut creates = tap::unix(&socket, engine.socket(), Look::Requests(b"/containers/create"))?;
    let host = format!("unix://{}", socket.display());
    let product = Product::start(binary, &["run", "--host", &host])?;
    let mut events = api.events().await?;

    first_reaction(&api, &renamed, &mut creates).await?;
    ended(&mut events).await?;
    let (mut to_reader, mut to_create) = (Vec::new(), Vec::new());
    for number in 0..SAMPLES {
        while events.try_recv().is_ok() {}
        api.post(&format!("/containers/{renamed}/rename?name=renamed-{number}")).await?;
        let event = next(&mut events, "rename").await?;
        let (asked, _) =
            timeout(PATIENCE, creates.recv()).await.context("no copy was asked for")?.context("tap")?;
        to_reader.push(between(event.happened, event.read));
        to_create.push(between(event.happened, asked));
        ended(&mut events).await?;
    }

    eprintln!("  idle for {IDLE:?}");
    let before = product.processor_time()?;
    tokio::time::sleep(IDLE).await;
    let used = product.processor_time()? - before;
    let (resident, own) = product.resident()?;
    product.stop().await?;
    let with = format!("{BYSTANDERS} containers present");
    Ok(vec![
        Figure::new(
            format!("event → create request, p50, {with}"),
            format!(
                "{} (of which engine → any reader {})",
                milliseconds(percentile(&mut to_create, 0.5)),
                milliseconds(percentile(&mut to_reader, 0.5))
            ),
            "5 ms",
        ),
        Figure::new(
            format!("event → create request, p99, {with}"),
            milliseconds(percentile(&mut to_create, 0.99)),
            "25 ms",
        ),
        Figure::new(
            format!("idle memory of `tugyard run`, {with}"),
            format!("{} ({} of its own, the rest views of the file)", megabytes(resident), megabytes(own)),
            "10 MB",
        ),
        Figure::new(
            "idle processor time of `tugyard run`",
            format!("{} in {} s", milliseconds(used), IDLE.as_secs()),
            "",
        ),
    ])
}

/// Causes events until the runner has seen one: it is up then.
async fn first_reaction(
    api: &DockerApi,
    renamed: &str,
    creates: &mut mpsc::UnboundedReceiver<Sighting>,
) -> anyhow::Result<()> {
    for attempt in 0..30 {
        api.post(&format!("/containers/{renamed}/rename?name=early-{attempt}")).await?;
        if timeout(Duration::from_secs(1), creates.recv()).await.is_ok() {
            return Ok(());
        }
    }
    anyhow::bail!("`tugyard run` asked for no copy within 30 s")
}

/// Waits until the copy has ended and nothing more happens: the next event finds the runner at rest.
async fn ended(events: &mut mpsc::UnboundedReceiver<Seen>) -> anyhow::Result<()> {
    next(events, "die").await?;
    while timeout(Duration::from_millis(300), events.recv()).await.is_ok() {}
    Ok(())
}

async fn next(events: &mut mpsc::UnboundedReceiver<Seen>, action: &str) -> anyhow::Result<Seen> {
    let wanted = async {
        while let Some(event) = events.recv().await {
            if event.action == action {
                return Some(event);
            }
        }
        None
    };
    timeout(PATIENCE, wanted)
        .await
        .with_context(|| format!("no event `{action}`"))?
        .context("the engine went away")
}
