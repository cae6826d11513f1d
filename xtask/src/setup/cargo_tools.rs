//! The cargo subcommands that tests use, and the release's compile target. A tool on the `PATH` is taken; otherwise it
//! is built into `target/tools`, so nothing changes outside this checkout.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::program;

/// The release is one static file.
pub(crate) const MUSL_TARGET: &str = "x86_64-unknown-linux-musl";

struct Tool {
    name: &'static str,
    version: &'static str,
    /// Without self-update and the like.
    features: &'static [&'static str],
    why: &'static str,
}

const TOOLS: [Tool; 2] = [
    Tool {
        name: "cargo-nextest",
        version: "0.9.151",
        features: &["--no-default-features", "--features", "default-no-update"],
        why: "runs the tests, each in its own process with a time limit",
    },
    Tool {
        name: "cargo-deny",
        version: "0.20.2",
        features: &[],
        why: "checks licences, bans and sources of dependencies",
    },
];

/// Builds the tools that are missing.
pub(crate) fn install(root: &Path) -> anyhow::Result<()> {
    let folder = folder(root);
    let build = folder.join("build");
    for tool in &TOOLS {
        if find(root, tool.name).is_some() {
            continue;
        }
        eprintln!("setup: building {} {}: {}", tool.name, tool.version, tool.why);
        let mut command = program::cargo(root);
        // Unoptimised, it is built in a third of the time and still does its work in seconds.
        command.args(["install", "--quiet", "--locked", "--debug", tool.name, "--version", tool.version]);
        command.args(tool.features).arg("--root").arg(&folder).arg("--target-dir").arg(&build);
        command.env("CARGO_PROFILE_DEV_DEBUG", "0").stdout(std::io::stderr());
        program::run(&mut command)?;
    }
    if build.exists() {
        fs::remove_dir_all(&build).with_context(|| format!("cannot remove `{}`", build.display()))?;
    }
    Ok(())
}

/// A command of this tool, in the workspace's root.
pub(crate) fn command(root: &Path, name: &str) -> anyhow::Result<Command> {
    let file = find(root, name).with_context(|| format!("`{name}` is missing: run `cargo xtask setup`"))?;
    let mut command = Command::new(file);
    command.current_dir(root);
    Ok(command)
}

fn find(root: &Path, name: &str) -> Option<PathBuf> {
    program::find(name).or_else(|| Some(folder(root).join("bin").join(name)).filter(|file| file.is_file()))
}

fn folder(root: &Path) -> PathBuf {
    program::target(root).join("tools")
}

/// Adds the standard library of the release's target.
pub(crate) fn musl_target(root: &Path) -> anyhow::Result<()> {
    let mut rustc = Command::new("rustc");
    let libraries =
        program::output(rustc.current_dir(root).args(["--print", "target-libdir", "--target", MUSL_TARGET]))?;
    if Path::new(&libraries).is_dir() {
        return Ok(());
    }
    eprintln!("setup: rustup target add {MUSL_TARGET}: the release is one static file");
    let mut rustup = Command::new("rustup");
    program::run(rustup.current_dir(root).args(["target", "add", MUSL_TARGET]).stdout(std::io::stderr()))
        .with_context(|| format!("the toolchain lacks the target {MUSL_TARGET} and rustup could not add it"))
}
