//! Pulls from a real registry on loopback, with and without credentials.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use container_engine::{ConnectSettings, CredentialsError, Engine, EngineError, PullProgress};
use futures_util::StreamExt;
use serde_json::json;
use tempfile::TempDir;

const PASSWORD: &str = "s3cret";
/// User `me` with that password, as `htpasswd -B` writes it.
const HTPASSWD: &str = "me:$2b$04$YEt9StBTG8hdtBlstrCWa.iA6L1b1pQj1z5dcqjonugbDdbk3UfAy\n";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Anybody,
    OnlyMe,
}

/// Debian's `docker-registry` on a free loopback port.
struct Registry {
    process: Child,
    address: String,
    _home: TempDir,
}

impl Registry {
    fn start(access: Access) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut config = json!({
            "version": 0.1,
            "log": { "level": "info", "formatter": "json", "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": home.path().join("data") } },
            "http": { "addr": "127.0.0.1:0" },
        });
        if access == Access::OnlyMe {
            let file = home.path().join("htpasswd");
            fs::write(&file, HTPASSWD).unwrap();
            config["auth"] = json!({ "htpasswd": { "realm": "test", "path": file } });
        }
        let path = home.path().join("config.yml");
        fs::write(&path, config.to_string()).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is installed: run `cargo xtask setup`");
        // It says on which port it came to listen.
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = lines
            .find_map(|line| Some(line.split_once("listening on ")?.1.split('"').next()?.to_owned()))
            .expect("the registry says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address, _home: home }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An image in the registry that the engine has no longer.
fn push(docker: &testkit::Engine, registry: &Registry, config: &Path) -> String {
    let reference = format!("{}/{}:1", registry.address, testkit::unique("pulled"));
    docker.import(&reference, &testkit::engine::busybox_layer(), &["LABEL a=b"]);
    let config = config.display().to_string();
    docker.docker(&["--config", &config, "push", &reference]);
    docker.docker(&["image", "rm", &reference]);
    reference
}

/// A configuration directory with this `config.json`.
fn config(content: &serde_json::Value) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.json"), content.to_string()).unwrap();
    directory
}

fn login(registry: &Registry, password: &str) -> TempDir {
    use base64::Engine as _;

    let auth = base64::engine::general_purpose::STANDARD.encode(format!("me:{password}"));
    config(&json!({ "auths": { &registry.address: { "auth": auth } } }))
}

async fn connect(docker: &testkit::Engine, config: &Path) -> Engine {
    let host = Some(docker.host());
    let settings = ConnectSettings { host, docker_config_dir: Some(config.to_owned()), ..Default::default() };
    Engine::connect(&settings).await.unwrap()
}

async fn pull(engine: &Engine, reference: &str) -> Result<Vec<PullProgress>, EngineError> {
    let mut steps = Vec::new();
    let mut stream = engine.pull(reference);
    while let Some(step) = stream.next().await {
        match step {
            Ok(step) => steps.push(step),
            Err(error) => {
                assert!(stream.next().await.is_none(), "an error ends the pull");
                return Err(error);
            }
        }
    }
    Ok(steps)
}

#[tokio::test]
async fn pulls_with_progress() {
    let docker = testkit::Engine::shared();
    let registry = Registry::start(Access::Anybody);
    let nobody = config(&json!({}));
    let reference = push(&docker, &registry, nobody.path());
    let engine = connect(&docker, nobody.path()).await;
    let steps = pull(&engine, &reference).await.unwrap();
    assert!(steps.iter().any(|step| step.layer.is_some()), "{steps:?}");
    assert!(steps.last().unwrap().status.starts_with("Status: Downloaded newer image"), "{steps:?}");
    assert_eq!(engine.image(&reference).await.unwrap().labels["a"], "b");
    let again = pull(&engine, &reference).await.unwrap();
    assert!(again.last().unwrap().status.starts_with("Status: Image is up to date"), "{again:?}");
    engine.remove_image(&reference, false).await.unwrap();
}

#[tokio::test]
async fn what_the_registry_has_not_is_an_error() {
    let docker = testkit::Engine::shared();
    let registry = Registry::start(Access::Anybody);
    let nobody = config(&json!({}));
    let engine = connect(&docker, nobody.path()).await;
    let reference = format!("{}/no-such-thing:1", registry.address);
    let error = pull(&engine, &reference).await.expect_err("not there");
    assert!(
        matches!(&error, EngineError::NotFound { kind: "image", name } if *name == reference),
        "{error:?}"
    );
}

#[tokio::test]
async fn credentials_of_the_docker_configuration_open_a_closed_registry() {
    let docker = testkit::Engine::shared();
    let registry = Registry::start(Access::OnlyMe);
    let mine = login(&registry, PASSWORD);
    let reference = push(&docker, &registry, mine.path());
    let engine = connect(&docker, mine.path()).await;
    pull(&engine, &reference).await.unwrap();
    engine.remove_image(&reference, false).await.unwrap();

    let (wrong, none) = (login(&registry, "h4cker"), config(&json!({})));
    for directory in [&wrong, &none] {
        let engine = connect(&docker, directory.path()).await;
        let error = pull(&engine, &reference).await.expect_err("no way in");
        assert!(matches!(&error, EngineError::Refused { .. } | EngineError::NotFound { .. }), "{error:?}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("h4cker") && shown.contains(&registry.address), "{shown}");
    }
}

/// The helper is found by PATH, which belongs to the whole process: so the test runs itself again with another one.
#[tokio::test]
async fn a_credential_helper_is_asked_over_pipes() {
    const CHILD: &str = "CONTAINER_ENGINE_TEST_HELPER_CHILD";
    if let Ok(reference) = std::env::var(CHILD) {
        return pull_by_helper(&reference).await;
    }
    let docker = testkit::Engine::shared();
    let registry = Registry::start(Access::OnlyMe);
    let reference = push(&docker, &registry, login(&registry, PASSWORD).path());
    let bin = tempfile::tempdir().unwrap();
    let helper = bin.path().join("docker-credential-fake");
    let script = format!(
        "#!/bin/sh\nread -r server || true\n[ \"$1 $server\" = 'get {}' ] || {{ echo credentials not found in native keychain; exit 1; }}\n\
         echo '{{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"{PASSWORD}\"}}'\n",
        registry.address
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(bin.path().join("docker-credential-broken"), "#!/bin/sh\necho s3cret; exit 3\n").unwrap();
    fs::set_permissions(bin.path().join("docker-credential-broken"), fs::Permissions::from_mode(0o755))
        .unwrap();
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pull::a_credential_helper_is_asked_over_pipes", "--nocapture"])
        .env("PATH", path)
        .env(CHILD, &reference)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let _ = docker.try_docker(&["image", "rm", &reference]);
}

async fn pull_by_helper(reference: &str) {
    let docker = testkit::Engine::shared();
    let registry = reference.split('/').next().unwrap();
    for helpers in [json!({ "credsStore": "fake" }), json!({ "credHelpers": { registry: "fake" } })] {
        let directory = config(&helpers);
        let engine = connect(&docker, directory.path()).await;
        pull(&engine, reference).await.unwrap();
        engine.remove_image(reference, false).await.unwrap();
    }
    // One that knows nothing of a registry is no obstacle; one that fails is, and its output stays secret.
    let directory = config(&json!({ "credHelpers": { "localhost:1": "fake" } }));
    let error =
        pull(&connect(&docker, directory.path()).await, "localhost:1/x:1").await.expect_err("nobody there");
    assert!(!matches!(error, EngineError::Credentials { .. }), "{error:?}");
    for (helper, words) in [("broken", "exit status: 3"), ("absent", "is it installed")] {
        let directory = config(&json!({ "credsStore": helper }));
        let error =
            pull(&connect(&docker, directory.path()).await, reference).await.expect_err("no credentials");
        let EngineError::Credentials { source, .. } = &error else { panic!("{error:?}") };
        assert!(matches!(source, CredentialsError::Helper { .. } | CredentialsError::HelperFailed { .. }));
        assert!(source.to_string().contains(words), "{source}");
        assert!(!format!("{error:?}").contains(PASSWORD), "{error:?}");
    }
}
