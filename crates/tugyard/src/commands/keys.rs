//! `tugyard keys`: makes, lists and revokes API keys of the service on this machine.

use anyhow::Result;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use result_service::{KeyRow, Scope, Store};
use secrecy::ExposeSecret;
use serde::Serialize;

use crate::{
    context::{Context, table},
    exit::{Usage, Verdict},
    state_dir::StateArgs,
};

/// Make, list and revoke API keys of the result service whose state is on this machine
#[derive(Args, Debug)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key and print it, once
    Create {
        /// What the key is for
        #[arg(long)]
        name: String,
        /// What it may do: upload, read or admin; may be repeated
        #[arg(long, default_values_t = [Scope::Upload])]
        scope: Vec<Scope>,
    },
    /// List the keys; the keys themselves are not kept and cannot be shown
    List,
    /// Revoke a key for good
    Revoke {
        /// Its id, from `tugyard keys list`
        id: String,
    },
}

/// A key that was just made, the only time it can be seen.
#[derive(Serialize)]
struct Made<'a> {
    key: &'a str,
    #[serde(flatten)]
    row: &'a KeyRow,
}

/// Carries out the action.
pub(crate) async fn run(args: KeysArgs, context: &Context) -> Result<Verdict> {
    let store = Store::open(&args.state.path()).await?;
    match args.action {
        Action::Create { name, scope } => {
            let made = store.create_key(&name, &scope, Timestamp::now()).await?;
            context.say("this key is shown only now: keep it in a file that only its user can read");
            let made = Made { key: made.secret.expose_secret(), row: &made.row };
            context.print(&made, |made| made.key.to_owned())?;
        }
        Action::List => {
            let keys = store.keys().await?;
            context.print(&keys, |keys| {
                let time = |t: Option<Timestamp>| t.map(|t| format!("{t:.0}")).unwrap_or_default();
                let rows = keys.iter().map(|key| {
                    let scopes: Vec<_> = key.scopes.iter().map(|s| s.as_str()).collect();
                    let (made, used) = (time(Some(key.created_at)), time(key.last_used_at));
                    [key.id.clone(), key.name.clone(), scopes.join(" "), made, used, time(key.revoked_at)]
                });
                table(["id", "name", "scopes", "made", "last used", "revoked"], rows)
            })?;
        }
        Action::Revoke { id } => {
            if !store.revoke_key(&id, Timestamp::now()).await? {
                return Err(Usage(format!("there is no key `{id}`: see `tugyard keys list`")).into());
            }
            context.say(&format!("key {id} is revoked"));
        }
    }
    Ok(Verdict::Success)
}
