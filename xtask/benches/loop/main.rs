//! `cargo xtask bench loop`: from an event on an engine to a stored result, measured on the file as it is shipped.
//! Starts its own engine and services and asserts nothing about speed; prints a table, writes nothing.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    missing_docs,
    reason = "a measuring program"
)]

mod delivery;
mod docker_api;
mod figures;
mod flood;
mod product;
mod reaction;
mod stand_in;
mod tap;
mod uploads;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use figures::Figure;

/// The parts, in the order in which they run.
const PARTS: [&str; 4] = ["reaction", "flood", "delivery", "uploads"];

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> anyhow::Result<()> {
    // cargo adds `--bench`.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let binary = PathBuf::from(words.next().context("usage: cargo xtask bench loop")?);
    let only: Vec<String> = words.collect();
    if let Some(unknown) = only.iter().find(|part| !PARTS.contains(&part.as_str())) {
        bail!("there is no part `{unknown}`; known: {}", PARTS.join(", "));
    }
    let wanted = |part: &str| only.is_empty() || only.iter().any(|name| name == part);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut found: Vec<Figure> = Vec::new();
        for part in PARTS.into_iter().filter(|part| wanted(part)) {
            eprintln!("bench: {part}");
            let figures = match part {
                "reaction" => reaction::measure(&binary).await,
                "flood" => flood::measure(&binary).await,
                "delivery" => delivery::measure(&binary).await,
                _ => uploads::measure(&binary).await,
            };
            found.extend(figures.with_context(|| format!("part `{part}`"))?);
        }
        println!("{}", figures::table(&found));
        Ok(())
    })
}
