//! Each kind of failure, provoked. `Garbled` and `ConnectError` are in `negotiation`, `Credentials` in `pull`.

use std::{error::Error, time::Duration};

use container_engine::{EngineError, ListFilter};
use serde_json::json;

use crate::support::{Cleanup, connect, connect_to};

#[tokio::test]
async fn a_name_that_is_taken_is_a_conflict() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let name = cleanup.container("taken");
    docker.docker(&["create", "--name", &name, &docker.busybox(), "true"]);
    let plan = container_engine::CopyPlan {
        name: name.clone(),
        create: json!({ "Image": docker.busybox() }),
        connect: Vec::new(),
        remarks: Vec::new(),
    };
    let error = engine.create(&plan).await.expect_err("the name is taken");
    assert!(
        matches!(&error, EngineError::Conflict { kind: "container", name: n, .. } if *n == name),
        "{error}"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn what_the_engine_finds_wrong_is_refused_in_its_own_words() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let name = cleanup.container("refused");
    let mut plan = container_engine::CopyPlan {
        name: name.clone(),
        create: json!({ "Image": docker.busybox(), "HostConfig": { "Memory": 1 } }),
        connect: Vec::new(),
        remarks: Vec::new(),
    };
    let error = engine.create(&plan).await.expect_err("one byte of memory");
    assert!(
        matches!(&error, EngineError::Refused { status: 400, message, .. } if message.contains("memory")),
        "{error}"
    );

    // Missing is what the engine says is missing, not what the call was about.
    plan.create = json!({ "Image": "no-such-image-here:1" });
    let error = engine.create(&plan).await.expect_err("no such image");
    assert!(matches!(&error, EngineError::NotFound { kind: "image", .. }), "{error}");

    // A container that cannot have all its networks does not stay behind.
    plan.create = json!({ "Image": docker.busybox() });
    plan.connect = vec![("host".into(), json!({}))];
    let error = engine.create(&plan).await.expect_err("the host's network cannot be one of several");
    assert!(matches!(&error, EngineError::Refused { action, .. } if action.contains("`host`")), "{error}");
    assert!(engine.inspect(&name).await.expect_err("it was removed again").is_not_found());

    // The engine notices only at the start that a network is missing.
    plan.connect = vec![("no-such-network-here".into(), json!({}))];
    engine.create(&plan).await.unwrap();
    let error = engine.start(&name).await.expect_err("no such network");
    assert!(
        matches!(&error, EngineError::NotFound { kind: "network", name } if name == "no-such-network-here")
    );
}

#[tokio::test]
async fn an_engine_that_goes_away_is_unreachable_and_worth_a_retry() {
    let docker = testkit::Engine::shared();
    let proxy = testkit::proxy::Proxy::unix(docker.socket()).await;
    let engine = connect_to(&format!("unix://{}", proxy.socket().display())).await;
    engine.list(&ListFilter::default()).await.unwrap();

    proxy.set(testkit::proxy::Mode::Refuse);
    testkit::eventually("calls fail while the engine is away", Duration::from_secs(10), || async {
        let error = engine.list(&ListFilter::default()).await.err()?;
        assert!(matches!(error, EngineError::Unreachable { .. }) && error.is_retryable(), "{error:?}");
        assert_eq!(error.to_string(), "the engine cannot be reached while it should list containers");
        Some(error.source().expect("the cause is in the chain").to_string())
    })
    .await;

    proxy.set(testkit::proxy::Mode::Forward);
    engine.list(&ListFilter::default()).await.expect("the engine is back, and so is the connection");
}

#[tokio::test]
async fn a_cut_in_the_middle_of_an_archive_is_not_taken_for_its_end() {
    use futures_util::StreamExt;

    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let name = cleanup.container("cut");
    let script = "mkdir /r; dd if=/dev/zero of=/r/big bs=1048576 count=64 2>/dev/null";
    docker.docker(&["run", "--name", &name, &docker.busybox(), "sh", "-c", script]);
    let proxy = testkit::proxy::Proxy::unix(docker.socket()).await;
    let engine = connect_to(&format!("unix://{}", proxy.socket().display())).await;
    let mut stream = engine.archive(&name, "/r").await.unwrap();
    stream.next().await.unwrap().expect("the archive begins");
    proxy.set(testkit::proxy::Mode::Refuse);
    let mut last = Ok(Default::default());
    while let Some(piece) = stream.next().await {
        last = piece;
    }
    assert!(matches!(last, Err(EngineError::Unreachable { .. })), "{last:?}");
}
