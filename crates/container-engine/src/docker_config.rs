//! Docker's own configuration directory: the current context, contexts and their TLS files. Only reads.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{ConnectSettings, PemSource, TlsMode};

const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// The name by which Docker means "no context".
const DEFAULT_CONTEXT: &str = "default";

/// Why Docker's configuration is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No such context, or nowhere to look for one.
    #[error("there is no Docker context `{name}`: see `docker context ls`")]
    NoContext {
        /// Its name.
        name: String,
    },
    /// The context is for something else, e.g. only for Kubernetes.
    #[error("the Docker context `{name}` names no Docker Engine")]
    NoEndpoint {
        /// Its name.
        name: String,
    },
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what Docker writes.
    #[error("`{}` is not understood", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why; says where, not what, for the file may hold credentials.
        #[source]
        source: NotUnderstood,
    },
}

/// Where a JSON document stops being what is expected.
#[derive(Debug, thiserror::Error)]
#[error("line {line}, column {column}")]
pub struct NotUnderstood {
    line: usize,
    column: usize,
}

/// An address and how to secure the way there.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) host: String,
    pub(crate) tls: TlsSettings,
}

/// The TLS part of the settings, or of a context.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsSettings {
    pub(crate) mode: TlsMode,
    pub(crate) ca: Option<PemSource>,
    pub(crate) cert: Option<PemSource>,
    pub(crate) key: Option<PemSource>,
}

/// An explicit host wins over a context, a context by name over the current one, all over the local socket.
pub(crate) fn find_endpoint(settings: &ConnectSettings) -> Result<Found, ConfigError> {
    let explicit_tls = TlsSettings {
        mode: settings.tls,
        ca: settings.ca.clone(),
        cert: settings.cert.clone(),
        key: settings.key.clone(),
    };
    if let Some(host) = &settings.host {
        return Ok(Found { host: host.clone(), tls: explicit_tls });
    }
    let directory = settings.docker_config_dir.as_deref();
    let context = match (&settings.context, directory) {
        (Some(name), _) => Some(name.clone()),
        (None, Some(directory)) => current_context(directory)?,
        (None, None) => None,
    };
    let Some(name) = context.filter(|name| name != DEFAULT_CONTEXT && !name.is_empty()) else {
        return Ok(Found { host: DEFAULT_HOST.to_owned(), tls: explicit_tls });
    };
    let no_context = || ConfigError::NoContext { name: name.clone() };
    let mut found = read_context(directory.ok_or_else(no_context)?, &name)?;
    if explicit_tls.mode != TlsMode::Off {
        found.tls = explicit_tls;
    }
    Ok(found)
}

fn current_context(directory: &Path) -> Result<Option<String>, ConfigError> {
    #[derive(Default, Deserialize)]
    struct Wire {
        #[serde(rename = "currentContext", default)]
        current_context: Option<String>,
    }
    let wire: Option<Wire> = read_json(&directory.join("config.json"))?;
    Ok(wire.unwrap_or_default().current_context)
}

fn read_context(directory: &Path, name: &str) -> Result<Found, ConfigError> {
    #[derive(Deserialize)]
    struct Meta {
        #[serde(rename = "Endpoints", default)]
        endpoints: Endpoints,
    }
    #[derive(Default, Deserialize)]
    struct Endpoints {
        docker: Option<DockerEndpoint>,
    }
    #[derive(Deserialize)]
    struct DockerEndpoint {
        #[serde(rename = "Host", default)]
        host: String,
        #[serde(rename = "SkipTLSVerify", default)]
        skip_tls_verify: bool,
    }
    // Docker names a context's directories by the digest of its name.
    let digest = hex::encode(Sha256::digest(name));
    let meta: Option<Meta> = read_json(&directory.join("contexts/meta").join(&digest).join("meta.json"))?;
    let meta = meta.ok_or_else(|| ConfigError::NoContext { name: name.to_owned() })?;
    let endpoint = meta
        .endpoints
        .docker
        .filter(|endpoint| !endpoint.host.is_empty())
        .ok_or_else(|| ConfigError::NoEndpoint { name: name.to_owned() })?;
    let files = directory.join("contexts/tls").join(&digest).join("docker");
    let file = |name: &str| Some(files.join(name)).filter(|path| path.is_file()).map(PemSource::Path);
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let has_files = ca.is_some() || cert.is_some() || key.is_some();
    let mode = match (endpoint.skip_tls_verify, has_files) {
        (true, _) => TlsMode::Unverified,
        (false, true) => TlsMode::Verified,
        (false, false) => TlsMode::Off,
    };
    Ok(Found { host: endpoint.host, tls: TlsSettings { mode, ca, cert, key } })
}

/// Reads a JSON file; one that is not there is `None`.
pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, ConfigError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| ConfigError::Parse {
        path: path.to_owned(),
        source: NotUnderstood { line: error.line(), column: error.column() },
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A configuration directory with a context `far`, laid out as `docker context create` does.
    fn directory(current: Option<&str>, meta: &str, files: &[&str]) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        let digest = hex::encode(Sha256::digest("far"));
        let meta_dir = directory.path().join("contexts/meta").join(&digest);
        fs::create_dir_all(&meta_dir).unwrap();
        fs::write(meta_dir.join("meta.json"), meta).unwrap();
        let tls_dir = directory.path().join("contexts/tls").join(&digest).join("docker");
        fs::create_dir_all(&tls_dir).unwrap();
        for file in files {
            fs::write(tls_dir.join(file), "pem").unwrap();
        }
        if let Some(current) = current {
            let config = serde_json::json!({ "auths": {}, "currentContext": current });
            fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
        }
        directory
    }

    fn settings(directory: &TempDir) -> ConnectSettings {
        ConnectSettings { docker_config_dir: Some(directory.path().to_owned()), ..Default::default() }
    }

    const FAR: &str = r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://far:2376"}}}"#;

    #[test]
    fn without_anything_the_local_socket_is_meant() {
        assert_eq!(find_endpoint(&ConnectSettings::default()).unwrap().host, DEFAULT_HOST);
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(find_endpoint(&settings(&empty)).unwrap().host, DEFAULT_HOST);
        let by_name = directory(Some("default"), FAR, &[]);
        assert_eq!(find_endpoint(&settings(&by_name)).unwrap().host, DEFAULT_HOST);
    }

    #[test]
    fn a_host_wins_over_a_context_and_a_named_context_over_the_current_one() {
        let directory = directory(Some("far"), FAR, &[]);
        let mut settings = settings(&directory);
        assert_eq!(find_endpoint(&settings).unwrap().host, "tcp://far:2376");
        settings.context = Some("default".into());
        assert_eq!(find_endpoint(&settings).unwrap().host, DEFAULT_HOST);
        settings.context = Some("far".into());
        settings.host = Some("unix:///x".into());
        assert_eq!(find_endpoint(&settings).unwrap().host, "unix:///x");
    }

    #[test]
    fn a_contexts_tls_files_make_it_verified_unless_it_says_otherwise() {
        let mode = |meta: &str, files: &[&str]| {
            let directory = directory(Some("far"), meta, files);
            let tls = find_endpoint(&settings(&directory)).unwrap().tls;
            (tls.mode, tls.ca.is_some(), tls.cert.is_some() && tls.key.is_some())
        };
        assert_eq!(mode(FAR, &[]), (TlsMode::Off, false, false));
        assert_eq!(mode(FAR, &["ca.pem"]), (TlsMode::Verified, true, false));
        assert_eq!(mode(FAR, &["ca.pem", "cert.pem", "key.pem"]), (TlsMode::Verified, true, true));
        let skip = r#"{"Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":true}}}"#;
        assert_eq!(mode(skip, &[]), (TlsMode::Unverified, false, false));
    }

    #[test]
    fn what_is_wrong_with_a_context_is_said() {
        let message = |directory: &TempDir, context: &str| {
            let settings = ConnectSettings { context: Some(context.into()), ..settings(directory) };
            find_endpoint(&settings).expect_err("no usable context").to_string()
        };
        let kubernetes = directory(None, r#"{"Endpoints":{"kubernetes":{}}}"#, &[]);
        assert_eq!(message(&kubernetes, "far"), "the Docker context `far` names no Docker Engine");
        assert_eq!(
            message(&kubernetes, "other"),
            "there is no Docker context `other`: see `docker context ls`"
        );
        let broken = directory(None, "{", &[]);
        assert!(message(&broken, "far").ends_with("meta.json` is not understood"));
        let nowhere = ConnectSettings { context: Some("far".into()), ..Default::default() };
        assert!(find_endpoint(&nowhere).is_err());
    }
}
