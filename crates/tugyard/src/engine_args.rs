//! The arguments that say how to reach the engine, shared by every command that needs one.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use container_engine::{ConnectSettings, Engine, PemSource, TlsMode};

use crate::exit::{Unavailable, Usage};

/// Where the TLS files lie unless flags or `DOCKER_CERT_PATH` say otherwise.
const DEFAULT_TLS_DIRECTORY: &str = "/etc/ssl/docker";

/// How to reach the container engine.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Container engine")]
pub(crate) struct EngineArgs {
    /// Engine to connect to: unix:///path or tcp://host:port
    #[arg(long, env = "DOCKER_HOST", value_name = "ADDRESS")]
    pub(crate) host: Option<String>,
    /// Docker context to use when no host is given
    #[arg(long, env = "DOCKER_CONTEXT", value_name = "NAME")]
    context: Option<String>,
    /// Use TLS, but do not verify the engine's certificate
    #[arg(long)]
    tls: bool,
    /// Use TLS and verify the engine's certificate
    #[arg(long)]
    tlsverify: bool,
    /// Trust only certificates signed by this CA: a path, or the PEM text itself [default: /etc/ssl/docker/ca.pem]
    #[arg(long, value_name = "PATH|PEM", allow_hyphen_values = true)]
    tlscacert: Option<String>,
    /// Client certificate: a path, or the PEM text itself [default: /etc/ssl/docker/cert.pem]
    #[arg(long, value_name = "PATH|PEM", allow_hyphen_values = true)]
    tlscert: Option<String>,
    /// Client key: a path, or the PEM text itself [default: /etc/ssl/docker/key.pem]
    #[arg(long, value_name = "PATH|PEM", allow_hyphen_values = true, hide_env_values = true)]
    tlskey: Option<String>,
}

/// What Docker's own variables say.
#[derive(Clone, Debug, Default)]
pub(crate) struct DockerEnvironment {
    /// `DOCKER_TLS_VERIFY` is set to something.
    tls_verify: bool,
    /// `DOCKER_CERT_PATH`
    cert_path: Option<PathBuf>,
    /// `DOCKER_CONFIG`, else `~/.docker`
    config: Option<PathBuf>,
}

impl DockerEnvironment {
    /// Reads the process's environment.
    pub(crate) fn read() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self {
            tls_verify: path("DOCKER_TLS_VERIFY").is_some(),
            cert_path: path("DOCKER_CERT_PATH"),
            config: path("DOCKER_CONFIG").or_else(|| Some(path("HOME")?.join(".docker"))),
        }
    }
}

impl EngineArgs {
    /// What the engine crate needs, with Docker's own variables for what no flag says.
    pub(crate) fn settings(&self, environment: &DockerEnvironment) -> ConnectSettings {
        let tls = if self.tlsverify || (environment.tls_verify && !self.tls) {
            TlsMode::Verified
        } else if self.tls {
            TlsMode::Unverified
        } else {
            TlsMode::Off
        };
        let directory = environment.cert_path.clone().unwrap_or_else(|| DEFAULT_TLS_DIRECTORY.into());
        let named = environment.cert_path.is_some();
        let pem = |flag: &Option<String>, file: &str, needed: bool| match flag {
            Some(text) if text.contains("-----BEGIN") => Some(PemSource::Text(text.clone())),
            Some(path) => Some(PemSource::Path(path.into())),
            None if tls == TlsMode::Off => None,
            None => Some(directory.join(file)).filter(|p| needed || named || p.exists()).map(PemSource::Path),
        };
        ConnectSettings {
            host: self.host.clone().filter(|h| !h.is_empty()),
            context: self.context.clone().filter(|c| !c.is_empty()),
            docker_config_dir: environment.config.clone(),
            tls,
            ca: pem(&self.tlscacert, "ca.pem", tls == TlsMode::Verified),
            cert: pem(&self.tlscert, "cert.pem", false),
            key: pem(&self.tlskey, "key.pem", false),
        }
    }

    /// Connects to the engine.
    pub(crate) async fn connect(&self) -> Result<Engine> {
        let settings = self.settings(&DockerEnvironment::read());
        if self.tls && self.tlsverify {
            return Err(Usage(
                "--tls and --tlsverify exclude each other: --tlsverify is the safe one".into(),
            )
            .into());
        }
        Engine::connect(&settings).await.map_err(|e| {
            let message = "no connection to the container engine";
            match e {
                container_engine::ConnectError::BadHost { .. } => anyhow::Error::new(e),
                _ => anyhow::Error::new(e).context(Unavailable(message.into())),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        engine: EngineArgs,
    }

    fn settings(words: &[&str], environment: &DockerEnvironment) -> ConnectSettings {
        let words = std::iter::once("x").chain(words.iter().copied());
        Only::try_parse_from(words).unwrap().engine.settings(environment)
    }

    #[test]
    fn a_certificate_may_be_a_path_or_the_text_itself() {
        let given = settings(
            &["--tlsverify", "--tlscacert", "-----BEGIN CERTIFICATE-----\nx", "--tlscert", "/c.pem"],
            &DockerEnvironment::default(),
        );
        assert_eq!(given.tls, TlsMode::Verified);
        assert_eq!(given.ca, Some(PemSource::Text("-----BEGIN CERTIFICATE-----\nx".into())));
        assert_eq!(given.cert, Some(PemSource::Path("/c.pem".into())));
    }

    #[test]
    fn docker_variables_apply_where_no_flag_says_otherwise() {
        let environment = DockerEnvironment {
            tls_verify: true,
            cert_path: Some("/certs".into()),
            config: Some("/cfg".into()),
        };
        let given = settings(&["--tlscert", "/mine.pem"], &environment);
        assert_eq!(given.tls, TlsMode::Verified);
        assert_eq!(given.ca, Some(PemSource::Path("/certs/ca.pem".into())));
        assert_eq!(given.cert, Some(PemSource::Path("/mine.pem".into())));
        assert_eq!(given.key, Some(PemSource::Path("/certs/key.pem".into())));
        assert_eq!(given.docker_config_dir, Some("/cfg".into()));
        assert_eq!(settings(&["--tls"], &environment).tls, TlsMode::Unverified);
    }

    #[test]
    fn without_tls_no_file_is_looked_for() {
        let given = settings(&[], &DockerEnvironment::default());
        assert_eq!((given.tls, given.ca, given.cert, given.key), (TlsMode::Off, None, None, None));
    }
}
