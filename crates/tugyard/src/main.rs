//! The `tugyard` binary: arguments, settings, wiring, rendering, exit codes. No logic of its own.

mod by_hand;
mod cli;
mod collector_wiring;
mod commands;
mod context;
mod engine_args;
mod exit;
mod http_client;
mod invocation;
mod logging;
mod runner_wiring;
mod service_args;
mod settings;
mod state_dir;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::{cli::Cli, context::Context, settings::SettingsFile};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words = invocation::modernise(std::env::args_os());
    match start(words) {
        Ok(code) => code,
        Err(error) => {
            context::report_error(&error);
            ExitCode::from(exit::code_of(&error))
        }
    }
}

fn start(words: Vec<std::ffi::OsString>) -> anyhow::Result<ExitCode> {
    let name = words.first().map_or("tugyard", invocation::name_of);
    let command = cli::command(name);
    let settings = SettingsFile::load(cli::settings_path(&command, &words).as_deref())?;
    let command = settings.apply(command)?;
    let matches = match command.try_get_matches_from(&words) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are results and go to standard output with code 0; the rest is usage, code 2.
            error.print()?;
            return Ok(ExitCode::from(if error.use_stderr() { 2 } else { 0 }));
        }
    };
    let cli = Cli::from_arg_matches(&matches)?;
    logging::install(cli.global.log_format, cli.global.log.as_deref(), cli.global.debug, cli.global.quiet);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let context = Context::new(name, &cli.global, settings);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let verdict = runtime.block_on(commands::run(cli.command, &context));
    // What still runs in the background has been told to stop; a blocked thread must not hold the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(verdict?.into())
}

/// The whole command line as clap knows it, for help, references and settings.
fn whole_command() -> clap::Command {
    cli::polish(Cli::command())
}
