//! Installs Debian packages: one `apt-get update` and one `apt-get install`, as root or through sudo.

use std::{path::Path, process::Command};

use anyhow::{Context as _, bail};

use super::needs::{Need, Sign};
use crate::program;

/// Says what is missing, then installs it.
pub(crate) fn install(missing: &[&Need]) -> anyhow::Result<()> {
    eprintln!("setup: missing on this machine:");
    for need in missing {
        eprintln!("  {:<16} {}", name(need), need.why);
    }
    if program::find("apt-get").is_none() {
        bail!("{}", without_apt(missing));
    }
    apt(&["update"])?;
    let chosen = choose(missing, has_candidate)?;
    apt(&[&["install", "--yes", "--no-install-recommends"], chosen.as_slice()].concat())
}

fn name(need: &Need) -> &'static str {
    match need.sign {
        Sign::Program(names) => names[0],
        Sign::StaticBusybox => "busybox",
    }
}

fn without_apt(missing: &[&Need]) -> String {
    let programs: Vec<_> = missing.iter().map(|need| name(need)).collect();
    format!(
        "setup can install packages on Debian and Ubuntu only; on this system, install these programs by its own \
         means and run the command again: {}",
        programs.join(", ")
    )
}

/// For each need the first package that the archive has, without repeats.
fn choose(missing: &[&Need], has_candidate: impl Fn(&str) -> bool) -> anyhow::Result<Vec<&'static str>> {
    let mut chosen = Vec::new();
    for need in missing {
        let package = need.packages.iter().find(|package| has_candidate(package)).with_context(|| {
            format!(
                "the package archives of this machine have none of {} (for `{}`): enable the archive `main` (Debian) \
                 or `universe` (Ubuntu), or install the program by hand",
                need.packages.join(", "),
                name(need)
            )
        })?;
        if !chosen.contains(package) {
            chosen.push(package);
        }
    }
    Ok(chosen)
}

fn has_candidate(package: &str) -> bool {
    program::succeeds(Command::new("apt-cache").args(["show", "--no-all-versions", package]))
}

fn apt(arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = as_root("apt-get")?;
    command.args(["-qq", "-o", "Dpkg::Use-Pty=0"]).args(arguments);
    eprintln!("setup: {}", program::line(&command));
    // Results go to standard output; what apt says is progress.
    command.stdout(std::io::stderr());
    program::run(&mut command).context("apt-get could not install what is missing; its own message is above")
}

/// A command that runs as root: directly, or through sudo.
pub(super) fn as_root(name: &str) -> anyhow::Result<Command> {
    let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
    let file = program::find(name).unwrap_or_else(|| Path::new(name).to_owned());
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new(file);
        command.envs(quiet);
        return Ok(command);
    }
    let Some(sudo) = program::find("sudo") else {
        bail!("`{name}` needs root and there is no sudo: run `cargo xtask setup` as root once");
    };
    let mut command = Command::new(sudo);
    command.arg("env").args(quiet.map(|(key, value)| format!("{key}={value}"))).arg(file);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::{Purpose, needs};

    #[test]
    fn debian_12_has_the_command_line_in_the_engines_package() {
        let missing = needs::missing(Purpose::Demo, false, |_| false);
        let chosen = choose(&missing, |package| package != "docker-cli").expect("all there");
        assert_eq!(chosen, ["docker.io", "iptables", "busybox-static"]);
    }

    #[test]
    fn later_releases_have_it_apart() {
        let missing = needs::missing(Purpose::Demo, false, |_| false);
        let chosen = choose(&missing, |_| true).expect("all there");
        assert_eq!(chosen, ["docker-cli", "docker.io", "iptables", "busybox-static"]);
    }

    #[test]
    fn an_archive_without_the_package_is_named() {
        let missing = needs::missing(Purpose::Dist, false, |_| false);
        let error = choose(&missing, |_| false).unwrap_err().to_string();
        assert!(error.contains("musl-tools") && error.contains("musl-gcc"), "{error}");
    }

    #[test]
    fn another_system_is_told_which_programs_to_install() {
        let missing = needs::missing(Purpose::Demo, false, |_| false);
        let message = without_apt(&missing);
        assert!(message.ends_with("docker, dockerd, iptables, busybox"), "{message}");
    }
}
