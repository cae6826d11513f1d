//! From a container's exit to its stored result, beside the least that anyone could do: archive | gzip | POST. Both on
//! the same engine, to the same service, in turns.

use std::{io::Write as _, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use testkit::Engine;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    docker_api::{DockerApi, Seen, between, container, now},
    figures::{Figure, milliseconds, percentile},
    product::Product,
    tap::{self, Look, Sighting},
};

const PATIENCE: Duration = Duration::from_secs(120);
const RESULTS: &str = "/var/tests/results";

/// One size of results.
struct Size {
    name: &'static str,
    bytes: u64,
    samples: usize,
}

const SIZES: [Size; 2] = [
    Size { name: "64 KiB", bytes: 64 << 10, samples: 30 },
    Size { name: "64 MiB", bytes: 64 << 20, samples: 7 },
];

pub(crate) async fn measure(binary: &Path) -> anyhow::Result<Vec<Figure>> {
    // Here and not on a thread of the runtime's: an engine ends with the thread that started it.
    let engine = Engine::private();
    let busybox = engine.busybox();
    let mut service = Product::start(binary, &["serve", "--listen", "127.0.0.1:0", "--open-upload"])?;
    let url = service.url().await?;
    let address: SocketAddr = url.trim_start_matches("http://").parse().context("the service's address")?;
    let (tapped, mut stored) = tap::tcp(address, Look::Answers(b"HTTP/1.1 201")).await?;
    let tapped = format!("http://{tapped}");
    let host = format!("unix://{}", engine.socket().display());
    let collector = Product::start(binary, &["watch", "--host", &host, "--result-service", &tapped])?;

    let bench = Bench { api: DockerApi::new(engine.socket())?, busybox, url };
    let mut events = bench.api.events().await?;
    // The collector is up when it has delivered something.
    bench.collected(SIZES[0].bytes, &mut events, &mut stored).await?;
    let mut figures = Vec::new();
    for size in &SIZES {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..size.samples {
            ours.push(bench.collected(size.bytes, &mut events, &mut stored).await?);
            bare.push(bench.bare(size.bytes, &mut events).await?);
        }
        let (ours, bare) = (percentile(&mut ours, 0.5), percentile(&mut bare, 0.5));
        figures.push(Figure::new(
            format!("container exit → stored result, {}", size.name),
            format!(
                "{} beside {} bare: {:.2}×",
                milliseconds(ours),
                milliseconds(bare),
                ours.as_secs_f64() / bare.as_secs_f64()
            ),
            "1.1×",
        ));
    }
    collector.stop().await?;
    service.stop().await?;
    Ok(figures)
}

struct Bench {
    api: DockerApi,
    busybox: String,
    url: String,
}

impl Bench {
    /// Runs a container that writes results and ends; returns its id and when it ended.
    async fn ended(
        &self,
        labels: &serde_json::Value,
        bytes: u64,
        events: &mut mpsc::UnboundedReceiver<Seen>,
    ) -> anyhow::Result<(String, u64)> {
        // Half of the bytes are random: as compressible as a log.
        let write = format!(
            "mkdir -p {RESULTS} && head -c {half} /dev/urandom > {RESULTS}/trace.bin && yes 'case shop passed' | head -c {half} > {RESULTS}/log.txt",
            half = bytes / 2
        );
        let body = container(&self.busybox, &["sh", "-c", &write], labels);
        let id = self.api.create(&testkit::unique("delivery"), &body).await?;
        while events.try_recv().is_ok() {}
        self.api.post(&format!("/containers/{id}/start")).await?;
        let died = async {
            while let Some(event) = events.recv().await {
                if event.action == "die" && event.id == id {
                    return Some(event.happened);
                }
            }
            None
        };
        let at = timeout(PATIENCE, died)
            .await
            .context("the container did not end")?
            .context("the engine went away")?;
        Ok((id, at))
    }

    /// By the collector.
    async fn collected(
        &self,
        bytes: u64,
        events: &mut mpsc::UnboundedReceiver<Seen>,
        stored: &mut mpsc::UnboundedReceiver<Sighting>,
    ) -> anyhow::Result<Duration> {
        while stored.try_recv().is_ok() {}
        let (id, ended) = self.ended(&json!({"tugbot.test": "true"}), bytes, events).await?;
        let (at, _) = timeout(PATIENCE, stored.recv()).await.context("nothing was stored")?.context("tap")?;
        self.remove(&id).await?;
        Ok(between(ended, at))
    }

    /// By the least that anyone could do.
    async fn bare(&self, bytes: u64, events: &mut mpsc::UnboundedReceiver<Seen>) -> anyhow::Result<Duration> {
        let (id, ended) = self.ended(&json!({}), bytes, events).await?;
        let mut archive = self.api.archive(&id, RESULTS).await?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        while let Some(piece) = archive.chunk().await? {
            gzip.write_all(&piece)?;
        }
        let answer = testkit::http_client()
            .post(format!(
                "{}/results?mainfile=results.tar&docker.imagename=bare&exitcode=0&test=bare",
                self.url
            ))
            .header("content-type", "application/gzip")
            .body(gzip.finish()?)
            .send()
            .await?;
        let stored = now();
        if answer.status() != reqwest::StatusCode::CREATED {
            bail!("the bare upload was answered with {}: {}", answer.status(), answer.text().await?);
        }
        self.remove(&id).await?;
        Ok(between(ended, stored))
    }

    async fn remove(&self, id: &str) -> anyhow::Result<()> {
        self.api.delete(&format!("/containers/{id}?v=1&force=1")).await
    }
}
