//! Two runners on one engine do not run the same trigger twice.

use std::collections::BTreeSet;

use crate::rig::{connect, copies, first_run, product, settings, settled, start};

#[tokio::test(flavor = "multi_thread")]
async fn each_event_and_each_interval_is_run_once() {
    let engine = testkit::Engine::private();
    first_run(
        &engine,
        "each",
        &["tugbot.event.docker=create", "tugbot.overlap=allow", "tugbot.keep=99"],
        "true",
    );
    first_run(&engine, "timer", &["tugbot.event.timer=2s", "tugbot.keep=99"], "true");
    first_run(
        &engine,
        "flaky",
        &["tugbot.event.docker=create", "tugbot.retries=1", "tugbot.keep=99"],
        "exit 1",
    );
    let one = start(engine.socket(), settings()).await;
    let two = start(engine.socket(), settings()).await;
    for n in 1..=5 {
        product(&engine, &format!("web{n}"));
        for runner in [&one, &two] {
            runner.finishes("each", n).await;
            runner.finishes("flaky", 2 * n).await;
        }
    }
    for runner in [&one, &two] {
        runner.finishes("timer", 3).await;
        settled(&engine, runner).await;
    }
    let client = connect(engine.socket()).await;
    assert_eq!(copies(&client, "each").await.len(), 5);
    assert_eq!(copies(&client, "flaky").await.len(), 10);
    // Due times are whole intervals apart, and none has two copies.
    let due: Vec<String> = copies(&client, "timer")
        .await
        .iter()
        .map(|copy| copy.name.rsplit('_').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(due.len(), due.iter().collect::<BTreeSet<_>>().len(), "{due:?}");
    // Both have seen every run to its end, and exactly one has announced it.
    let finished = |runner: &crate::rig::Running| {
        let announced = runner.heard.announced();
        let of_each = announced.iter().filter(|event| {
            event.kind.starts_with("dev.cdevents.testsuiterun.finished.")
                && event.id.0.starts_with("tugbot_each_")
        });
        of_each.count()
    };
    assert_eq!(finished(&one) + finished(&two), 5);
    one.stop().await;
    two.stop().await;
}
