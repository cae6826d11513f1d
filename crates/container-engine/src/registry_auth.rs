//! Registry credentials from Docker's `config.json` and its credential helpers. Secrets travel over pipes and in
//! one header only: never in an argument, an error or a log.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::Engine as _;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::docker_config::{self, ConfigError};

/// Docker's own registry has had a name of its own in the configuration since the first version.
const DOCKER_IO: &str = "https://index.docker.io/v1/";
/// A helper may ask a key ring, never a person.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);
/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// Why credentials cannot be had. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Docker's configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An entry in `auths` is not base64 of `user:password`.
    #[error("`auths` in `{}` holds an entry that is not base64 of user:password", path.display())]
    BadEntry {
        /// The configuration file.
        path: PathBuf,
    },
    /// The helper cannot be started, or breaks off.
    #[error("`docker-credential-{helper}` cannot be used: is it installed and in PATH?")]
    Helper {
        /// Its name.
        helper: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The helper ran, but gave no credentials.
    #[error("`docker-credential-{helper} get` failed: {reason}")]
    HelperFailed {
        /// Its name.
        helper: String,
        /// What is wrong; not its output, which may be the secret.
        reason: String,
    },
}

/// What a registry wants to see.
#[derive(Clone)]
pub(crate) struct Credentials {
    username: String,
    password: SecretString,
    identity_token: Option<SecretString>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Credentials {
    /// The value of `X-Registry-Auth`, marked so that it is not logged.
    pub(crate) fn header(&self, registry: &str) -> HeaderValue {
        #[derive(Serialize)]
        struct Wire<'a> {
            username: &'a str,
            password: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            identitytoken: Option<&'a str>,
            serveraddress: &'a str,
        }
        let wire = Wire {
            username: &self.username,
            password: self.password.expose_secret(),
            identitytoken: self.identity_token.as_ref().map(ExposeSecret::expose_secret),
            serveraddress: server_address(registry),
        };
        let json = serde_json::to_vec(&wire).expect("strings can be written");
        let encoded = base64::engine::general_purpose::URL_SAFE.encode(json);
        let mut value = HeaderValue::from_str(&encoded).expect("base64 is fit for a header");
        value.set_sensitive(true);
        value
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ConfigFile {
    auths: BTreeMap<String, AuthEntry>,
    #[serde(rename = "credsStore")]
    creds_store: Option<String>,
    #[serde(rename = "credHelpers")]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: SecretString,
    username: String,
    password: SecretString,
    identitytoken: Option<SecretString>,
}

/// The credentials for a registry, if Docker's configuration has any.
pub(crate) async fn find(directory: &Path, registry: &str) -> Result<Option<Credentials>, CredentialsError> {
    let path = directory.join("config.json");
    let Some(config) = docker_config::read_json::<ConfigFile>(&path)? else { return Ok(None) };
    let helper =
        config.cred_helpers.get(registry).or_else(|| config.cred_helpers.get(server_address(registry)));
    if let Some(helper) = helper.or(config.creds_store.as_ref()).filter(|helper| !helper.is_empty())
        && let Some(credentials) = ask_helper(helper, registry).await?
    {
        return Ok(Some(credentials));
    }
    let entry = config.auths.into_iter().find(|(key, _)| host_of(key) == host_of(server_address(registry)));
    let Some((_, entry)) = entry else { return Ok(None) };
    entry.into_credentials().ok_or(CredentialsError::BadEntry { path })
}

impl AuthEntry {
    /// `None` when it cannot be read; `Some(None)` when it is there but empty, as after `docker logout`.
    fn into_credentials(self) -> Option<Option<Credentials>> {
        let Self { auth, mut username, mut password, identitytoken } = self;
        if !auth.expose_secret().is_empty() {
            let decoded = base64::engine::general_purpose::STANDARD.decode(auth.expose_secret()).ok()?;
            let decoded = SecretString::from(String::from_utf8(decoded).ok()?);
            let (user, secret) = decoded.expose_secret().split_once(':')?;
            username = user.to_owned();
            // Docker ends short passwords with NUL bytes.
            password = SecretString::from(secret.trim_end_matches('\0'));
        }
        let identity_token = identitytoken.filter(|token| !token.expose_secret().is_empty());
        if username.is_empty() && identity_token.is_none() {
            return Some(None);
        }
        Some(Some(Credentials { username, password, identity_token }))
    }
}

/// Runs `docker-credential-<helper> get`: the registry goes in, the secret comes out, both over pipes.
async fn ask_helper(helper: &str, registry: &str) -> Result<Option<Credentials>, CredentialsError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Username")]
        username: String,
        #[serde(rename = "Secret")]
        secret: SecretString,
    }
    let failed = |reason: &str| CredentialsError::HelperFailed {
        helper: helper.to_owned(),
        reason: reason.to_owned(),
    };
    let unusable = |source| CredentialsError::Helper { helper: helper.to_owned(), source };
    if !helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Err(failed("its name is not that of a program in PATH"));
    }
    let conversation = async {
        let mut child = Command::new(format!("docker-credential-{helper}"))
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(server_address(registry).as_bytes()).await {
                // One that knows what to say need not listen.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                other => other?,
            }
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(HELPER_TIMEOUT, conversation)
        .await
        .map_err(|_| failed("it did not answer in time"))?
        .map_err(unusable)?;
    if !output.status.success() {
        // The one message that all helpers share, and no secret.
        if output.stdout.starts_with(b"credentials not found") {
            return Ok(None);
        }
        return Err(failed(&output.status.to_string()));
    }
    let answer: Answer =
        serde_json::from_slice(&output.stdout).map_err(|_| failed("its answer is not understood"))?;
    Ok(Some(if answer.username == TOKEN_USER {
        Credentials {
            username: String::new(),
            password: SecretString::from(""),
            identity_token: Some(answer.secret),
        }
    } else {
        Credentials { username: answer.username, password: answer.secret, identity_token: None }
    }))
}

fn server_address(registry: &str) -> &str {
    if registry == "docker.io" { DOCKER_IO } else { registry }
}

/// The keys of `auths` were written by many versions of Docker: with or without a scheme, a path, a slash.
fn host_of(key: &str) -> &str {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    bare.split('/').next().unwrap_or(bare)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    async fn found(config: Value, registry: &str) -> Result<Option<Value>, CredentialsError> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
        Ok(find(directory.path(), registry).await?.map(|credentials| sent(&credentials, registry)))
    }

    fn sent(credentials: &Credentials, registry: &str) -> Value {
        let header = credentials.header(registry);
        assert!(header.is_sensitive());
        let json = base64::engine::general_purpose::URL_SAFE.decode(header.as_bytes()).unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    fn encoded(text: &str) -> String {
        base64::engine::general_purpose::STANDARD.encode(text)
    }

    #[tokio::test]
    async fn finds_a_registry_however_it_was_written_down() {
        for key in ["r.example:5000", "https://r.example:5000", "https://r.example:5000/v1/"] {
            let config = json!({ "auths": { key: { "auth": encoded("me:pass:word") } } });
            let credentials = found(config, "r.example:5000").await.unwrap().expect("is there");
            assert_eq!(
                credentials,
                json!({ "username": "me", "password": "pass:word", "serveraddress": "r.example:5000" })
            );
        }
        let config = json!({ "auths": { DOCKER_IO: { "auth": encoded("me:x"), "identitytoken": "t" } } });
        let credentials = found(config.clone(), "docker.io").await.unwrap().expect("is there");
        assert_eq!(credentials["serveraddress"], DOCKER_IO);
        assert_eq!(credentials["identitytoken"], "t");
        assert_eq!(found(config, "r.example").await.unwrap(), None);
        assert_eq!(found(json!({ "auths": { "r.example": {} } }), "r.example").await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_entry_that_cannot_be_read_is_an_error_without_its_content() {
        for auth in ["!!!".to_owned(), encoded("hunter2")] {
            let config = json!({ "auths": { "r.example": { "auth": auth } } });
            let error = found(config, "r.example").await.expect_err("is no entry");
            let shown = format!("{error} {error:?}");
            assert!(
                shown.contains("auths") && !shown.contains("hunter2") && !shown.contains("!!!"),
                "{shown}"
            );
        }
    }

    #[tokio::test]
    async fn a_helper_that_is_no_program_or_not_there_is_an_error() {
        let error = found(json!({ "credsStore": "../../bin/evil" }), "r.example").await.expect_err("no name");
        assert!(error.to_string().contains("its name"), "{error}");
        let error = found(json!({ "credHelpers": { "r.example": "none-such-here" } }), "r.example").await;
        assert!(matches!(error, Err(CredentialsError::Helper { .. })), "{error:?}");
    }
}
