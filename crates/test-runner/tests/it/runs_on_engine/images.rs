//! A newer image of a test container's tag.

use std::time::Duration;

use test_runner::{ImageSettings, RunnerEvent, RunnerSettings};

use crate::rig::{connect, copies, settings, settled, start};

#[tokio::test(flavor = "multi_thread")]
async fn copies_run_on_the_newer_image_once_also_after_a_restart() {
    let engine = testkit::Engine::private();
    let version = |n: u32| {
        let label = format!("LABEL version={n}");
        engine.import(
            "app-tests:1",
            &testkit::engine::busybox_layer(),
            &["CMD [\"true\"]", "ENV PATH=/bin", &label],
        );
        engine.docker(&["image", "inspect", "--format", "{{.Id}}", "app-tests:1"])
    };
    let first = version(1);
    engine.docker(&[
        "run",
        "--name",
        "t1",
        "--network",
        "none",
        "--label",
        "tugbot.test",
        "--label",
        "tugbot.event.image",
        "--label",
        "tugbot.keep=1",
        "app-tests:1",
    ]);
    let images =
        ImageSettings { interval: Duration::from_secs(1), pull: false, cleanup: true, all_tests: false };
    let with_images = || RunnerSettings { images: Some(images.clone()), ..settings() };
    let runner = start(engine.socket(), with_images()).await;
    let second = version(2);
    runner.finishes("t1", 1).await;
    let client = connect(engine.socket()).await;
    assert_eq!(copies(&client, "t1").await[0].image_id, second);
    runner.stop().await;

    let runner = start(engine.socket(), with_images()).await;
    let third = version(3);
    runner.finishes("t1", 1).await;
    settled(&engine, &runner).await;
    assert_eq!(copies(&client, "t1").await.last().unwrap().image_id, third);
    let newer = |event: &&RunnerEvent| matches!(event, RunnerEvent::NewImage { .. });
    assert_eq!(
        runner.heard.reports().iter().filter(newer).count(),
        1,
        "the second image was known to have run"
    );
    // The image in between goes once its copies have gone; the original still needs the first.
    let removed = |event: &RunnerEvent| match event {
        RunnerEvent::ImageRemoved { id } => Some(id.clone()),
        _ => None,
    };
    assert_eq!(runner.hears("the old image's removal", removed).await, second);
    assert!(engine.try_docker(&["image", "inspect", &first]).is_ok());
    runner.stop().await;
}
