//! The one HTTP client of the process: rustls with ring, the system's certificates, plus a CA of the user's.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use reqwest::redirect::Policy;

use crate::exit::Usage;

/// Builds the client. `ca` adds certificates to those of the system.
pub(crate) fn build(ca: Option<&Path>) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("tugyard/", env!("CARGO_PKG_VERSION")))
        // A redirect would turn an upload into a download, or carry the key elsewhere: the user is told the address.
        .redirect(Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .tcp_keepalive(Duration::from_secs(30));
    if let Some(path) = ca {
        let usage = |what: &str| Usage(format!("{what} `{}`", path.display()));
        let pem = std::fs::read(path).with_context(|| usage("cannot read the CA certificates"))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .with_context(|| usage("there are no PEM certificates in"))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().context("cannot set up the HTTP client")
}
