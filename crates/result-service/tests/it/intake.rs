//! Results on their way in: every form, repetitions, interruptions.

use std::time::Duration;

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::json;
use sqlx::Connection;
use testkit::eventually;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::served::{JUNIT, Served, archive, gzip, problem, tar, whole_archive};

#[tokio::test]
async fn stores_the_proposals_form() {
    let served = Served::start().await;
    let query = "?mainfile=results.tar&docker.imagename=shop-tests:2&exitcode=1\
                 &start-time=2026-05-01T10:00:00Z&end-time=2026-05-01T10:00:02.5Z";
    let response = served.upload(query, whole_archive(1, JUNIT)).send().await.expect("answers");
    assert_eq!(response.status(), 201);
    let location = response.headers()["location"].to_str().expect("text").to_owned();
    let receipt: serde_json::Value = response.json().await.expect("JSON");
    let id = receipt["id"].as_str().expect("an id");
    assert_eq!(location, format!("/api/v1/runs/{id}"));
    assert_eq!((&receipt["state"], &receipt["url"]), (&json!("failed"), &json!(format!("/runs/{id}"))));

    let run = served.json(&location).await;
    assert_eq!(run["test"], "t1");
    assert_eq!(run["outcome"], json!({"outcome": "failed", "exit_code": 1}));
    assert_eq!(run["seconds"], 2.5);
    assert_eq!(run["image"], "shop-tests:2");
    assert_eq!(run["host"], "host-1");
    assert_eq!(run["totals"], json!({"cases": 3, "passed": 1, "failed": 1, "skipped": 1}));
    assert_eq!(run["trigger"], "docker");
    assert_eq!(run["cause"], "container web create");
    assert_eq!(run["started_because"]["event"], "e-77");
    assert_eq!(run["labels"]["tugbot.owner"], "team-web");
    assert_eq!(run["engine"]["server_version"], "20.10.24");
    assert_eq!(run["container_id"], "4f1c77");
    assert_eq!(run["uploaded_by"], "collector");
    assert_eq!(run["notes"], json!([]));

    let cases = served.json(&format!("{location}/cases")).await;
    let names: Vec<_> = cases["items"].as_array().expect("items").iter().map(|case| &case["name"]).collect();
    assert_eq!(names, ["adds", "removes", "waits"]);
    let failed = &served.json(&format!("{location}/cases?status=failed,error")).await["items"];
    assert_eq!(failed.as_array().expect("items").len(), 1);
    assert_eq!(failed[0]["suite"], json!(["shop", "cart"]));
    assert_eq!(failed[0]["number"], 2);
    assert_eq!(failed[0]["failure"]["message"], "expected 1");
    assert_eq!(failed[0]["file"], "results/junit.xml");
    let found = &served.json(&format!("{location}/cases?search=REMO")).await["items"];
    assert_eq!(found.as_array().expect("items").len(), 1);

    let files = served.json(&format!("{location}/files")).await;
    let listed: Vec<_> = files["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|file| (file["path"].as_str().expect("a path"), file["kind"].as_str().expect("a kind")))
        .collect();
    assert_eq!(
        listed,
        [
            ("console_output/stderr.log", "stderr"),
            ("console_output/stdout.log", "stdout"),
            ("container_info/engine.json", "info"),
            ("container_info/inspect.json", "info"),
            ("results/junit.xml", "result"),
            ("results/pictures/page.png", "result"),
        ]
    );
    for (path, contents) in [
        ("console_output/stdout.log", &b"one\ntwo\n"[..]),
        ("results/junit.xml", JUNIT.as_bytes()),
        ("results/pictures/page.png", b"\x89PNG not really"),
    ] {
        let file = served.get(&format!("{location}/files/{path}")).await;
        assert_eq!(file.bytes().await.expect("a body"), contents, "{path}");
    }

    let event = &served.json("/api/v1/events").await["items"][0]["event"];
    assert_eq!(event["type"], "dev.cdevents.testsuiterun.finished.0.2.0");
    assert_eq!(event["data"]["subject"]["content"]["outcome"], "fail");
    assert_eq!(event["data"]["customData"]["links"]["page"], format!("/runs/{id}"));

    let test = served.json("/api/v1/tests/t1").await;
    assert_eq!((&test["owner"], &test["runs"]), (&json!("team-web"), &json!(1)));
    assert_eq!(test["last"][0]["id"], id);
}

#[tokio::test]
async fn stores_a_file_with_nothing_but_a_name() {
    let served = Served::start().await;
    let upload = archive(&[("results/sub/report.xml", JUNIT.as_bytes())]);
    let receipt = served.stored("?test=watched&hostname=h1", upload).await;
    assert_eq!(receipt["state"], "failed");
    let run = served.json(&format!("/api/v1/runs/{}", receipt["id"].as_str().expect("an id"))).await;
    assert_eq!(
        (&run["test"], &run["host"], &run["exit_code"]),
        (&json!("watched"), &json!("h1"), &json!(null))
    );
}

#[tokio::test]
async fn a_failed_case_fails_a_run_that_exited_with_0() {
    let served = Served::start().await;
    assert_eq!(served.stored("", whole_archive(0, JUNIT)).await["state"], "failed");
    let passing = JUNIT.replace("<failure", "<ignored").replace("</failure", "</ignored");
    assert_eq!(served.stored("", whole_archive(0, &passing)).await["state"], "passed");
}

#[tokio::test]
async fn stores_upstreams_json() {
    let served = Served::start().await;
    let document = json!({
        "ImageName": "shop-tests:1", "ContainerId": "4f1c", "StartedAt": "2016-08-01T10:00:00Z",
        "FinishedAt": "2016-08-01T10:00:02Z", "ExitCode": 0, "HostName": "h1",
        "TestSet": {"Name": "shop", "Time": 2, "Tests": [{"Name": "a", "Status": "Passed", "Time": 0.5}]},
    });
    let response = served.post("/results").json(&document).send().await.expect("answers");
    assert_eq!(response.status(), 201);
    let receipt: serde_json::Value = response.json().await.expect("JSON");
    let path = format!("/api/v1/runs/{}", receipt["id"].as_str().expect("an id"));
    let run = served.json(&path).await;
    assert_eq!(
        (&run["test"], &run["state"], &run["image"]),
        (&json!("shop"), &json!("passed"), &json!("shop-tests:1"))
    );
    assert_eq!(served.json(&format!("{path}/cases")).await["items"][0]["seconds"], 0.5);
    let file = served.get(&format!("{path}/files/results/upload.json")).await;
    assert_eq!(file.json::<serde_json::Value>().await.expect("JSON"), document);
}

#[tokio::test]
async fn fifty_duplicates_at_once_make_one_run() {
    let served = Served::start().await;
    let upload = whole_archive(0, JUNIT);
    let sending = (0..50).map(|_| {
        let request = served.upload("", upload.clone()).header("Idempotency-Key", "container/4f1c/177");
        async move {
            let response = request.send().await.expect("answers");
            (response.status().as_u16(), response.text().await.expect("a body"))
        }
    });
    let answers = join_all(sending).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 49);
    assert!(answers.iter().all(|(_, body)| *body == answers[0].1), "{answers:?}");
    assert_eq!(served.count("runs").await, 1);
    assert_eq!(served.count("cases").await, 3);
    let events = served.json("/api/v1/events").await;
    assert_eq!(events["items"].as_array().expect("items").len(), 1);

    let again = served.upload("", upload.clone()).header("Idempotency-Key", "container/4f1c/177");
    assert_eq!(again.send().await.expect("answers").status(), 200);
    let other = served.upload("", upload).header("Idempotency-Key", "container/4f1c/178");
    assert_eq!(other.send().await.expect("answers").status(), 201);
}

#[tokio::test]
async fn a_large_upload_of_many_cases_is_read_as_it_arrives() {
    let served = Served::start().await;
    let noise = noise(300_000);
    let cases: String =
        (0..3_000).map(|n| format!(r#"<testcase name="case {n:04}" time="0.001"/>"#)).collect();
    let report = format!("<testsuite name=\"many\">{cases}</testsuite>");
    let upload = archive(&[
        ("results/a-noise.bin", &noise),
        ("results/report.xml", report.as_bytes()),
        ("results/z-end.txt", b"the end"),
    ]);
    assert!(upload.len() > 64 * 1024);
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
        upload.chunks(10_000).map(|piece| Ok(piece.to_vec())).collect();
    let request = served.post("/results?test=large").header("content-type", "application/gzip");
    let response =
        request.body(reqwest::Body::wrap_stream(stream::iter(pieces))).send().await.expect("answers");
    assert_eq!(response.status(), 201);
    let receipt: serde_json::Value = response.json().await.expect("JSON");
    let path = format!("/api/v1/runs/{}", receipt["id"].as_str().expect("an id"));

    let mut names = Vec::new();
    let mut after = String::new();
    loop {
        let page = served.json(&format!("{path}/cases?limit=500{after}")).await;
        names.extend(page["items"].as_array().expect("items").iter().map(|case| case["name"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    let expected: Vec<_> = (0..3_000).map(|n| json!(format!("case {n:04}"))).collect();
    assert_eq!(names, expected);

    assert_eq!(served.blob_files().len(), 1);
    let file = served.get(&format!("{path}/files/results/a-noise.bin")).await;
    assert_eq!(file.bytes().await.expect("a body"), noise);
    let file = served.get(&format!("{path}/files/results/z-end.txt")).await;
    assert_eq!(file.text().await.expect("a body"), "the end");
}

#[tokio::test]
async fn a_refused_upload_leaves_nothing_behind() {
    let served = Served::start().await;
    let cases: String = (0..2_000).map(|n| format!(r#"<testcase name="case {n}"/>"#)).collect();
    let broken = format!("<testsuite name=\"many\">{cases}<oops></testsuite>");
    let upload =
        archive(&[("results/noise.bin", &noise(200_000)), ("results/report.xml", broken.as_bytes())]);
    let (status, _) = served.refused("?test=large", upload).await;
    assert_eq!(status, 422);
    for table in ["runs", "cases", "files", "blobs"] {
        assert_eq!(served.count(table).await, 0, "{table}");
    }
    assert_eq!(served.blob_files(), Vec::<String>::new());
}

#[tokio::test]
async fn a_lenient_upload_keeps_a_report_that_cannot_be_read() {
    let served = Served::start().await;
    let upload = archive(&[
        ("results/bad.xml", b"<testsuite name=\"a\">\n<testcase name=\"one\"/>\n<testcase name="),
        ("results/good.xml", JUNIT.as_bytes()),
    ]);
    let (status, problem) = served.refused("?test=t&exitcode=0", upload.clone()).await;
    assert_eq!((status, &problem["file"]), (422, &json!("results/bad.xml")), "{problem}");
    assert_eq!(problem["line"], 3, "{problem}");
    let receipt = served.stored("?test=t&exitcode=0&lenient=true", upload).await;
    let path = format!("/api/v1/runs/{}", receipt["id"].as_str().expect("an id"));
    let run = served.json(&path).await;
    let note = run["notes"][0].as_str().expect("a note");
    assert!(note.starts_with("results/bad.xml: "), "{note}");
    assert!(note.contains("line 3"), "{note}");
    assert_eq!(run["totals"]["failed"], 1);
    let kept = served.get(&format!("{path}/files/results/bad.xml")).await;
    assert!(kept.text().await.expect("a body").starts_with("<testsuite"));
}

#[tokio::test]
async fn an_interrupted_upload_leaves_nothing_behind() {
    let served = Served::start().await;
    let upload = archive(&[("results/noise.bin", &noise(400_000))]);
    for cut in [upload.len() / 2, 1_000] {
        let mut connection = TcpStream::connect(served.address).await.expect("connects");
        let head = format!(
            "POST /results?test=cut HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/gzip\r\nContent-Length: {}\r\n\r\n",
            served.key,
            upload.len()
        );
        connection.write_all(head.as_bytes()).await.expect("sends");
        connection.write_all(&upload[..cut]).await.expect("sends");
        if cut > 64 * 1024 {
            // Only then is it known that the service has begun to receive.
            eventually("a file for the upload", Duration::from_secs(20), || async {
                (!served.blob_files().is_empty()).then_some(())
            })
            .await;
        }
        drop(connection);
        eventually("the file to vanish", Duration::from_secs(20), || async {
            served.blob_files().is_empty().then_some(())
        })
        .await;
    }
    let state = served.stop().await;
    let served = Served::in_state(state, |_| {}).await;
    assert_eq!(served.count("runs").await, 0);
    served.stored("?test=cut", upload).await;
}

#[tokio::test]
async fn what_a_crash_left_behind_is_removed() {
    let served = Served::start().await;
    let stored = served.stored("", whole_archive(0, JUNIT)).await;
    let state = served.stop().await;
    std::fs::write(state.path().join("state/blobs/incoming/.tmpHalf"), b"half").expect("room on the disk");
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(state.path().join("state/results.sqlite"));
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.expect("opens");
    for run in [77_i64, 78] {
        for number in 1..=600 {
            let case = sqlx::query("INSERT INTO cases (key, name, status) VALUES (?, 'staged', 'passed')");
            case.bind((run << 24) + number).execute(&mut connection).await.expect("inserts");
        }
    }
    connection.close().await.expect("closes");

    let served = Served::in_state(state, |_| {}).await;
    assert_eq!(served.count("cases").await, 3);
    assert_eq!(served.blob_files(), Vec::<String>::new());
    let path = format!("/api/v1/runs/{}/cases", stored["id"].as_str().expect("an id"));
    assert_eq!(served.json(&path).await["items"].as_array().expect("items").len(), 3);
    // A new run never takes over what belonged to another.
    let receipt = served.stored("?test=t", archive(&[("results/a.txt", b"a")])).await;
    let path = format!("/api/v1/runs/{}/cases", receipt["id"].as_str().expect("an id"));
    assert_eq!(served.json(&path).await["items"], json!([]));
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let served = Served::start().await;
    let upload = whole_archive(0, JUNIT);
    let uploads = stream::iter(0..40).map(|n| {
        let request = served.upload("", upload.clone()).header("Idempotency-Key", format!("k/{n}"));
        async move { request.send().await.expect("answers").status().as_u16() }
    });
    let statuses: Vec<u16> = uploads.buffer_unordered(16).collect().await;
    assert_eq!(statuses, [201; 40]);
    let state = served.stop().await;
    let served = Served::in_state(state, |_| {}).await;
    assert_eq!(served.json("/api/v1/runs?limit=500").await["items"].as_array().expect("items").len(), 40);
    let again = served.upload("", upload).header("Idempotency-Key", "k/7").send().await.expect("answers");
    assert_eq!(again.status(), 200);
}

#[tokio::test]
async fn an_upload_in_flight_is_finished_when_the_service_is_stopped() {
    let served = Served::start().await;
    let upload = archive(&[("results/noise.bin", &noise(400_000))]);
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let request = served.post("/results?test=last").header("content-type", "application/gzip").body(body);
    let sending = tokio::spawn(request.send());
    let (first, second) = upload.split_at(upload.len() / 2);
    sender.send(Ok(first.to_vec())).await.expect("sends");
    eventually("a file for the upload", Duration::from_secs(20), || async {
        (!served.blob_files().is_empty()).then_some(())
    })
    .await;
    served.begin_stop();
    sender.send(Ok(second.to_vec())).await.expect("sends");
    drop(sender);
    assert_eq!(sending.await.expect("does not panic").expect("answers").status(), 201);
    let state = served.stop().await;
    let served = Served::in_state(state, |_| {}).await;
    assert_eq!(served.count("runs").await, 1);
}

#[tokio::test]
async fn a_disk_that_fails_is_worth_another_try() {
    let served = Served::start().await;
    let upload = archive(&[("results/noise.bin", &noise(200_000))]);
    let incoming = served.state_dir().join("state/blobs/incoming");
    std::fs::remove_dir(&incoming).expect("is empty");
    let response = served.upload("?test=t", upload.clone()).send().await.expect("answers");
    assert!(response.headers().contains_key("retry-after"));
    let (status, problem) = problem(response).await;
    assert_eq!(status, 503, "{problem}");
    assert!(!problem.to_string().contains("incoming"), "{problem}");
    std::fs::create_dir(&incoming).expect("can be made again");
    served.stored("?test=t", upload).await;
}

#[tokio::test]
async fn what_does_not_say_what_it_is_is_refused() {
    let served = Served::start().await;
    let upload = || archive(&[("results/a.txt", b"a")]);
    assert_eq!(served.refused("", upload()).await.0, 422);
    assert_eq!(served.refused("?test=%0A", upload()).await.0, 422);
    assert_eq!(served.refused("?test=t&exitcode=many", upload()).await.0, 400);
    assert_eq!(served.refused("?test=t&start-time=soon", upload()).await.0, 400);
    let request = served.post("/results?test=t").header("content-type", "text/xml").body(JUNIT);
    assert_eq!(problem(request.send().await.expect("answers")).await.0, 415);
    let request = served.post("/results?test=t").header("content-type", "application/json").body("{");
    assert_eq!(problem(request.send().await.expect("answers")).await.0, 400);
    let request = served.upload("?test=t", upload()).header("Idempotency-Key", "x".repeat(2000));
    assert_eq!(problem(request.send().await.expect("answers")).await.0, 400);
    assert_eq!(served.count("runs").await, 0);
    // A tar that was compressed in two members is one tar.
    let whole = tar(&[("results/a.txt", b"a")]);
    let (first, second) = whole.split_at(700);
    served.stored("?test=t", [gzip(first), gzip(second)].concat()).await;
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}
