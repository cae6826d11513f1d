//! A running `tugyard`: started with its own state, weighed through `/proc`, stopped as an init system would.

use std::{
    fs::{self, File},
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Linux tells programs time in hundredths of a second (`USER_HZ`) on every architecture that we build for.
const MILLISECONDS_PER_TICK: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Product {
    child: Child,
    id: u32,
    output: Lines<BufReader<ChildStdout>>,
    home: tempfile::TempDir,
}

impl Product {
    pub(crate) fn start(binary: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("tugyard-bench-").tempdir()?;
        let log = File::create(home.path().join("log"))?;
        let mut child = Command::new(binary)
            .args(arguments)
            .env("TUGYARD_STATE_DIR", home.path().join("state"))
            .env("TUGYARD_LOG", "warn")
            .env_remove("DOCKER_HOST")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start `{}`", binary.display()))?;
        let id = child.id().context("a started process has an id")?;
        let output = BufReader::new(child.stdout.take().context("standard output is a pipe")?).lines();
        Ok(Self { child, id, output, home })
    }

    /// The first URL that it prints, without a slash at the end.
    pub(crate) async fn url(&mut self) -> anyhow::Result<String> {
        let first = async {
            while let Some(line) = self.output.next_line().await? {
                if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) {
                    return Ok(url.trim_end_matches('/').to_owned());
                }
            }
            bail!("it ended:\n{}", fs::read_to_string(self.home.path().join("log"))?)
        };
        timeout(PATIENCE, first).await.context("it printed no URL")?
    }

    /// Resident memory in bytes: all of it, and the part that is not a view of the executable file.
    pub(crate) fn resident(&self) -> anyhow::Result<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id))?;
        let bytes = |name: &str| -> anyhow::Result<u64> {
            let line =
                status.lines().find_map(|line| line.strip_prefix(name)).context("no memory in /proc")?;
            let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
            Ok(kilobytes * 1024)
        };
        Ok((bytes("VmRSS:")?, bytes("RssAnon:")?))
    }

    /// Processor time used so far.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id))?;
        // The name in parentheses may hold anything; fields are counted behind it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_millis(ticks * MILLISECONDS_PER_TICK))
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.id).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, Signal::TERM)?;
        let status = timeout(PATIENCE, self.child.wait()).await.context("it did not stop")??;
        if !status.success() {
            bail!("it stopped with {status}:\n{}", fs::read_to_string(self.home.path().join("log"))?);
        }
        Ok(())
    }
}
