//! TLS towards a TCP engine: rustls on ring, with the caller's CA and client certificate. Opens no connection.

use std::{fs, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

use crate::{ConnectError, PemSource, TlsMode, docker_config::TlsSettings};

const CA: &str = "CA certificate";
const CERT: &str = "client certificate";
const KEY: &str = "client key";

/// Builds the client's side of TLS. With [`TlsMode::Off`] nothing is read; the result is never used for `http`.
pub(crate) fn client_config(mode: TlsMode, settings: &TlsSettings) -> Result<ClientConfig, ConnectError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions of TLS");
    let builder = match mode {
        TlsMode::Off => {
            return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
        }
        TlsMode::Unverified => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer { provider }))
        }
        TlsMode::Verified => builder.with_root_certificates(roots(settings.ca.as_ref())?),
    };
    let (cert, key) = match (&settings.cert, &settings.key) {
        (None, None) => return Ok(builder.with_no_client_auth()),
        (Some(cert), Some(key)) => (cert, key),
        (Some(_), None) => return Err(bad(KEY, "there is a client certificate, but no key")),
        (None, Some(_)) => return Err(bad(CERT, "there is a client key, but no certificate")),
    };
    let chain = certificates(CERT, cert)?;
    let key = PrivateKeyDer::from_pem_slice(&read(KEY, key)?)
        .map_err(|_| bad(KEY, "it is not an unencrypted private key in PEM form"))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| bad(KEY, &error.to_string()))
}

fn roots(ca: Option<&PemSource>) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(ca) => {
            for certificate in certificates(CA, ca)? {
                roots.add(certificate).map_err(|error| bad(CA, &error.to_string()))?;
            }
        }
        None => {
            // Some of a machine's certificates are always odd; only none at all is a reason to give up.
            let native = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(native.certs);
            if roots.is_empty() {
                return Err(bad(CA, "none is given, and this machine has none of its own"));
            }
        }
    }
    Ok(roots)
}

fn certificates(
    what: &'static str,
    source: &PemSource,
) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let pem = read(what, source)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(bad(what, "it holds no certificate in PEM form")),
    }
}

fn read(what: &'static str, source: &PemSource) -> Result<Vec<u8>, ConnectError> {
    match source {
        PemSource::Text(text) => Ok(text.clone().into_bytes()),
        PemSource::Path(path) => {
            fs::read(path).map_err(|source| ConnectError::ReadPem { what, path: path.clone(), source })
        }
    }
}

fn bad(what: &'static str, reason: &str) -> ConnectError {
    ConnectError::BadPem { what, reason: reason.to_owned() }
}

/// Takes any server for the right one, as `--tls` without `--tlsverify` asks. Only that the server holds the key
/// to whatever certificate it shows is still checked.
#[derive(Debug)]
struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(settings: TlsSettings) -> String {
        client_config(TlsMode::Verified, &settings).expect_err("no usable material").to_string()
    }

    #[test]
    fn says_which_material_is_of_no_use() {
        let text = |text: &str| Some(PemSource::from_setting(text));
        let ca = |ca: &str| TlsSettings { ca: text(ca), ..Default::default() };
        assert_eq!(message(ca("/no/such/ca.pem")), "cannot read the CA certificate `/no/such/ca.pem`");
        assert_eq!(
            message(ca("-----BEGIN CERTIFICATE-----\nnonsense")),
            "the CA certificate cannot be used: it holds no certificate in PEM form"
        );
        let only_key = TlsSettings { key: text("/no/such/key.pem"), ..Default::default() };
        assert!(client_config(TlsMode::Unverified, &only_key).is_err());
    }

    #[test]
    fn a_key_is_never_printed() {
        let key = PemSource::from_setting("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----");
        assert_eq!(format!("{key:?}"), "Text(..)");
    }
}
