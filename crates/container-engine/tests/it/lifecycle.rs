//! The life of a container, and the other objects of an engine.

use std::time::Duration;

use container_engine::{EngineError, Health, Lifecycle, ListFilter, engine::Engine};
use futures_util::StreamExt;

use crate::support::{Cleanup, connect};

#[tokio::test]
async fn describes_the_engine_it_is_connected_to() {
    let docker = testkit::Engine::shared();
    let engine = connect(&docker).await;
    let info = engine.info().await.unwrap();
    let format = "{{.ID}}|{{.Name}}|{{.ServerVersion}}|{{.OperatingSystem}}|{{.KernelVersion}}";
    let expected = docker.docker(&["info", "--format", format]);
    let shown = [&info.id, &info.name, &info.server_version, &info.operating_system, &info.kernel_version];
    assert_eq!(shown.map(String::as_str).join("|"), expected);
    assert_eq!(info.api_version, docker.docker(&["version", "--format", "{{.Server.APIVersion}}"]));
}

#[tokio::test]
async fn lists_by_label_with_the_images_labels_merged_in() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let (name, image, mark) =
        (cleanup.container("list"), cleanup.image("list-image"), testkit::unique("mark"));
    docker.import(&image, &testkit::engine::busybox_layer(), &[&format!("LABEL {mark}=from-image")]);
    docker.docker(&["create", "--name", &name, "--label", "own=1", &image, "true"]);

    let filter = ListFilter { all: true, labels: vec![mark.clone(), "own=1".into()] };
    let found = engine.list(&filter).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].name.as_str(), found[0].lifecycle), (name.as_str(), Lifecycle::Created));
    assert_eq!(found[0].labels[&mark], "from-image");
    assert_eq!(found[0].image, image);
    assert!(found[0].created_at.as_second() > 1_600_000_000);

    let running = ListFilter { all: false, labels: vec![mark] };
    assert_eq!(engine.list(&running).await.unwrap(), []);
    let inspected = engine.inspect(&name).await.unwrap();
    assert_eq!((&inspected.id, &inspected.image_id), (&found[0].id, &found[0].image_id));
    assert_eq!(engine.inspect(&found[0].id.0[..12]).await.unwrap().name, name);
}

#[tokio::test]
async fn a_run_from_start_to_removal() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let name = cleanup.container("life");
    docker.docker(&["create", "--name", &name, &docker.busybox(), "sh", "-c", "exit 7"]);

    assert_eq!(engine.inspect(&name).await.unwrap().exit_code, None);
    assert_eq!(engine.wait(&name).await.unwrap(), 0, "one that was never started is not running");
    engine.start(&name).await.unwrap();
    assert_eq!(engine.wait(&name).await.unwrap(), 7);
    let ended = engine.inspect(&name).await.unwrap();
    assert_eq!((ended.lifecycle, ended.exit_code, ended.health), (Lifecycle::Exited, Some(7), Health::None));
    assert!(ended.ran_for().is_some() && ended.finished_at.unwrap() >= ended.created_at);
    assert!(ended.started_at.unwrap() >= ended.created_at);

    engine.kill(&name, "SIGKILL").await.expect("one that has ended is success");
    engine.stop(&name, Duration::from_secs(1)).await.expect("one that has ended is success");
    engine.remove(&name, false).await.unwrap();
    engine.remove(&name, false).await.expect("one that is gone is success");
    for result in [
        engine.start(&name).await,
        engine.kill(&name, "SIGKILL").await,
        engine.stop(&name, Duration::ZERO).await,
        engine.wait(&name).await.map(|_| ()),
        engine.inspect(&name).await.map(|_| ()),
    ] {
        let error = result.expect_err("it is gone");
        assert!(
            matches!(&error, EngineError::NotFound { kind: "container", name: n } if *n == name),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_running_container_is_waited_for_killed_and_only_removed_by_force() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let name = cleanup.container("run");
    docker.docker(&[
        "run",
        "--detach",
        "--name",
        &name,
        "--volume",
        "/data",
        &docker.busybox(),
        "sleep",
        "600",
    ]);
    engine.start(&name).await.expect("one that runs already is success");
    let running = engine.inspect(&name).await.unwrap();
    assert_eq!((running.lifecycle, running.exit_code), (Lifecycle::Running, None));
    let volume = running.mounts[0].volume.clone().expect("an anonymous volume");

    let refused = engine.remove(&name, false).await.expect_err("it runs");
    assert!(matches!(refused, EngineError::Conflict { kind: "container", .. }), "{refused}");

    let waiting = {
        let (engine, name) = (engine.clone(), name.clone());
        async move { engine.wait(&name).await }
    };
    let (code, killed) = tokio::join!(waiting, async { engine.kill(&name, "SIGKILL").await });
    killed.unwrap();
    assert_eq!(code.unwrap(), 137);

    engine.remove(&name, true).await.unwrap();
    let gone = docker.try_docker(&["volume", "inspect", &volume]);
    assert!(gone.is_err(), "the anonymous volume goes with its container");
}

#[tokio::test]
async fn a_container_that_is_just_being_removed_counts_as_removed() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let name = cleanup.container("twice");
    docker.docker(&["run", "--detach", "--name", &name, &docker.busybox(), "sleep", "600"]);
    let id = engine.inspect(&name).await.unwrap().id.0;
    let results = futures_util::future::join_all((0..6).map(|_| engine.remove(&id, true))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[tokio::test]
async fn stopping_kills_after_the_grace_period() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let name = cleanup.container("stubborn");
    // As process 1 without a handler, sleep does not hear SIGTERM.
    docker.docker(&["run", "--detach", "--name", &name, &docker.busybox(), "sleep", "600"]);
    engine.stop(&name, Duration::from_millis(500)).await.unwrap();
    assert_eq!(engine.inspect(&name).await.unwrap().exit_code, Some(137));
}

#[tokio::test]
async fn the_health_checks_verdict_is_read() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let (name, image) = (cleanup.container("health"), docker.busybox());
    let check = ["--health-cmd", "test -e /tmp/well", "--health-interval", "100ms", "--health-retries", "1"];
    let arguments = [&["run", "--detach", "--name", &name][..], &check, &[&image, "sleep", "600"]].concat();
    docker.docker(&arguments);
    let is = |wanted: Health| {
        let (engine, name) = (engine.clone(), name.clone());
        testkit::eventually("the health check's verdict", Duration::from_secs(30), move || {
            let (engine, name) = (engine.clone(), name.clone());
            async move { (health(&engine, &name).await == wanted).then_some(()) }
        })
    };
    is(Health::Unhealthy).await;
    docker.docker(&["exec", &name, "touch", "/tmp/well"]);
    is(Health::Healthy).await;
}

async fn health(engine: &Engine, name: &str) -> Health {
    engine.inspect(name).await.unwrap().health
}

#[tokio::test]
async fn images_are_listed_inspected_and_removed() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let (image, name) = (format!("{}/nested:2", cleanup.image("img")), cleanup.container("img"));
    docker.import(&image, &testkit::engine::busybox_layer(), &["LABEL a=b"]);
    let inspected = engine.image(&image).await.unwrap();
    assert_eq!((&inspected.tags[..], inspected.labels["a"].as_str()), (&[image.clone()][..], "b"));
    let listed = engine.images().await.unwrap();
    let row = listed.iter().find(|row| row.id == inspected.id).expect("it is listed");
    assert_eq!((&row.tags, &row.labels), (&inspected.tags, &inspected.labels));

    docker.docker(&["create", "--name", &name, &image, "true"]);
    let used = engine.remove_image(&inspected.id.0, false).await.expect_err("a container uses it");
    assert!(matches!(used, EngineError::Conflict { kind: "image", .. }), "{used}");
    engine.remove(&name, true).await.unwrap();
    engine.remove_image(&image, false).await.unwrap();
    let gone = engine.image(&image).await.expect_err("it is removed");
    assert!(matches!(gone, EngineError::NotFound { kind: "image", .. }), "{gone}");
    assert!(engine.remove_image(&image, false).await.expect_err("it is removed").is_not_found());
}

#[tokio::test]
async fn networks_and_volumes_come_and_go() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let (network, volume) = (cleanup.network("net"), cleanup.volume("vol"));
    let labels = [("a".to_owned(), "b".to_owned())].into();
    let id = engine.create_network(&network, &labels).await.unwrap();
    assert_eq!(
        docker.docker(&["network", "inspect", &network, "--format", "{{.Id}} {{.Labels.a}}"]),
        format!("{id} b")
    );
    let twice = engine.create_network(&network, &labels).await.expect_err("the name is taken");
    assert!(matches!(twice, EngineError::Conflict { kind: "network", .. }), "{twice}");
    engine.remove_network(&network).await.unwrap();
    engine.remove_network(&network).await.expect("one that is gone is success");

    engine.create_volume(&volume, &labels).await.unwrap();
    engine.create_volume(&volume, &labels).await.expect("one that is there is success");
    assert_eq!(docker.docker(&["volume", "inspect", &volume, "--format", "{{.Labels.a}}"]), "b");
    engine.remove_volume(&volume).await.unwrap();
    engine.remove_volume(&volume).await.expect("one that is gone is success");
}

#[tokio::test]
async fn an_event_stream_lets_go_when_it_is_dropped() {
    let docker = testkit::Engine::shared();
    let engine = connect(&docker).await;
    let mut events = engine.events();
    events.next().await.expect("it connects");
    drop(events);
    testkit::eventually("the queue is empty", Duration::from_secs(5), || async {
        (engine.event_stats().queued == 0).then_some(())
    })
    .await;
}
