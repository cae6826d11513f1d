//! How to reach an engine: address, context, TLS, API version. Never reads the environment.

use std::{fmt, io, path::PathBuf};

use crate::{
    api::Api,
    docker_config::{self, ConfigError},
    endpoint::Endpoint,
    error::EngineError,
    tls,
    transport::Transport,
    version::{self, NegotiationError, Offer},
};

/// Where TLS material comes from: a file, or the PEM text itself.
#[derive(Clone, PartialEq, Eq)]
pub enum PemSource {
    /// A path to a `.pem` file.
    Path(PathBuf),
    /// The PEM text (keys are never printed).
    Text(String),
}

impl PemSource {
    /// A setting that is either a path or the PEM text itself, told apart by PEM's own first line.
    pub fn from_setting(setting: &str) -> Self {
        if setting.contains("-----BEGIN ") {
            Self::Text(setting.to_owned())
        } else {
            Self::Path(setting.into())
        }
    }
}

impl fmt::Debug for PemSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Text(_) => f.write_str("Text(..)"),
        }
    }
}

/// Whether and how TLS is used towards a TCP engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Plain.
    #[default]
    Off,
    /// Encrypted; the server's certificate is not verified (`--tls`).
    Unverified,
    /// Encrypted and verified (`--tlsverify`).
    Verified,
}

/// All that a connection needs. `Default` means: current context of `docker_config_dir`, else the local socket.
#[derive(Clone, Debug, Default)]
pub struct ConnectSettings {
    /// `unix:///path`, `tcp://host:port`, `http://…`, `https://…`; wins over a context.
    pub host: Option<String>,
    /// A Docker context by name.
    pub context: Option<String>,
    /// Docker's configuration directory (`~/.docker`), for contexts and for registry credentials.
    pub docker_config_dir: Option<PathBuf>,
    /// TLS mode for `tcp://`.
    pub tls: TlsMode,
    /// CA certificates; without them, a verified connection trusts the machine's own.
    pub ca: Option<PemSource>,
    /// Client certificate.
    pub cert: Option<PemSource>,
    /// Client key.
    pub key: Option<PemSource>,
}

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address has no form that is understood.
    #[error("`{host}` is not an engine address: write unix:///path/to/socket or tcp://host:port")]
    BadHost {
        /// What was given.
        host: String,
    },
    /// The address is understood, but there is no way to go there.
    #[error("`{host}` cannot be used: {way_out}")]
    UnsupportedScheme {
        /// What was given.
        host: String,
        /// What to do instead.
        way_out: &'static str,
    },
    /// Docker's own configuration cannot be used.
    #[error("Docker's configuration cannot be used")]
    Config(#[from] ConfigError),
    /// A TLS file cannot be read.
    #[error("cannot read the {what} `{}`", path.display())]
    ReadPem {
        /// `CA certificate`, `client certificate`, `client key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// TLS material is there but of no use.
    #[error("the {what} cannot be used: {reason}")]
    BadPem {
        /// `CA certificate`, `client certificate`, `client key`.
        what: &'static str,
        /// Why; never holds the material itself.
        reason: String,
    },
    /// Nobody answers, or no secure connection comes about.
    #[error("the engine at `{host}` cannot be reached")]
    Unreachable {
        /// The address.
        host: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody answers, but not as a Docker Engine does.
    #[error("what answers at `{host}` is no Docker Engine, or wants TLS: it said {said}")]
    NoEngine {
        /// The address.
        host: String,
        /// Its words.
        said: String,
    },
    /// The engine and this crate have no API version in common.
    #[error("the engine at `{host}` cannot be used")]
    NoCommonVersion {
        /// The address.
        host: String,
        /// What each side speaks.
        #[source]
        source: NegotiationError,
    },
}

/// Finds the engine that the settings mean and agrees with it on a version.
pub(crate) async fn connect(settings: &ConnectSettings) -> Result<Api, ConnectError> {
    let found = docker_config::find_endpoint(settings)?;
    let endpoint = Endpoint::parse(&found.host, found.tls.mode)?;
    let api = match &endpoint {
        Endpoint::Unix(socket) => Api::new(Transport::unix(socket), "http://localhost".to_owned()),
        Endpoint::Tcp { base, tls } => {
            // The address may ask for TLS by itself (`https://`).
            let client = tls::client_config(*tls, &found.tls)?;
            Api::new(Transport::tcp(client), base.clone())
        }
    };
    agree(&api, &found.host).await?;
    Ok(api)
}

async fn agree(api: &Api, host: &str) -> Result<(), ConnectError> {
    let host = || host.to_owned();
    let no_engine = |said: String| ConnectError::NoEngine { host: host(), said };
    match renegotiate(api).await {
        Ok(()) => Ok(()),
        Err(EngineError::Unreachable { source, .. }) => {
            Err(ConnectError::Unreachable { host: host(), source })
        }
        Err(EngineError::Refused { status, message, .. }) => Err(no_engine(format!("{status} {message}"))),
        Err(EngineError::Garbled { source, .. }) => match source.downcast::<NegotiationError>() {
            Ok(source) => Err(ConnectError::NoCommonVersion { host: host(), source: *source }),
            Err(source) => Err(no_engine(source.to_string())),
        },
        Err(other) => Err(no_engine(other.to_string())),
    }
}

/// Asks the engine for its versions and speaks the best one from now on.
pub(crate) async fn renegotiate(api: &Api) -> Result<(), EngineError> {
    const DEED: &str = "tell its version";
    let offer: Offer = api.get_unversioned(&["version"]).to(DEED, "engine", "").json().await?;
    let version = version::negotiate(&offer)
        .map_err(|source| EngineError::Garbled { action: DEED.to_owned(), source: source.into() })?;
    api.set_version(version);
    Ok(())
}
