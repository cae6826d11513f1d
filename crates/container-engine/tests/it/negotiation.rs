//! API versions: the real engine's, and by a stand-in those of engines that cannot be had here.

use std::sync::{Arc, Mutex};

use container_engine::{ConnectError, ConnectSettings, Engine, EngineError};

use crate::support::{StandIn, connect, connect_to};

#[tokio::test]
async fn speaks_the_real_engines_newest_version() {
    let docker = testkit::Engine::shared();
    let info = connect(&docker).await.info().await.unwrap();
    assert_eq!(info.api_version, docker.docker(&["version", "--format", "{{.Server.APIVersion}}"]));
}

#[tokio::test]
async fn every_call_names_the_version_that_was_agreed_on() {
    // Engines 1.12, 20.10, 28, 29 and one of the future.
    for (newest, oldest, agreed) in [
        ("1.24", "1.12", "1.24"),
        ("1.41", "1.12", "1.41"),
        ("1.50", "1.24", "1.50"),
        ("1.52", "1.44", "1.52"),
        ("1.60", "1.44", "1.53"),
    ] {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        let stand_in = StandIn::start(move |request| {
            log.lock().unwrap().push(request.to_owned());
            (200, format!(r#"{{"ApiVersion":"{newest}","MinAPIVersion":"{oldest}","ID":"e"}}"#))
        })
        .await;
        let engine = connect_to(&stand_in.host()).await;
        assert_eq!(engine.info().await.unwrap().api_version, agreed);
        assert_eq!(*asked.lock().unwrap(), ["GET /version".to_owned(), format!("GET /v{agreed}/info")]);
    }
}

#[tokio::test]
async fn engines_with_no_version_in_common_are_refused_in_words() {
    for (newest, oldest, words) in [
        ("1.23", "1.12", "the engine speaks API 1.12 to 1.23, but 1.24 to 1.53 is needed"),
        ("2.3", "2.0", "the engine speaks API 2.0 to 2.3, but 1.24 to 1.53 is needed"),
        ("soon", "1.24", "`soon` is not an API version"),
    ] {
        let body = format!(r#"{{"ApiVersion":"{newest}","MinAPIVersion":"{oldest}"}}"#);
        let stand_in = StandIn::start(move |_| (200, body.clone())).await;
        let error = refusal(&stand_in.host()).await;
        assert!(matches!(error, ConnectError::NoCommonVersion { .. }), "{error:?}");
        let cause = std::error::Error::source(&error).expect("the cause is in the chain").to_string();
        assert_eq!(cause, words);
    }
}

#[tokio::test]
async fn what_is_no_engine_is_said_to_be_none() {
    for (status, body) in
        [(200, "<html>hello</html>"), (200, "{}"), (400, "wants HTTPS"), (404, "nothing here")]
    {
        let stand_in = StandIn::start(move |_| (status, body.to_owned())).await;
        let error = refusal(&stand_in.host()).await;
        assert!(matches!(error, ConnectError::NoEngine { .. }), "{error:?}");
        assert!(error.to_string().contains(&stand_in.host()), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable_with_the_reason_in_the_chain() {
    let nobody = tempfile::tempdir().unwrap();
    let error = refusal(&format!("unix://{}/none.sock", nobody.path().display())).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert!(format!("{error:?}").contains("No such file"), "{error:?}");
    assert!(matches!(refusal("carrier-pigeon").await, ConnectError::BadHost { .. }));
    assert!(matches!(refusal("ssh://there").await, ConnectError::UnsupportedScheme { .. }));
}

#[tokio::test]
async fn a_context_leads_to_the_engine_it_names() {
    use std::fs;

    let docker = testkit::Engine::shared();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().display().to_string();
    // The real client writes the context.
    docker.docker(&[
        "--config",
        &config,
        "context",
        "create",
        "near",
        "--docker",
        &format!("host={}", docker.host()),
    ]);
    let settings = ConnectSettings {
        context: Some("near".into()),
        docker_config_dir: Some(directory.path().to_owned()),
        ..Default::default()
    };
    Engine::connect(&settings).await.unwrap().info().await.unwrap();
    fs::write(directory.path().join("config.json"), r#"{"currentContext":"near"}"#).unwrap();
    Engine::connect(&ConnectSettings { context: None, ..settings.clone() }).await.unwrap();
    let error = Engine::connect(&ConnectSettings { context: Some("far".into()), ..settings }).await;
    assert!(matches!(error, Err(ConnectError::Config(_))), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_garbled() {
    let stand_in = StandIn::start(|request| match request {
        "GET /version" => (200, r#"{"ApiVersion":"1.41"}"#.to_owned()),
        "GET /v1.41/containers/x/json" => (200, "{}".to_owned()),
        _ => (200, "not JSON".to_owned()),
    })
    .await;
    let engine = connect_to(&stand_in.host()).await;
    for result in [
        engine.info().await.map(|_| ()),
        engine.inspect("x").await.map(|_| ()),
        engine.list(&Default::default()).await.map(|_| ()),
    ] {
        let error = result.expect_err("no sense");
        assert!(matches!(error, EngineError::Garbled { .. }), "{error:?}");
    }
}

async fn refusal(host: &str) -> ConnectError {
    let settings = ConnectSettings { host: Some(host.to_owned()), ..Default::default() };
    Engine::connect(&settings).await.expect_err("no engine to work with")
}
