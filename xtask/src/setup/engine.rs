//! Finds out whether a Docker Engine answers, and starts one if none does. Never stops or reconfigures one.

use std::{
    env, fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::packages::as_root;
use crate::program;

/// A cold start with many images takes seconds; more than this is a failure.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// Whether the engine that the Docker command line is set to answers.
pub(crate) fn answers() -> bool {
    version().is_ok()
}

fn version() -> anyhow::Result<String> {
    program::output(&mut program::docker(["version", "--format", "{{.Server.Version}}"]))
}

/// Starts the machine's engine and waits until it answers.
pub(crate) fn start(root: &Path) -> anyhow::Result<()> {
    let why_not = match version() {
        // Installing the package may have started it.
        Ok(version) => return announce(&version),
        Err(error) => error.to_string(),
    };
    if let Some(message) = not_ours_to_start(&why_not, env::var("DOCKER_HOST").ok().as_deref()) {
        bail!("{message}");
    }
    if Path::new("/run/systemd/system").is_dir() {
        eprintln!("setup: no Docker Engine answers: systemctl start docker");
        program::run(as_root("systemctl")?.args(["start", "docker"]))?;
        return wait(|| Ok(()));
    }
    let log = program::target(root).join("engine/dockerd.log");
    let process = spawn(&log)?;
    eprintln!("setup: no Docker Engine answers: started dockerd (process {process}), log {}", log.display());
    wait(|| {
        if Path::new("/proc").join(&process).exists() {
            return Ok(());
        }
        bail!("dockerd ended at once; the end of {}:\n{}", log.display(), tail(&log))
    })
}

/// Why starting a local engine would not help, if so.
fn not_ours_to_start(error: &str, docker_host: Option<&str>) -> Option<String> {
    if error.contains("permission denied") {
        return Some(
            "the Docker Engine answers root only: add yourself to its group (`sudo usermod -aG docker $USER`) and log \
             in again, or run as root"
                .to_owned(),
        );
    }
    docker_host.filter(|host| !host.is_empty() && *host != "unix:///var/run/docker.sock").map(|host| {
        format!("the engine at DOCKER_HOST={host} does not answer: start it, or unset DOCKER_HOST ({error})")
    })
}

/// Starts dockerd in a session of its own, so that it outlives this command and its terminal. Returns its process id.
fn spawn(log: &Path) -> anyhow::Result<String> {
    // The shell runs as root, so that sudo can still ask for a password on the terminal that dockerd leaves.
    const SCRIPT: &str = r#"setsid dockerd </dev/null >"$1" 2>&1 & echo $! >"$2""#;
    let folder = log.parent().context("a log file has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    let pid = folder.join("dockerd.pid");
    let mut shell = as_root("sh")?;
    program::run(shell.args(["-c", SCRIPT, "sh"]).arg(log).arg(&pid)).context("cannot start dockerd")?;
    let written = fs::read_to_string(&pid).with_context(|| format!("cannot read `{}`", pid.display()))?;
    Ok(written.trim().to_owned())
}

fn wait(mut still_starting: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        match version() {
            Ok(version) => return announce(&version),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("the Docker Engine does not answer after {START_LIMIT:?}")));
            }
            Err(_) => still_starting()?,
        }
        thread::sleep(POLL);
    }
}

fn announce(version: &str) -> anyhow::Result<()> {
    eprintln!("setup: Docker Engine {version} answers");
    Ok(())
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_engine_is_not_replaced_by_a_local_one() {
        let message = not_ours_to_start("cannot connect", Some("tcp://build:2375")).expect("refused");
        assert!(message.contains("DOCKER_HOST=tcp://build:2375"), "{message}");
    }

    #[test]
    fn a_user_without_the_group_is_told_so() {
        let message = not_ours_to_start("dial unix: permission denied", None).expect("refused");
        assert!(message.contains("usermod -aG docker"), "{message}");
    }

    #[test]
    fn a_silent_default_socket_means_start_one() {
        assert_eq!(not_ours_to_start("Cannot connect to the Docker daemon", None), None);
        assert_eq!(not_ours_to_start("x", Some("unix:///var/run/docker.sock")), None);
    }
}
