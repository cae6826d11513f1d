//! The example product on the engine: its images, its containers, its network. All carry one label.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::bail;

use crate::{demo::base_image, program};

/// The service's container, and what the test's event filter names.
const SERVICE: &str = "tugyard-demo-shop";
/// The test container, and so the name of the test.
pub(super) const TEST: &str = "tugyard-demo-tests";
const NETWORK: &str = "tugyard-demo";
const LABEL: &str = "tugyard.demo=shop";
const BASE_IMAGE: &str = "tugyard-demo/base:1";
const SERVICE_IMAGE: &str = "tugyard-demo/shop:1";
const TEST_IMAGE: &str = "tugyard-demo/tests:1";

/// The labels of a test container that belong to where it runs, not to what it is.
const TRIGGERS: [&str; 4] = [
    "tugbot.event.timer=10s",
    "tugbot.event.docker=start",
    "tugbot.event.docker.filter.container=tugyard-demo-shop",
    "tugbot.wait-for=tugyard-demo-shop:healthy",
];

const HEALTH_LIMIT: Duration = Duration::from_secs(30);

pub(super) struct Shop {
    sources: PathBuf,
}

impl Shop {
    pub(super) fn new(root: &Path) -> Self {
        Self { sources: root.join("examples/shop") }
    }

    /// Builds both images, without a network, and makes the network that the two containers share.
    pub(super) fn prepare(&self) -> anyhow::Result<()> {
        base_image::import(BASE_IMAGE)?;
        for (folder, reference) in [("service", SERVICE_IMAGE), ("tests", TEST_IMAGE)] {
            let base = format!("BASE={BASE_IMAGE}");
            let mut command =
                program::docker(["build", "--quiet", "--network", "none", "--build-arg", &base]);
            program::output(command.args(["--tag", reference]).arg(self.sources.join(folder)))?;
        }
        program::output(&mut program::docker(["network", "create", "--label", LABEL, NETWORK])).map(drop)
    }

    /// Puts the shop into service, in place of the one that runs.
    pub(super) fn deploy(&self, free_shipping_from: &str) -> anyhow::Result<()> {
        remove(&["container", "rm", "--force"], containers(&format!("name=^/{SERVICE}$"))?)?;
        let setting = format!("FREE_SHIPPING_FROM={free_shipping_from}");
        let mut command = program::docker(["run", "--detach", "--name", SERVICE, "--label", LABEL]);
        command.args(["--network", NETWORK, "--network-alias", "shop", "--env", &setting, SERVICE_IMAGE]);
        program::output(&mut command).map(drop)
    }

    /// Runs the test container once, as any scheduler would. Every later run is Tugyard's.
    pub(super) async fn first_run(&self) -> anyhow::Result<()> {
        wait_until_healthy().await?;
        let mut command = program::docker(["run", "--name", TEST, "--label", LABEL, "--network", NETWORK]);
        for label in TRIGGERS {
            command.args(["--label", label]);
        }
        program::run(command.arg(TEST_IMAGE).stdout(std::io::stderr()))
    }

    /// Removes the containers, copies included, and the network. The images stay: the next demo starts faster.
    pub(super) fn clean_up(&self) -> anyhow::Result<()> {
        let label = format!("label={LABEL}");
        remove(&["container", "rm", "--force", "--volumes"], containers(&label)?)?;
        remove(&["network", "rm"], listed(&["network", "ls", "--quiet", "--filter", &label])?)
    }
}

/// Waits for the image's own health check, which looks every second.
async fn wait_until_healthy() -> anyhow::Result<()> {
    let deadline = Instant::now() + HEALTH_LIMIT;
    loop {
        let status = program::output(&mut program::docker([
            "container",
            "inspect",
            "--format",
            "{{.State.Health.Status}}",
            SERVICE,
        ]))?;
        if status == "healthy" {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("`{SERVICE}` is {status} after {HEALTH_LIMIT:?}: see `docker logs {SERVICE}`");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn containers(filter: &str) -> anyhow::Result<Vec<String>> {
    listed(&["container", "ls", "--all", "--quiet", "--no-trunc", "--filter", filter])
}

fn listed(arguments: &[&str]) -> anyhow::Result<Vec<String>> {
    let ids = program::output(&mut program::docker(arguments))?;
    Ok(ids.lines().map(str::to_owned).collect())
}

fn remove(command: &[&str], ids: Vec<String>) -> anyhow::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    program::output(program::docker(command).args(ids)).map(drop)
}
