//! The arguments that name a result service and the key to it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use secrecy::SecretString;
use url::Url;

use crate::exit::Usage;

/// A result service and the key to it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Result service")]
pub(crate) struct ServiceArgs {
    /// URL of the result service
    #[arg(short = 'r', long, env = "TUGYARD_RESULT_SERVICE", value_name = "URL")]
    pub(crate) result_service: Option<Url>,
    /// API key of the result service; prefer --api-key-file or the variable: others can read arguments
    #[arg(short = 'k', long, env = "TUGYARD_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Option<SecretString>,
    /// File that holds the API key
    #[arg(long, env = "TUGYARD_API_KEY_FILE", value_name = "PATH", conflicts_with = "api_key")]
    api_key_file: Option<PathBuf>,
}

impl ServiceArgs {
    /// The key, from whichever place was named.
    pub(crate) fn key(&self) -> Result<Option<SecretString>> {
        let Some(path) = &self.api_key_file else { return Ok(self.api_key.clone()) };
        let text = std::fs::read_to_string(path)
            .with_context(|| Usage(format!("cannot read the API key from `{}`", path.display())))?;
        let key = text.trim();
        if key.is_empty() || key.contains(char::is_whitespace) {
            let message = format!("`{}` does not hold one API key on one line", path.display());
            return Err(Usage(message).into());
        }
        Ok(Some(SecretString::from(key)))
    }

    /// The service; an error that names the flag if there is none.
    pub(crate) fn required(&self) -> Result<Url> {
        self.result_service.clone().ok_or_else(|| {
            Usage("name the result service: --result-service URL or TUGYARD_RESULT_SERVICE".into()).into()
        })
    }
}
