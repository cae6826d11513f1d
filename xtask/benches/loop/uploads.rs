//! How many small results a second `tugyard serve` stores durably: each is answered after it is on disk.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use crate::{
    figures::{Figure, milliseconds, percentile},
    product::Product,
};

const SENDERS: usize = 32;
const FOR: Duration = Duration::from_secs(20);
const JUNIT: &str = r#"<testsuite name="shop"><testcase classname="shop" name="a" time="0.01"/><testcase classname="shop" name="b" time="0.02"/></testsuite>"#;

pub(crate) async fn measure(binary: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut product = Product::start(binary, &["serve", "--listen", "127.0.0.1:0", "--open-upload"])?;
    let url = product.url().await?;
    let body = upload()?;
    let count = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| tokio::spawn(send(url.clone(), body.clone(), Arc::clone(&count), began + FOR)))
        .collect();
    let mut times = Vec::new();
    for sender in senders {
        times.extend(sender.await??);
    }
    let took = began.elapsed();
    let listed: serde_json::Value = testkit::http_client()
        .get(format!("{url}/api/v1/tests"))
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?;
    let stored = listed["items"][0]["runs"].as_u64().context("the test is listed with its count of runs")?;
    if stored != times.len() as u64 {
        bail!("{} uploads were confirmed and {stored} are stored", times.len());
    }
    product.stop().await?;
    Ok(vec![Figure::new(
        format!("small uploads, durable, {SENDERS} senders"),
        format!(
            "{:.0}/s ({} B each; p50 {}, p99 {}; all {stored} stored)",
            times.len() as f64 / took.as_secs_f64(),
            body.len(),
            milliseconds(percentile(&mut times, 0.5)),
            milliseconds(percentile(&mut times, 0.99))
        ),
        "1,000/s",
    )])
}

async fn send(
    url: String,
    body: Bytes,
    count: Arc<AtomicU64>,
    until: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let client = testkit::http_client();
    let url = format!("{url}/results?mainfile=results.tar&docker.imagename=bench&exitcode=0&test=bench");
    let mut times = Vec::new();
    while Instant::now() < until {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let answer = client
            .post(&url)
            .header("content-type", "application/gzip")
            .header("idempotency-key", format!("bench/{number}"))
            .body(body.clone())
            .send()
            .await?;
        let status = answer.status();
        let text = answer.text().await?;
        if status != reqwest::StatusCode::CREATED {
            bail!("an upload was answered with {status}: {text}");
        }
        times.push(began.elapsed());
    }
    Ok(times)
}

/// A result as a collector sends it: two cases.
fn upload() -> anyhow::Result<Bytes> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (path, content) in [("results/junit.xml", JUNIT), ("console_output/stdout.log", "ok a\nok b\n")] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content.as_bytes())?;
    }
    Ok(tar.into_inner()?.finish()?.into())
}
