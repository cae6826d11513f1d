//! Settings from flags, environment, `tugyard.toml` and defaults, in that order.
//!
//! Every setting is declared once, as an argument of its command. The file's values become that argument's defaults, so
//! precedence, validation and help are clap's own. Section `[run]` holds the settings of `tugyard run`; keys are the long
//! flags.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{ArgAction, ArgMatches, Command, parser::ValueSource};
use toml::{Table, Value};

use crate::exit::Usage;

/// Where the file is looked for when none is named.
const SYSTEM_FILE: &str = "/etc/tugyard/tugyard.toml";

/// The settings file in use, if there is one.
#[derive(Debug, Default)]
pub(crate) struct SettingsFile {
    /// Its path.
    pub(crate) path: Option<PathBuf>,
    table: Table,
}

/// One row of `tugyard config`.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct SettingRow {
    pub(crate) command: String,
    pub(crate) setting: String,
    pub(crate) value: Option<String>,
    pub(crate) source: String,
}

impl SettingsFile {
    /// Reads the named file, else `tugyard.toml` here, else the system's. A named file must exist.
    pub(crate) fn load(named: Option<&Path>) -> Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => {
                match ["tugyard.toml", SYSTEM_FILE].into_iter().map(PathBuf::from).find(|p| p.is_file()) {
                    Some(path) => path,
                    None => return Ok(Self::default()),
                }
            }
        };
        let text = std::fs::read_to_string(&path)
            .with_context(|| Usage(format!("cannot read the settings file `{}`", path.display())))?;
        let table = text
            .parse::<Table>()
            .with_context(|| Usage(format!("`{}` is not a TOML file", path.display())))?;
        Ok(Self { path: Some(path), table })
    }

    /// Makes the file's values the defaults of the matching arguments.
    pub(crate) fn apply(&self, mut command: Command) -> Result<Command> {
        for (section, values) in &self.table {
            let place = || self.path.as_deref().unwrap_or(Path::new("tugyard.toml")).display().to_string();
            let Some(values) = values.as_table() else {
                let message = format!("{}: `{section}` stands outside a section such as [run]", place());
                return Err(Usage(message).into());
            };
            let Some(subcommand) = command.find_subcommand(section) else {
                let known: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
                let known = known.join(", ");
                return Err(Usage(format!(
                    "{}: no command has settings [{section}]; known: {known}",
                    place()
                ))
                .into());
            };
            let mut defaults = BTreeMap::new();
            for (key, value) in values {
                let argument = subcommand
                    .get_arguments()
                    .find(|a| a.get_long() == Some(key) && is_setting(a))
                    .ok_or_else(|| Usage(format!("{}: [{section}] has no setting `{key}`", place())))?;
                let words = words_of(value).ok_or_else(|| {
                    Usage(format!(
                        "{}: [{section}] {key}: write text, a number, true, false or a list",
                        place()
                    ))
                })?;
                defaults.insert(argument.get_id().to_string(), words);
            }
            command = command.mut_subcommand(section.clone(), |mut subcommand| {
                for (id, words) in defaults {
                    subcommand = subcommand.mut_arg(id, |a| a.default_values(words));
                }
                subcommand
            });
        }
        Ok(command)
    }

    fn has(&self, section: &str, key: &str) -> bool {
        self.table.get(section).and_then(Value::as_table).is_some_and(|t| t.contains_key(key))
    }

    /// Tells where each value of a command came from. Secrets are named, never shown.
    pub(crate) fn explain(&self, command: &Command, matches: &ArgMatches) -> Vec<SettingRow> {
        let section = command.get_name();
        let row = |argument: &clap::Arg| {
            let key = argument.get_long()?;
            let id = argument.get_id().as_str();
            let value =
                matches.get_raw(id).map(|v| v.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" "));
            let source = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => "flag".to_owned(),
                Some(ValueSource::EnvVariable) => {
                    let name = argument.get_env().map(|n| n.to_string_lossy().into_owned());
                    format!("environment {}", name.unwrap_or_default())
                }
                Some(_) if self.has(section, key) => {
                    format!("file {}", self.path.as_deref().unwrap_or(Path::new("")).display())
                }
                Some(_) => "default".to_owned(),
                None => "unset".to_owned(),
            };
            let secret = is_secret(key);
            let value = value.map(|v| if secret { "(hidden)".to_owned() } else { v });
            Some(SettingRow { command: section.to_owned(), setting: key.to_owned(), value, source })
        };
        command.get_arguments().filter(|a| is_setting(a)).filter_map(row).collect()
    }
}

/// Whether an argument can be set in the file: it has a long flag and is no action such as help.
pub(crate) fn is_setting(argument: &clap::Arg) -> bool {
    let acts = matches!(
        argument.get_action(),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
    );
    argument.get_long().is_some() && !acts
}

fn is_secret(key: &str) -> bool {
    matches!(key, "api-key" | "tlskey")
}

fn words_of(value: &Value) -> Option<Vec<String>> {
    let word = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    };
    match value {
        Value::Array(list) => list.iter().map(word).collect(),
        single => Some(vec![word(single)?]),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, value_parser};

    use super::*;

    fn command() -> Command {
        Command::new("tugyard").subcommand(
            Command::new("run")
                .arg(
                    Arg::new("interval")
                        .long("interval")
                        .default_value("300")
                        .value_parser(value_parser!(u64)),
                )
                .arg(Arg::new("webhook").long("webhook").action(ArgAction::Append))
                .arg(Arg::new("no_pull").long("no-pull").action(ArgAction::SetTrue)),
        )
    }

    fn file(text: &str) -> SettingsFile {
        SettingsFile { path: Some("t.toml".into()), table: text.parse().unwrap() }
    }

    fn interval(text: &str, words: &[&str]) -> u64 {
        let matches = file(text).apply(command()).unwrap().try_get_matches_from(words).unwrap();
        *matches.subcommand_matches("run").unwrap().get_one("interval").unwrap()
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        assert_eq!(interval("", &["tugyard", "run"]), 300);
        assert_eq!(interval("[run]\ninterval = 7", &["tugyard", "run"]), 7);
        assert_eq!(interval("[run]\ninterval = 7", &["tugyard", "run", "--interval", "9"]), 9);
    }

    #[test]
    fn lists_and_flags_can_stand_in_the_file() {
        let settings = file("[run]\nwebhook = [\"http://a\", \"http://b\"]\nno-pull = true");
        let matches = settings.apply(command()).unwrap().try_get_matches_from(["tugyard", "run"]).unwrap();
        let run = matches.subcommand_matches("run").unwrap();
        assert!(run.get_flag("no_pull"));
        assert_eq!(run.get_many::<String>("webhook").unwrap().collect::<Vec<_>>(), ["http://a", "http://b"]);
        let rows = settings.explain(command().find_subcommand("run").unwrap(), run);
        assert!(rows.iter().all(|row| row.setting == "interval" || row.source == "file t.toml"), "{rows:?}");
    }

    #[test]
    fn unknown_sections_and_settings_are_named() {
        let error = |text: &str| file(text).apply(command()).unwrap_err().to_string();
        assert_eq!(error("[run]\nintervall = 7"), "t.toml: [run] has no setting `intervall`");
        assert_eq!(error("[runs]\n"), "t.toml: no command has settings [runs]; known: run");
        assert_eq!(error("interval = 7"), "t.toml: `interval` stands outside a section such as [run]");
    }

    #[test]
    fn a_wrong_value_in_the_file_is_refused_as_on_the_command_line() {
        let command = file("[run]\ninterval = \"soon\"").apply(command()).unwrap();
        assert!(command.try_get_matches_from(["tugyard", "run"]).is_err());
    }
}
