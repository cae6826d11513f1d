//! A running `tugyard up`: started, asked over HTTP, stopped as an init system would.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use super::shop::TEST;

const START_LIMIT: Duration = Duration::from_secs(30);
/// SIGTERM finishes or spools what is in flight within 10 s; some more for a machine that swaps.
const STOP_LIMIT: Duration = Duration::from_secs(15);

pub(super) struct Up {
    child: Child,
    /// Kept open: a closed pipe would end a program that prints.
    _output: Lines<BufReader<ChildStdout>>,
    url: String,
    log: PathBuf,
}

impl Up {
    /// Starts with empty state, for the demo's test only, on a free port.
    pub(super) async fn start(binary: &Path, folder: &Path) -> anyhow::Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove `{}`", folder.display()))?;
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        let log = folder.join("tugyard.log");
        let mut child = Command::new(binary)
            .args(["up", "--listen", "127.0.0.1:0", "--state-dir"])
            .arg(folder.join("state"))
            .arg(TEST)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).with_context(|| format!("cannot create `{}`", log.display()))?)
            // Ctrl-C on the terminal is for us: we stop it in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start `{}`", binary.display()))?;
        let mut output = BufReader::new(child.stdout.take().context("standard output is a pipe")?).lines();
        match timeout(START_LIMIT, first_url(&mut output)).await {
            Ok(Ok(Some(url))) => Ok(Self { child, _output: output, url, log }),
            Ok(Ok(None)) => bail!("`tugyard up` ended at once:\n{}", tail(&log)),
            Ok(Err(error)) => Err(error).context("cannot read what `tugyard up` prints"),
            Err(_) => bail!("`tugyard up` printed no URL within {START_LIMIT:?}:\n{}", tail(&log)),
        }
    }

    /// Where its pages are, without a slash at the end.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// `GET` a JSON document.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<serde_json::Value> {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let url = format!("{}{path}", self.url);
        let answer = client.get(url.parse()?).await.with_context(|| format!("no answer from {url}"))?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{url} answered {status}: {}", String::from_utf8_lossy(&body));
        }
        serde_json::from_slice(&body)
            .with_context(|| format!("{url} answered with something that is not JSON"))
    }

    /// The end of its log, for an error message.
    pub(super) fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// Waits as long as it runs; its end is an error.
    pub(super) async fn until_it_ends(&mut self) -> anyhow::Result<()> {
        let status = self.child.wait().await?;
        bail!("`tugyard up` ended with {status}:\n{}", self.log_tail())
    }

    /// Asks it to stop and waits until it has.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let running = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(pid) = running else { return Ok(()) };
        kill_process(pid, Signal::TERM).context("cannot stop `tugyard up`")?;
        match timeout(STOP_LIMIT, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(_) => bail!("`tugyard up` did not stop in order:\n{}", self.log_tail()),
            Err(_) => bail!(
                "`tugyard up` still runs {STOP_LIMIT:?} after SIGTERM; killed. Log: {}",
                self.log.display()
            ),
        }
    }
}

/// The first address that it prints.
async fn first_url(output: &mut Lines<BufReader<ChildStdout>>) -> std::io::Result<Option<String>> {
    while let Some(line) = output.next_line().await? {
        if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) {
            return Ok(Some(url.trim_end_matches('/').to_owned()));
        }
    }
    Ok(None)
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
