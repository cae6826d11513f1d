//! The command line as a whole: commands, and the arguments that all of them take.

use std::{ffi::OsString, path::PathBuf};

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::{commands, logging::LogFormat};

const AFTER_HELP: &str = "\
Exit codes: 0 success, 1 a negative verdict (a test failed), 2 usage or settings, 3 an outside system is unavailable.

Examples:
  tugyard up                                  everything on this machine, on 127.0.0.1
  tugyard run --plan                          which test containers would run, when and why
  tugyard watch -r http://127.0.0.1:7070      collect results of all test containers on this host";

/// Builds cloud software, hosts it, imports it into clouds, and keeps testing what runs there.
#[derive(Debug, Parser)]
#[command(name = "tugyard", version, after_help = AFTER_HELP, propagate_version = true, disable_version_flag = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Arguments of every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Common")]
pub(crate) struct GlobalArgs {
    /// Settings file [default: ./tugyard.toml, else /etc/tugyard/tugyard.toml]
    #[arg(long, global = true, env = "TUGYARD_CONFIG", value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    /// Form of the results on standard output
    #[arg(long, global = true, env = "TUGYARD_OUTPUT", value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
    /// Only results and errors: no progress, no information
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Log in detail
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    /// Form of the log on standard error
    #[arg(long, global = true, env = "TUGYARD_LOG_FORMAT", value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
    /// Log filter by module, e.g. `info,test_runner=trace`
    #[arg(long, global = true, env = "TUGYARD_LOG", value_name = "FILTER", hide = true)]
    pub(crate) log: Option<String>,
    /// Print the version
    #[arg(long, short = 'v', short_alias = 'V', global = true, action = ArgAction::Version)]
    version: Option<bool>,
}

/// The form of results on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Re-run test containers when something happens
    Run(commands::run::RunArgs),
    /// Collect results of test containers and directories, and deliver them
    Watch(commands::watch::WatchArgs),
    /// Receive, keep and show results and events
    Serve(commands::serve::ServeArgs),
    /// Serve, run and watch on this machine, with nothing to set up
    Up(commands::up::UpArgs),
    /// Make, list and revoke API keys of a result service
    Keys(commands::keys::KeysArgs),
    /// Print each setting and where its value came from
    Config(commands::config::ConfigArgs),
    /// Write completions, man pages and references
    #[command(hide = true)]
    Generate(commands::generate::GenerateArgs),
}

/// The command line under the given program name.
pub(crate) fn command(name: &'static str) -> clap::Command {
    crate::whole_command().name(name).bin_name(name)
}

/// What the derive cannot say: under `run`, `-h` with a value is the host, and alone it prints help.
pub(crate) fn polish(command: clap::Command) -> clap::Command {
    command.mut_subcommand("run", |run| {
        run.disable_help_flag(true)
            .mut_arg("host", |host| host.short('h').num_args(0..=1).default_missing_value(""))
            .arg(
                clap::Arg::new("help")
                    .long("help")
                    .action(ArgAction::Help)
                    .help("Print help (alone, -h does too)"),
            )
    })
}

/// The settings file that the words name, read before the words can be parsed in full.
pub(crate) fn settings_path(command: &clap::Command, words: &[OsString]) -> Option<PathBuf> {
    let matches =
        command.clone().ignore_errors(true).disable_help_flag(true).try_get_matches_from(words).ok()?;
    let deepest = matches.subcommand().map_or(&matches, |(_, inner)| inner);
    deepest.get_one::<PathBuf>("config").or_else(|| matches.get_one("config")).cloned()
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    fn run(words: &[&str]) -> commands::run::RunArgs {
        let matches = command("tugbot").try_get_matches_from(words).unwrap();
        match Cli::from_arg_matches(&matches).unwrap().command {
            Command::Run(run) => run,
            other => panic!("not run: {other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        command("tugyard").debug_assert();
    }

    #[test]
    fn h_with_a_value_is_the_host_and_alone_asks_for_help() {
        assert_eq!(run(&["tugbot", "run", "-h", "tcp://h:1"]).engine.host.as_deref(), Some("tcp://h:1"));
        assert!(run(&["tugbot", "run", "-h"]).asks_for_help());
        assert!(!run(&["tugbot", "run"]).asks_for_help());
    }

    #[test]
    fn takes_every_flag_of_the_proposal() {
        let words = "tugbot run -c name=a;results=/r;event.timer=4h30m -h tcp://x:2375 -i 60 --no-pull --cleanup --tlsverify \
                     --tlscacert /ca --tlscert /cert --tlskey /key --debug one two";
        let args = run(&words.split_whitespace().collect::<Vec<_>>());
        assert_eq!(args.names, ["one", "two"]);
        assert_eq!(args.interval, Some(60));
        assert!(args.no_pull && args.cleanup);
    }

    #[test]
    fn finds_the_settings_file_before_and_after_the_command() {
        let path = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            settings_path(&command("tugyard"), &words)
        };
        assert_eq!(path(&["tugyard", "--config", "/a", "run"]), Some("/a".into()));
        assert_eq!(path(&["tugyard", "run", "--config=/a", "--nonsense"]), Some("/a".into()));
    }
}
