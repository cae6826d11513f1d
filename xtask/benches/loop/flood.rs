//! 5,000 events a second for a minute, none lost; and what memory grows by over 100,000 of them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::bail;
use tokio_util::sync::CancellationToken;

use crate::{
    figures::{Figure, megabytes},
    product::Product,
    stand_in::StandIn,
};

const RATE: u64 = 5_000;
const SECONDS: u64 = 60;
/// Memory is compared between these two counts of events: buffers have their size by the first.
const GROWTH_FROM: u64 = 100_000;
const GROWTH_TO: u64 = 200_000;
const REPORT: u64 = 50_000;
const TICK: Duration = Duration::from_millis(2);

pub(crate) async fn measure(binary: &Path) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("engine.sock");
    let stop = CancellationToken::new();
    let _stopped_at_the_end = stop.clone().drop_guard();
    let engine = StandIn::start(&socket, stop)?;
    let host = format!("unix://{}", socket.display());
    let mut product = Product::start(binary, &["run", "--host", &host, "--listen", "127.0.0.1:0"])?;
    let url = product.url().await?;
    connected(&engine).await?;

    let (mut from, mut to) = (0, 0);
    let mut ticks = tokio::time::interval(TICK);
    let began = Instant::now();
    let before = product.processor_time()?;
    let mut number = 0;
    while number < RATE * SECONDS {
        ticks.tick().await;
        let due = u64::try_from(began.elapsed().as_micros())? * RATE / 1_000_000;
        while number < due.min(RATE * SECONDS) {
            engine.send(number).await;
            number += 1;
            if number % REPORT == 0 {
                eprintln!("  {number} events, {}", megabytes(product.resident()?.0));
            }
            match number {
                GROWTH_FROM => from = product.resident()?.0,
                GROWTH_TO => to = product.resident()?.0,
                _ => {}
            }
        }
    }
    let took = began.elapsed();
    let used = product.processor_time()? - before;
    let handled = handled(&url, engine.sent()).await?;
    let missed = number - handled.min(number);
    product.stop().await?;
    Ok(vec![
        Figure::new(
            format!("{RATE} events/s for {SECONDS} s from a stand-in engine"),
            format!(
                "{number} sent in {:.1} s, {handled} handled, {missed} lost ({} by the engine's channel), {:.0} % of one core",
                took.as_secs_f64(),
                engine.lost(),
                used.as_secs_f64() / took.as_secs_f64() * 100.0
            ),
            "none lost",
        ),
        Figure::new(
            format!("growth of memory over {} events", GROWTH_TO - GROWTH_FROM),
            format!("{} → {} ({} KB)", megabytes(from), megabytes(to), (to.saturating_sub(from)) / 1_000),
            "1 MB",
        ),
    ])
}

async fn connected(engine: &StandIn) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while engine.readers() == 0 {
        if Instant::now() > deadline {
            bail!("`tugyard run` did not ask for events within 20 s");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// What the runner counts: each event triggers the one test, and its firing is queued or joins the one that waits.
async fn handled(url: &str, sent: u64) -> anyhow::Result<u64> {
    let client = testkit::http_client();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let metrics = client.get(format!("{url}/metrics")).send().await?.error_for_status()?.text().await?;
        let count = counter(&metrics, "tugyard_run_triggers_total").unwrap_or(0);
        if count >= sent || Instant::now() > deadline {
            return Ok(count);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The sum over all label sets of a counter in OpenMetrics text.
fn counter(metrics: &str, name: &str) -> Option<u64> {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labelled) => labelled.rsplit('}').next()?,
            None => rest.strip_prefix(' ')?,
        };
        value.trim().parse::<u64>().ok()
    });
    values.reduce(|sum, value| sum + value)
}
