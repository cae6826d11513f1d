//! Runs that somebody or something asks for: by hand over HTTP, by events of the result service.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::tempdir;
use testkit::{Engine, eventually};

use crate::support::{Daemon, PATIENCE, Service, run, tugyard};

fn create(engine: &Engine, name: &str, labels: &[&str]) {
    let image = engine.busybox();
    let mut words = vec!["run", "--name", name, "--label", "tugbot.test", "--label", "tugbot.keep=50"];
    labels.iter().for_each(|label| words.extend(["--label", label]));
    words.extend([image.as_str(), "true"]);
    engine.docker(&words);
}

fn copies(engine: &Engine, test: &str) -> usize {
    let filter = format!("label=tugbot.created.from={test}");
    engine.docker(&["ps", "--all", "--quiet", "--filter", &filter]).lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runners_own_address_runs_tests_and_shuts_out_web_pages() {
    let engine = Engine::private();
    create(&engine, "cart", &[]);
    let words = ["run", "--host", &engine.host(), "--listen", "127.0.0.1:0", "--output", "json"];
    let runner = Daemon::listening(&words);
    let http = testkit::http_client();
    let get = |path: &str| {
        let request = http.get(format!("{}{path}", runner.url));
        async { request.send().await.unwrap() }
    };
    assert_eq!(get("/healthz").await.status(), 200);
    eventually("the engine's answer", PATIENCE, || async {
        (get("/readyz").await.status() == 200).then_some(())
    })
    .await;
    let post = |path: &str| http.post(format!("{}{path}", runner.url));
    let from_a_page = post("/run/cart").header("Origin", "http://evil.example").send().await.unwrap();
    assert_eq!(from_a_page.status(), 401);
    assert_eq!(post("/run/absent").send().await.unwrap().status(), 404);
    assert_eq!(post("/events").body("{").send().await.unwrap().status(), 400);
    assert_eq!(post("/events").body(vec![b' '; 2 << 20]).send().await.unwrap().status(), 413);
    assert_eq!(copies(&engine, "cart"), 0);
    let ticket: Value = post("/run/cart").send().await.unwrap().json().await.unwrap();
    assert!(ticket["copy"].as_str().unwrap().starts_with("tugbot_cart_"), "{ticket}");
    let line = "tugyard_run_runs_total{test=\"cart\",outcome=\"passed\"} 1";
    eventually(line, PATIENCE, || async {
        get("/metrics").await.text().await.unwrap().contains(line).then_some(())
    })
    .await;
    assert_eq!(copies(&engine, "cart"), 1);
}

#[test]
fn an_address_that_others_can_reach_needs_a_key() {
    let engine = Engine::shared();
    let output = run(&["run", "--host", &engine.host(), "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--api-key-file"));
}

fn runner(engine: &Engine, service: &Service, home: &Path) -> Daemon {
    let key = home.join("key");
    std::fs::write(&key, &service.key).expect("a temporary directory can be written");
    let mut command = tugyard();
    command.args(["run", "--host", &engine.host(), "-r", &service.daemon.url, "--api-key-file"]).arg(&key);
    Daemon::start(&mut command)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_service_start_tests_and_their_own_runs_do_not() {
    let (engine, state, home) = (Engine::private(), tempdir().unwrap(), tempdir().unwrap());
    // The second asks for every event there is, its own runs' included.
    create(&engine, "scan", &["tugbot.event.cd=dev.cdevents.artifact.published.*"]);
    create(&engine, "greedy", &["tugbot.event.cd=*"]);
    let service = Service::start(state.path());
    let runner = runner(&engine, &service, home.path());
    runner.logged("test container scan").await;
    runner.logged("test container greedy").await;
    let http = testkit::http_client();
    for round in 1..=2 {
        let event = json!({
            "specversion": "1.0", "id": format!("e{round}"), "source": "/mirror", "datacontenttype": "application/json",
            "type": "dev.cdevents.artifact.published.0.2.0", "subject": "pkg:oci/shop",
            "data": {"context": {"version": "0.4.1"}, "subject": {"id": "pkg:oci/shop", "type": "artifact", "content": {}}}
        });
        let posted = http
            .post(format!("{}/events", service.daemon.url))
            .bearer_auth(&service.key)
            .header("Content-Type", "application/cloudevents+json")
            .body(event.to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(posted.status(), 202);
        eventually("a copy of scan", PATIENCE, || async { (copies(&engine, "scan") == round).then_some(()) })
            .await;
    }
    let asked = http
        .post(format!("{}/api/v1/tests/scan/run", service.daemon.url))
        .bearer_auth(&service.key)
        .send()
        .await
        .unwrap();
    assert_eq!(asked.status(), 202);
    eventually("the run by hand", PATIENCE, || async { (copies(&engine, "scan") == 3).then_some(()) }).await;
    // Runs of `scan` are events too, which `greedy` may follow; but nothing follows from its own runs, so all comes to rest.
    eventually("rest", PATIENCE, || async { engine.docker(&["ps", "--quiet"]).is_empty().then_some(()) })
        .await;
    let causes = engine.docker(&[
        "ps",
        "-a",
        "--filter",
        "label=tugbot.created.from=greedy",
        "--format",
        "{{.Label \"tugbot.cause\"}}",
    ]);
    assert!(!causes.is_empty(), "greedy has run");
    assert!(!causes.contains("greedy"), "a run of greedy followed from a run of greedy: {causes}");
}
