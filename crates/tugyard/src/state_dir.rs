//! Where state lives when nobody says: one directory per user.

use std::path::PathBuf;

use clap::Args;

/// The state directory.
#[derive(Args, Clone, Debug)]
pub(crate) struct StateArgs {
    /// Directory for everything that is kept [default: /var/lib/tugyard for root, else ~/.local/state/tugyard]
    #[arg(long, global = true, env = "TUGYARD_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl StateArgs {
    /// The directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| {
            let path = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
            default_path(rustix::process::geteuid().is_root(), path("XDG_STATE_HOME"), path("HOME"))
        })
    }
}

fn default_path(is_root: bool, state_home: Option<PathBuf>, home: Option<PathBuf>) -> PathBuf {
    if is_root {
        return "/var/lib/tugyard".into();
    }
    let state_home = state_home.or_else(|| Some(home?.join(".local/state")));
    state_home.unwrap_or_else(|| ".".into()).join("tugyard")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_base_directory_specification_for_ordinary_users() {
        let path = |root, state: Option<&str>, home: Option<&str>| {
            default_path(root, state.map(Into::into), home.map(Into::into)).display().to_string()
        };
        assert_eq!(path(true, None, Some("/root")), "/var/lib/tugyard");
        assert_eq!(path(false, None, Some("/home/a")), "/home/a/.local/state/tugyard");
        assert_eq!(path(false, Some("/s"), Some("/home/a")), "/s/tugyard");
    }
}
