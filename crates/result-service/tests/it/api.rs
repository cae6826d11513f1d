//! Listings, errors, headers, limits on connections, and the description of the API.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::served::{Served, archive, problem};

/// Stores runs of two tests, started a minute apart, every third of them failed.
async fn with_runs(served: &Served, count: u32) {
    for n in 0..count {
        let test = if n % 2 == 0 { "even" } else { "odd" };
        let exit_code = u32::from(n % 3 == 0);
        let query =
            format!("?test={test}&exitcode={exit_code}&hostname=h{n}&start-time=2026-05-01T10:{n:02}:00Z");
        served.stored(&query, archive(&[("results/a.txt", b"a")])).await;
    }
}

fn hosts(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("items").iter();
    items.map(|run| run["host"].as_str().expect("a host").to_owned()).collect()
}

#[tokio::test]
async fn runs_are_listed_newest_first_in_pages() {
    let served = Served::start().await;
    with_runs(&served, 7).await;
    let mut seen = Vec::new();
    let mut query = "?limit=3".to_owned();
    let mut sizes = Vec::new();
    loop {
        let page = served.json(&format!("/api/v1/runs{query}")).await;
        sizes.push(hosts(&page).len());
        seen.extend(hosts(&page));
        // A run that arrives between two pages moves nothing.
        if sizes.len() == 1 {
            let late = "?test=even&hostname=late&start-time=2026-05-01T11:00:00Z";
            served.stored(late, archive(&[("results/a.txt", b"a")])).await;
        }
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?limit=3&after={next}");
    }
    assert_eq!(sizes, [3, 3, 1]);
    assert_eq!(seen, ["h6", "h5", "h4", "h3", "h2", "h1", "h0"]);
}

#[tokio::test]
async fn runs_are_filtered() {
    let served = Served::start().await;
    with_runs(&served, 6).await;
    for (query, expected) in [
        ("test=odd", vec!["h5", "h3", "h1"]),
        ("state=failed", vec!["h3", "h0"]),
        ("state=passed&test=even", vec!["h4", "h2"]),
        ("host=h2", vec!["h2"]),
        ("since=2026-05-01T10:02:00Z&until=2026-05-01T10:04:00Z", vec!["h3", "h2"]),
        ("test=none", vec![]),
    ] {
        assert_eq!(hosts(&served.json(&format!("/api/v1/runs?{query}")).await), expected, "{query}");
    }
    let names = |page: &Value| {
        let items = page["items"].as_array().expect("items").iter();
        items.map(|test| test["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let tests = served.json("/api/v1/tests").await;
    assert_eq!(names(&tests), ["even", "odd"]);
    assert_eq!(tests["items"][0]["last"].as_array().expect("runs").len(), 3);
    assert_eq!(tests["items"][0]["last"][0]["at"], "2026-05-01T10:04:00Z");
    assert_eq!(names(&served.json("/api/v1/tests?search=DD").await), ["odd"]);
    assert_eq!(names(&served.json("/api/v1/tests?state=failed").await), Vec::<String>::new());
    let page = served.json("/api/v1/tests?limit=1").await;
    let next = page["next"].as_str().expect("more");
    assert_eq!(names(&served.json(&format!("/api/v1/tests?limit=1&after={next}")).await), ["odd"]);
}

#[tokio::test]
async fn errors_are_problem_details() {
    let served = Served::start().await;
    let id = "01890000-0000-7000-8000-000000000000";
    for (path, status) in [
        (format!("/api/v1/runs/{id}"), 404),
        (format!("/api/v1/runs/{id}/cases"), 404),
        (format!("/api/v1/runs/{id}/files"), 404),
        (format!("/api/v1/runs/{id}/files/a/b"), 404),
        ("/api/v1/runs/nonsense".to_owned(), 404),
        ("/api/v1/tests/none".to_owned(), 404),
        ("/api/v1/nothing".to_owned(), 404),
        ("/results".to_owned(), 405),
        ("/api/v1/runs?state=odd".to_owned(), 400),
        ("/api/v1/runs?limit=many".to_owned(), 400),
        ("/api/v1/runs?after=nonsense".to_owned(), 400),
        (format!("/api/v1/runs/{id}/cases?status=odd"), 400),
        ("/api/v1/stream?after=x".to_owned(), 400),
    ] {
        let (found, problem) = problem(served.get(&path).await).await;
        assert_eq!(found, status, "{path}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{path}: {problem}");
    }
    assert_eq!(served.get("/results").await.headers()["allow"], "POST");
    let large = served.post("/events").header("content-type", "application/json").body(vec![b' '; 2_000_000]);
    assert_eq!(problem(large.send().await.expect("answers")).await.0, 413);
}

#[tokio::test]
async fn every_answer_keeps_browsers_safe() {
    let served = Served::start().await;
    let receipt =
        served.stored("?test=t", archive(&[("results/x.html", b"<script>alert(1)</script>")])).await;
    let id = receipt["id"].as_str().expect("an id");
    for path in ["/", "/api/v1/runs", "/nothing", "/healthz"] {
        let response = served.get(path).await;
        let headers = response.headers();
        let policy = headers["content-security-policy"].to_str().expect("text");
        assert!(
            policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["referrer-policy"], "same-origin", "{path}");
    }
    // What a test wrote is never a page of ours.
    let file = served.get(&format!("/api/v1/runs/{id}/files/results/x.html?view=true")).await;
    assert_eq!(file.headers()["content-type"], "application/octet-stream");
    assert!(file.headers()["content-disposition"].to_str().expect("text").starts_with("attachment"));
    assert_eq!(file.headers()["content-security-policy"], "sandbox; default-src 'none'");
    assert_eq!(file.headers()["x-content-type-options"], "nosniff");
}

#[tokio::test]
async fn pages_of_other_sites_change_nothing() {
    let served = Served::with(|settings| settings.access.open_upload = true).await;
    let run = |name: &'static str, value: String| {
        served.client.post(served.url("/api/v1/tests/t/run")).header(name, value).send()
    };
    for (name, value, status) in [
        ("origin", "http://evil.example".to_owned(), 403),
        ("origin", "null".to_owned(), 403),
        ("sec-fetch-site", "cross-site".to_owned(), 403),
        ("origin", format!("http://{}", served.address), 202),
        ("sec-fetch-site", "same-origin".to_owned(), 202),
        ("user-agent", "a program".to_owned(), 202),
    ] {
        assert_eq!(run(name, value.clone()).await.expect("answers").status(), status, "{name}: {value}");
    }
}

async fn raw(served: &Served, bytes: &[u8]) -> String {
    let mut connection = TcpStream::connect(served.address).await.expect("connects");
    connection.write_all(bytes).await.expect("sends");
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.expect("is closed in good order");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn heads_are_bounded_in_size_and_time() {
    let served = Served::with(|settings| settings.limits.head_time = Duration::from_millis(200)).await;
    let large = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n", "x".repeat(40_000));
    let answer = raw(&served, large.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    // The client never ends its head: the service does not wait for ever.
    raw(&served, b"GET / HTTP/1.1\r\nHost: x\r\n").await;
    assert_eq!(served.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn a_body_that_stalls_is_cut_off() {
    let served = Served::with(|settings| settings.limits.stall_time = Duration::from_millis(100)).await;
    let head = format!(
        "POST /results?test=t HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
         Content-Type: application/gzip\r\nContent-Length: 1000\r\n\r\nabc",
        served.key
    );
    let answer = raw(&served, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
}

#[tokio::test]
async fn monitors_are_answered() {
    let served = Served::start().await;
    served.stored("?test=t", archive(&[("results/a.txt", b"a")])).await;
    served.refused("", archive(&[("results/a.txt", b"a")])).await;
    assert_eq!(served.get("/readyz").await.text().await.expect("a body"), "ready\n");
    let response = served.get("/metrics").await;
    assert!(
        response.headers()["content-type"]
            .to_str()
            .expect("text")
            .starts_with("application/openmetrics-text")
    );
    let text = response.text().await.expect("a body");
    for line in [
        "tugyard_serve_uploads_total{result=\"stored\"} 1",
        "tugyard_serve_uploads_total{result=\"refused\"} 1",
        "tugyard_serve_intake_duration_seconds_count 2",
        "tugyard_serve_event_streams 0",
        "tugyard_serve_errors_total 0",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[tokio::test]
async fn one_process_serves_a_state_directory() {
    let served = Served::start().await;
    let settings = result_service::ServiceSettings::new(served.state_dir().join("state"));
    let error = result_service::Service::open(settings).await.err().expect("refused");
    assert!(error.to_string().contains("another process serves"), "{error}");
}

#[test]
fn the_description_of_the_api_is_checked_in() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/openapi.json");
    let expected = result_service::openapi_json();
    let found = std::fs::read_to_string(path).unwrap_or_default();
    if found != expected {
        let rejected = std::env::temp_dir().join("tugyard-openapi.json");
        std::fs::write(&rejected, &expected).expect("room on the disk");
        panic!("docs/reference/openapi.json is not what the code says: take {} instead", rejected.display());
    }
    let document: Value = serde_json::from_str(&expected).expect("JSON");
    assert!(document["openapi"].as_str().expect("a version").starts_with("3."));
    for path in
        ["/results", "/events", "/api/v1/runs/{id}/files/{path}", "/api/v1/stream", "/api/v1/keys/{id}"]
    {
        assert!(document["paths"][path].is_object(), "{path} is missing");
    }
    let operations = document["paths"].as_object().expect("paths").values();
    let operations = operations.flat_map(|path| path.as_object().expect("operations").values());
    let mut ids: Vec<_> =
        operations.map(|operation| operation["operationId"].as_str().expect("an id")).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "an operation's id must be unique: {ids:?}");
    assert_eq!(document["paths"]["/results"]["post"]["parameters"][2]["name"], json!("docker.imagename"));
}
