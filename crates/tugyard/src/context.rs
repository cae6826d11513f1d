//! What every command gets: how to print, the settings file, the signals.

use std::{io::Write, time::Duration};

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    cli::{GlobalArgs, OutputFormat},
    settings::SettingsFile,
};

/// How long a service may take to stop before it is ended the hard way.
const STOP_PATIENCE: Duration = Duration::from_secs(9);

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Context {
    /// The name the program was called by.
    pub(crate) program: &'static str,
    pub(crate) output: OutputFormat,
    pub(crate) quiet: bool,
    pub(crate) settings: SettingsFile,
}

impl Context {
    /// From the arguments that every command takes.
    pub(crate) fn new(program: &'static str, global: &GlobalArgs, settings: SettingsFile) -> Self {
        Self { program, output: global.output, quiet: global.quiet, settings }
    }

    /// Prints a result: as JSON, or in the given form for people.
    pub(crate) fn print<T: Serialize>(&self, result: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        let text = match self.output {
            OutputFormat::Json => serde_json::to_string_pretty(result)?,
            OutputFormat::Text => text(result),
        };
        writeln!(anstream::stdout(), "{}", text.trim_end())?;
        Ok(())
    }

    /// Prints what a service that goes on running has to say, on one line.
    pub(crate) fn announce<T: Serialize>(&self, result: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        let line = match self.output {
            OutputFormat::Json => serde_json::to_string(result)?,
            OutputFormat::Text => text(result),
        };
        writeln!(anstream::stdout(), "{line}")?;
        Ok(())
    }

    /// A line for people on standard error, unless they asked for quiet.
    pub(crate) fn say(&self, line: &str) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr(), "{line}");
        }
    }
}

/// A table with the house's look.
pub(crate) fn table<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(headings.map(str::to_uppercase));
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Prints an error with its causes, once.
pub(crate) fn report_error(error: &anyhow::Error) {
    let mut stderr = anstream::stderr();
    let mut last = String::new();
    for (depth, cause) in error.chain().enumerate() {
        let text = cause.to_string();
        // A cause that only repeats what was just said helps nobody.
        if text == last || text.is_empty() {
            continue;
        }
        let _ = match depth {
            0 => writeln!(stderr, "error: {text}"),
            _ => writeln!(stderr, "  because: {text}"),
        };
        last = text;
    }
}

/// A token that is cancelled by SIGTERM or SIGINT. A second signal, or a stop that takes too long, ends the process.
pub(crate) fn stop_on_signal() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => (), _ = int.recv() => () }
        info!("stopping: what is in flight is finished or spooled");
        stop.cancel();
        tokio::select! {
            _ = term.recv() => (),
            _ = int.recv() => (),
            () = tokio::time::sleep(STOP_PATIENCE) => (),
        }
        warn!("ended before everything had stopped; what was spooled is delivered at the next start");
        // The binary may: nothing that was promised is lost.
        #[allow(clippy::exit, reason = "the wait for a clean stop is over")]
        std::process::exit(0);
    });
    Ok(token)
}
