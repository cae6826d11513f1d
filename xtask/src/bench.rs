//! `cargo xtask bench NAME`: builds the release as it is shipped and measures it with the program in `benches/NAME`.
//! Measures nothing itself.

use std::{path::Path, process::Command};

use crate::{
    dist, program,
    setup::{self, Purpose},
};

#[derive(clap::Args)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(value_enum)]
    name: Bench,
    /// Only these parts of it, by name
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Measure this `tugyard` instead of building the release
    #[arg(long, value_name = "PATH")]
    binary: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Bench {
    /// From an event on an engine to a stored result
    Loop,
}

impl Bench {
    fn target(self) -> &'static str {
        match self {
            Self::Loop => "loop",
        }
    }
}

pub(crate) fn run(root: &Path, args: &BenchArgs) -> anyhow::Result<()> {
    setup::run(root, Purpose::Bench)?;
    let binary = match &args.binary {
        Some(binary) => binary.canonicalize()?,
        None => dist::build(root)?,
    };
    let mut command: Command = program::cargo(root);
    command.args(["bench", "--quiet", "--locked", "--package", "xtask", "--bench", args.name.target(), "--"]);
    command.arg(binary).args(&args.only);
    program::run(&mut command)
}
