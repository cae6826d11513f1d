//! TLS towards a real engine that wants client certificates.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use container_engine::{ConnectError, ConnectSettings, Engine, PemSource, TlsMode};
use tempfile::TempDir;
use tokio::{
    io::copy,
    net::{TcpListener, TcpStream},
};

/// A CA with a server's and a client's certificate, made by openssl.
struct Certificates {
    directory: TempDir,
}

impl Certificates {
    fn new(common_name: &str) -> Self {
        let certificates = Self { directory: tempfile::tempdir().unwrap() };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"];
        let subject = format!("/CN={common_name}");
        certificates.openssl(
            &[&["req", "-x509", "-subj", &subject, "-keyout", "ca-key.pem", "-out", "ca.pem"][..], &key]
                .concat(),
        );
        certificates.issue("server", "subjectAltName=IP:127.0.0.1", &key);
        certificates.issue("client", "extendedKeyUsage=clientAuth", &key);
        certificates
    }

    fn issue(&self, name: &str, extension: &str, key: &[&str]) {
        let (file, key_file) = (format!("{name}.pem"), format!("{name}-key.pem"));
        let subject = format!("/CN={name}");
        let issuer = ["-CA", "ca.pem", "-CAkey", "ca-key.pem", "-addext", extension];
        let request = ["req", "-x509", "-subj", &subject, "-keyout", &key_file, "-out", &file];
        self.openssl(
            &[&request[..], &issuer, &["-addext", "basicConstraints=critical,CA:FALSE"], key].concat(),
        );
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        let output = command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null()).output();
        let output = output.expect("openssl is installed: run `cargo xtask setup`");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

/// A private engine that wants TLS on a port of its own network namespace, and a way in from outside: for each
/// connection a process in there that passes the bytes on. What it cannot do is look into them.
struct TlsEngine {
    _docker: testkit::Engine,
    address: SocketAddr,
}

impl TlsEngine {
    async fn start(certificates: &Certificates) -> Self {
        let path = |name| certificates.path(name).display().to_string();
        let docker = testkit::Engine::private_with(&[
            "--host",
            "tcp://127.0.0.1:2376",
            "--tlsverify",
            "--tlscacert",
            &path("ca.pem"),
            "--tlscert",
            &path("server.pem"),
            "--tlskey",
            &path("server-key.pem"),
        ]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pid = docker.pid().to_string();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, pid.clone()));
            }
        });
        Self { _docker: docker, address }
    }
}

async fn pass_on(mut client: TcpStream, pid: String) -> std::io::Result<()> {
    let mut inside = tokio::process::Command::new("nsenter")
        .args(["--net", "--target", &pid, "busybox", "nc", "127.0.0.1", "2376"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (mut to, mut from) = (inside.stdin.take().unwrap(), inside.stdout.take().unwrap());
    let (mut read, mut write) = client.split();
    tokio::select! {
        _ = copy(&mut read, &mut to) => {}
        _ = copy(&mut from, &mut write) => {}
    }
    inside.kill().await
}

fn settings(
    address: SocketAddr,
    tls: TlsMode,
    ca: Option<&Path>,
    client: Option<(&Path, &Path)>,
) -> ConnectSettings {
    let source = |path: &Path| PemSource::Path(path.to_owned());
    ConnectSettings {
        host: Some(format!("tcp://{address}")),
        tls,
        ca: ca.map(source),
        cert: client.map(|(cert, _)| source(cert)),
        key: client.map(|(_, key)| source(key)),
        ..Default::default()
    }
}

/// The whole chain of an error, for a look at its causes.
fn chain(error: &ConnectError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn all_modes_against_a_real_engine() {
    let (ours, theirs) = (Certificates::new("our CA"), Certificates::new("their CA"));
    let engine = TlsEngine::start(&ours).await;
    let (ca, cert, key) = (ours.path("ca.pem"), ours.path("client.pem"), ours.path("client-key.pem"));
    let me = Some((cert.as_path(), key.as_path()));

    // Verified, from files and from text.
    let verified = settings(engine.address, TlsMode::Verified, Some(&ca), me);
    let info =
        Engine::connect(&verified).await.unwrap_or_else(|e| panic!("{}", chain(&e))).info().await.unwrap();
    assert_eq!(info.server_version.split('.').count(), 3);
    let text = |name| Some(PemSource::from_setting(&ours.text(name)));
    let by_text = ConnectSettings {
        ca: text("ca.pem"),
        cert: text("client.pem"),
        key: text("client-key.pem"),
        ..verified.clone()
    };
    Engine::connect(&by_text).await.unwrap().info().await.unwrap();
    let https = ConnectSettings {
        host: Some(format!("https://{}", engine.address)),
        tls: TlsMode::Off,
        ..verified.clone()
    };
    Engine::connect(&https).await.unwrap();

    // Not verified: any CA will do, but the engine still wants to know who comes.
    Engine::connect(&settings(engine.address, TlsMode::Unverified, None, me)).await.unwrap();
    let wrong_ca = theirs.path("ca.pem");
    Engine::connect(&settings(engine.address, TlsMode::Unverified, Some(&wrong_ca), me)).await.unwrap();

    let refused = |settings: ConnectSettings| async move {
        let error = Engine::connect(&settings).await.expect_err("no way in");
        assert!(error.to_string().contains(&engine.address.to_string()), "{error}");
        chain(&error)
    };
    let words = refused(settings(engine.address, TlsMode::Verified, Some(&wrong_ca), me)).await;
    assert!(words.contains("UnknownIssuer") || words.contains("BadSignature"), "wrong CA: {words}");
    let words = refused(settings(engine.address, TlsMode::Verified, Some(&ca), None)).await;
    assert!(
        words.contains("CertificateRequired") || words.contains("BadCertificate"),
        "no certificate: {words}"
    );
    let (cert, key) = (theirs.path("client.pem"), theirs.path("client-key.pem"));
    let words = refused(settings(engine.address, TlsMode::Verified, Some(&ca), Some((&cert, &key)))).await;
    assert!(words.contains("alert") || words.contains("ertificate"), "a stranger's certificate: {words}");
    let words = refused(settings(engine.address, TlsMode::Off, None, None)).await;
    assert!(words.contains("HTTPS"), "plain: {words}");
    let localhost =
        ConnectSettings { host: Some(format!("tcp://localhost:{}", engine.address.port())), ..verified };
    let error = Engine::connect(&localhost).await.expect_err("the certificate is for 127.0.0.1");
    assert!(chain(&error).contains("localhost"), "another name: {}", chain(&error));
}

#[tokio::test]
async fn the_docker_clients_own_context_with_tls_files_is_used() {
    let ours = Certificates::new("our CA");
    let engine = TlsEngine::start(&ours).await;
    let directory = tempfile::tempdir().unwrap();
    let path = |name| ours.path(name).display().to_string();
    let endpoint = format!(
        "host=tcp://{},ca={},cert={},key={}",
        engine.address,
        path("ca.pem"),
        path("client.pem"),
        path("client-key.pem")
    );
    let config = directory.path().display().to_string();
    let made = Command::new("docker")
        .args(["--config", &config, "context", "create", "far", "--docker", &endpoint])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let settings = ConnectSettings {
        context: Some("far".into()),
        docker_config_dir: Some(directory.path().to_owned()),
        ..Default::default()
    };
    Engine::connect(&settings).await.unwrap_or_else(|e| panic!("{}", chain(&e))).info().await.unwrap();
}
