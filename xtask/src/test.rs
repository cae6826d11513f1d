//! `cargo xtask test`: everything that must hold before a change is accepted, in the order in which it fails fastest.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    check, program, references,
    setup::{self, Purpose, cargo_tools},
};

type Step<'a> = (&'static str, Box<dyn FnOnce() -> anyhow::Result<()> + 'a>);

/// Runs every step; the first failure ends the run and carries the step's name.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let cargo =
        |arguments: &'static [&'static str]| move || program::run(program::cargo(root).args(arguments));
    let tool = |name, arguments: &'static [&'static str]| {
        move || program::run(cargo_tools::command(root, name)?.args(arguments))
    };
    let steps: Vec<Step<'_>> = vec![
        ("setup", Box::new(|| setup::run(root, Purpose::Test))),
        ("format", Box::new(cargo(&["fmt", "--all", "--check"]))),
        ("house rules", Box::new(|| check::run(root))),
        (
            "dependencies",
            Box::new(tool("cargo-deny", &["--log-level", "error", "check", "bans", "licenses", "sources"])),
        ),
        (
            "lints",
            Box::new(cargo(&[
                "clippy",
                "--quiet",
                "--locked",
                "--workspace",
                "--all-targets",
                "--",
                "--deny",
                "warnings",
            ])),
        ),
        (
            "tests",
            Box::new(tool(
                "cargo-nextest",
                &["nextest", "run", "--locked", "--workspace", "--profile", "ci"],
            )),
        ),
        ("doc tests", Box::new(cargo(&["test", "--quiet", "--locked", "--workspace", "--doc"]))),
        // The tests have built the binary; a build of its own would choose other features and take minutes.
        ("references", Box::new(|| references::check(root, &references::built(root)))),
    ];
    let started = Instant::now();
    let mut times = Vec::new();
    for (name, step) in steps {
        let began = Instant::now();
        eprintln!("\n── {name}");
        step().with_context(|| format!("step `{name}` failed after {}", seconds(began.elapsed())))?;
        times.push((name, began.elapsed()));
    }
    println!("\nall steps passed in {}", seconds(started.elapsed()));
    for (name, time) in times {
        println!("  {name:<14} {:>8}", seconds(time));
    }
    Ok(())
}

/// `cargo xtask audit`: known vulnerabilities. Apart from `test`, because the database is fetched from elsewhere.
pub(crate) fn audit(root: &Path) -> anyhow::Result<()> {
    cargo_tools::install(root)?;
    let mut command: Command = cargo_tools::command(root, "cargo-deny")?;
    program::run(command.args(["check", "advisories"]))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
