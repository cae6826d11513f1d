//! The project's own tasks: setup, test, check, demo, bench, dist. Knows none of the product's crates: it builds the
//! binary and runs it as a user would.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line's work is to print")]

mod bench;
mod check;
mod demo;
mod dist;
mod elf;
mod program;
mod references;
mod setup;
mod test;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

/// Tasks of the Tugyard workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what is missing on Debian or Ubuntu and starts the Docker Engine if none answers
    Setup {
        /// What the machine is needed for
        #[arg(long = "for", value_enum, default_value = "all")]
        purpose: setup::Purpose,
    },
    /// Runs everything that must hold: setup, format, house rules, dependencies, lints, tests, references
    Test,
    /// Checks the house rules: arrows between crates, file headers and sizes, purity of libraries
    Check,
    /// Asks the advisory database about our dependencies (needs the network)
    Audit,
    /// Writes docs/reference anew from the binary
    References,
    /// Runs the main job with a real example and ends with a page to open
    Demo(demo::DemoArgs),
    /// Measures, and prints a table
    Bench(bench::BenchArgs),
    /// Builds the release: one static file, completions, man pages, archive, and a container image
    Dist(dist::DistArgs),
}

fn main() -> ExitCode {
    let outcome = perform(Arguments::parse().task, &root());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task, root: &Path) -> anyhow::Result<()> {
    match task {
        Task::Setup { purpose } => setup::run(root, purpose),
        Task::Test => test::run(root),
        Task::Check => check::run(root),
        Task::Audit => test::audit(root),
        Task::References => references::write(root),
        Task::Demo(args) => demo::run(root, &args),
        Task::Bench(args) => bench::run(root, &args),
        Task::Dist(args) => dist::run(root, &args),
    }
}

/// The workspace's root: the folder above this crate.
fn root() -> PathBuf {
    let this = Path::new(env!("CARGO_MANIFEST_DIR"));
    this.parent().unwrap_or(this).to_owned()
}
