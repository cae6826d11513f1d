//! `tugyard config`: each setting, its value and where it came from.

use anyhow::Result;
use clap::{Args, Command};

use crate::{
    context::{Context, table},
    exit::{Usage, Verdict},
    settings::is_setting,
};

/// Print each setting and where its value came from.
#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    /// Only the settings of this command
    #[arg(value_name = "COMMAND")]
    only: Option<String>,
}

/// Prints the settings.
pub(crate) fn run(args: &ConfigArgs, context: &Context) -> Result<Verdict> {
    let command = context.settings.apply(crate::whole_command())?;
    let with_settings = |c: &&Command| !c.is_hide_set() && c.get_arguments().any(is_setting);
    let mut names: Vec<_> =
        command.get_subcommands().filter(with_settings).map(|c| c.get_name().to_owned()).collect();
    if let Some(only) = &args.only {
        names.retain(|name| name == only);
        if names.is_empty() {
            return Err(Usage(format!("no command `{only}` has settings")).into());
        }
    }
    let mut rows = Vec::new();
    for name in names {
        let matches = command.clone().try_get_matches_from(["tugyard", &name])?;
        let (Some(matches), Some(subcommand)) =
            (matches.subcommand_matches(&name), command.find_subcommand(&name))
        else {
            continue;
        };
        rows.extend(context.settings.explain(subcommand, matches));
    }
    context.print(&rows, |rows| {
        let cells = rows.iter().map(|row| {
            let value = row.value.clone().unwrap_or_default();
            [format!("{}.{}", row.command, row.setting), value, row.source.clone()]
        });
        table(["setting", "value", "source"], cells)
    })?;
    Ok(Verdict::Success)
}
