//! Engine addresses: `unix:///path`, `tcp://host:port`, `http(s)://host:port/prefix`. Pure.

use std::path::PathBuf;

use url::Url;

use crate::{ConnectError, TlsMode};

/// An address that can be gone to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Unix(PathBuf),
    Tcp {
        /// `http://host:port/prefix` or `https://…`, without a slash at the end.
        base: String,
        tls: TlsMode,
    },
}

const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

impl Endpoint {
    /// Understands an address as the Docker client does. `tls` is what the settings ask for.
    pub(crate) fn parse(host: &str, tls: TlsMode) -> Result<Self, ConnectError> {
        let bad = || ConnectError::BadHost { host: host.to_owned() };
        let unsupported = |way_out| Err(ConnectError::UnsupportedScheme { host: host.to_owned(), way_out });
        let (scheme, rest) = match host.split_once("://") {
            Some(parts) => parts,
            // Docker takes `host:port` without a scheme.
            None if host.contains(':') && !host.contains('/') => ("tcp", host),
            None => return Err(bad()),
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "tcp" if tls == TlsMode::Off => tcp("http", rest, PLAIN_PORT, tls).ok_or_else(bad),
            "tcp" => tcp("https", rest, TLS_PORT, tls).ok_or_else(bad),
            "https" => {
                let tls = if tls == TlsMode::Off { TlsMode::Verified } else { tls };
                tcp("https", rest, TLS_PORT, tls).ok_or_else(bad)
            }
            "http" if tls == TlsMode::Off => tcp("http", rest, PLAIN_PORT, tls).ok_or_else(bad),
            "http" => unsupported("it is plain, but TLS is asked for: write tcp:// or https://"),
            "ssh" => unsupported(
                "ssh is not spoken here: forward the socket with \
                 `ssh -nNL /tmp/engine.sock:/var/run/docker.sock HOST` and use unix:///tmp/engine.sock",
            ),
            "npipe" => unsupported("named pipes exist on Windows only: use tcp:// with TLS"),
            "fd" => unsupported("file descriptors are for the engine itself: use its unix:// socket"),
            _ => Err(bad()),
        }
    }
}

fn tcp(scheme: &str, rest: &str, default_port: u16, tls: TlsMode) -> Option<Endpoint> {
    // Only with a scheme that has no default port of its own does `url` tell `:80` from nothing.
    let url = Url::parse(&format!("engine://{rest}")).ok()?;
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let plain = url.username().is_empty() && url.password().is_none();
    if !plain || url.query().is_some() || url.fragment().is_some() {
        return None;
    }
    let port = url.port().unwrap_or(default_port);
    let prefix = url.path().trim_end_matches('/');
    Some(Endpoint::Tcp { base: format!("{scheme}://{host}:{port}{prefix}"), tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(host: &str, tls: TlsMode) -> String {
        match Endpoint::parse(host, tls) {
            Ok(Endpoint::Tcp { base, tls }) => format!("{base} {tls:?}"),
            other => panic!("{host}: {other:?}"),
        }
    }

    #[test]
    fn understands_addresses_as_the_docker_client_does() {
        assert_eq!(
            Endpoint::parse("unix:///run/user/1000/docker.sock", TlsMode::Off).unwrap(),
            Endpoint::Unix("/run/user/1000/docker.sock".into())
        );
        assert_eq!(base("tcp://10.0.0.7:2375", TlsMode::Off), "http://10.0.0.7:2375 Off");
        assert_eq!(base("tcp://engine.example", TlsMode::Off), "http://engine.example:2375 Off");
        assert_eq!(base("tcp://engine.example", TlsMode::Verified), "https://engine.example:2376 Verified");
        assert_eq!(
            base("tcp://engine.example", TlsMode::Unverified),
            "https://engine.example:2376 Unverified"
        );
        assert_eq!(base("tcp://[::1]:4243/", TlsMode::Off), "http://[::1]:4243 Off");
        assert_eq!(base("engine.example:80", TlsMode::Off), "http://engine.example:80 Off");
        assert_eq!(
            base("http://proxy.example:80/docker/", TlsMode::Off),
            "http://proxy.example:80/docker Off"
        );
        assert_eq!(base("https://engine.example", TlsMode::Off), "https://engine.example:2376 Verified");
        assert_eq!(
            base("https://engine.example", TlsMode::Unverified),
            "https://engine.example:2376 Unverified"
        );
    }

    #[test]
    fn says_what_to_write_instead() {
        let message = |host, tls| Endpoint::parse(host, tls).expect_err("not usable").to_string();
        for host in
            ["", "docker", "unix://relative.sock", "tcp://", "tcp://:2375", "ftp://x:1", "tcp://a:b@c:1"]
        {
            assert!(message(host, TlsMode::Off).contains("write unix:///path"), "{host}");
        }
        assert!(message("ssh://me@there", TlsMode::Off).contains("ssh -nNL"));
        assert!(message("npipe:////./pipe/docker_engine", TlsMode::Off).contains("Windows"));
        assert!(message("http://there:2375", TlsMode::Verified).contains("plain"));
    }
}
