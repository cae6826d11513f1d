//! Runs other programs: shows what runs, names what failed. Never interprets their output.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

/// Folders of system programs that an ordinary user's `PATH` lacks on Debian.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Finds a program as a shell would, and in the system's own folders too.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(SYSTEM_FOLDERS.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// How a command reads on one line.
pub(crate) fn line(command: &Command) -> String {
    let quote = |word: &OsStr| {
        let word = word.to_string_lossy();
        let plain =
            !word.is_empty() && !word.contains([' ', '"', '\'', '(', ')', '|', '&', ';', '$', '<', '>']);
        if plain { word.into_owned() } else { format!("'{word}'") }
    };
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words: Vec<_> = std::iter::once(program).chain(command.get_args()).map(quote).collect();
    words.join(" ")
}

/// Runs a command to its end; its output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = line(command);
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed with {status}");
    }
    Ok(())
}

/// Runs a command and returns what it printed. Its error output is part of the error.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = line(command);
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{shown}`"))?;
    if !done.status.success() {
        bail!("`{shown}` failed with {}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// Whether a command runs and succeeds; what it prints is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The cargo that runs this xtask, in the workspace's root.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |named| root.join(named))
}

/// The Docker command line.
pub(crate) fn docker<I, S>(arguments: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(find("docker").unwrap_or_else(|| "docker".into()));
    command.args(arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_named_with_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("sh -c") && message.contains("no such thing") && message.contains('3'),
            "{message}"
        );
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program-of-ours")).unwrap_err();
        assert_eq!(error.to_string(), "cannot start `no-such-program-of-ours`");
    }

    #[test]
    fn programs_are_found_as_a_shell_does() {
        assert!(find("sh").is_some_and(|file| file.is_absolute()));
        assert_eq!(find("no-such-program-of-ours"), None);
    }

    #[test]
    fn a_shown_line_can_be_typed() {
        let mut command = Command::new("/usr/bin/docker");
        command.args(["ps", "--format", "{{.ID}} {{.Names}}"]);
        assert_eq!(line(&command), "docker ps --format '{{.ID}} {{.Names}}'");
    }
}
