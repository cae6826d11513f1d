//! How to reach an engine: address, context, TLS. Resolves settings to a connection; never reads the environment.

use std::path::PathBuf;

/// Where TLS material comes from: a file, or the PEM text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PemSource {
    /// A path to a `.pem` file.
    Path(PathBuf),
    /// The PEM text (keys are never printed).
    Text(String),
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
    /// `unix:///path`, `tcp://host:port`; wins over a context.
    pub host: Option<String>,
    /// A Docker context by name.
    pub context: Option<String>,
    /// Docker's configuration directory (`~/.docker`), for contexts.
    pub docker_config_dir: Option<PathBuf>,
    /// TLS mode for `tcp://`.
    pub tls: TlsMode,
    /// CA certificates.
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
}
