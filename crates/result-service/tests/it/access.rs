//! Keys, scopes, doors that stand open, and guessing.

use reqwest::header::HeaderValue;
use result_service::Scope;
use serde_json::{Value, json};

use crate::served::{Served, archive, problem};

fn small() -> Vec<u8> {
    archive(&[("results/a.txt", b"a")])
}

#[tokio::test]
async fn each_scope_opens_its_own_doors() {
    let served = Served::with(|settings| settings.access.open_read = false).await;
    let keys = [
        (served.key.clone(), [201, 403, 403]),
        (served.key_with(&[Scope::Read]).await, [403, 200, 403]),
        (served.key_with(&[Scope::Admin]).await, [201, 200, 200]),
        (served.key_with(&[Scope::Upload, Scope::Read]).await, [201, 200, 403]),
    ];
    for (key, expected) in keys {
        let upload =
            served.client.post(served.url("/results?test=t")).header("content-type", "application/gzip");
        let upload = upload.body(small()).bearer_auth(&key).send().await.expect("answers").status();
        let mut statuses = vec![upload.as_u16()];
        for path in ["/api/v1/runs", "/api/v1/keys"] {
            let response = served.client.get(served.url(path)).header("X-Api-Key", &key).send();
            statuses.push(response.await.expect("answers").status().as_u16());
        }
        assert_eq!(statuses, expected);
    }
    for path in ["/", "/api/v1/runs", "/api/v1/stream", "/api/v1/events", "/api/v1/tests", "/api/v1/keys"] {
        let response = served.get(path).await;
        assert_eq!(response.status(), 401, "{path}");
        assert!(response.headers()["www-authenticate"].to_str().expect("text").starts_with("Bearer"));
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(served.get(path).await.status(), 200, "{path}");
    }
    // Browsers can only ask for a name and a password: the password is the key.
    let key = served.key_with(&[Scope::Read]).await;
    let page = served.client.get(served.url("/")).basic_auth("anyone", Some(key)).send();
    assert_eq!(page.await.expect("answers").status(), 200);
}

#[tokio::test]
async fn doors_can_stand_open() {
    let served = Served::with(|settings| settings.access.open_upload = true).await;
    let upload = served.client.post(served.url("/results?test=t")).header("content-type", "application/gzip");
    assert_eq!(upload.body(small()).send().await.expect("answers").status(), 201);
    let event = served.client.post(served.url("/events")).json(&json!({"Type": "image", "Action": "pull"}));
    assert_eq!(event.send().await.expect("answers").status(), 202);
    assert_eq!(served.get("/api/v1/runs").await.status(), 200);
    assert_eq!(served.get("/api/v1/keys").await.status(), 401);
}

#[tokio::test]
async fn without_a_key_nothing_is_written() {
    let served = Served::start().await;
    for path in ["/results?test=t", "/events", "/api/v1/tests/t/run", "/api/v1/keys"] {
        let request =
            served.client.post(served.url(path)).header("content-type", "application/json").body("{}");
        let (status, problem) = problem(request.send().await.expect("answers")).await;
        assert_eq!(status, 401, "{path}: {problem}");
    }
    assert_eq!(served.count("runs").await, 0);
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let served = Served::start().await;
    let request =
        served.client.post(served.url("/results?test=t")).header("content-type", "application/gzip");
    let response = request.bearer_auth("ty_wrong").body(vec![0; 40_000_000]).send().await.expect("answers");
    assert_eq!(problem(response).await.0, 401);
}

#[tokio::test]
async fn keys_are_made_shown_once_and_revoked() {
    let served = Served::start().await;
    let admin = served.key_with(&[Scope::Admin]).await;
    let create = served.client.post(served.url("/api/v1/keys")).bearer_auth(&admin);
    let response = create.json(&json!({"name": "ci", "scopes": ["upload"]})).send().await.expect("answers");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["cache-control"]),
        (201, &HeaderValue::from_static("no-store"))
    );
    let made: Value = response.json().await.expect("JSON");
    let (key, id) = (made["key"].as_str().expect("a key"), made["id"].as_str().expect("an id"));
    assert!(key.starts_with("ty_") && key.starts_with(id) && key.len() == 67, "{key}");

    let upload = || {
        let request =
            served.client.post(served.url("/results?test=t")).header("content-type", "application/gzip");
        request.bearer_auth(key).body(small()).send()
    };
    assert_eq!(upload().await.expect("answers").status(), 201);

    let list = || async {
        let response = served.client.get(served.url("/api/v1/keys")).bearer_auth(&admin).send();
        response.await.expect("answers").text().await.expect("a body")
    };
    let listed = list().await;
    assert!(!listed.contains(key), "{listed}");
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let row = listed["items"]
        .as_array()
        .expect("items")
        .iter()
        .find(|row| row["id"] == id)
        .expect("listed")
        .clone();
    assert_eq!(
        (&row["name"], &row["scopes"], &row["revoked_at"]),
        (&json!("ci"), &json!(["upload"]), &json!(null))
    );
    assert!(row["last_used_at"].is_string(), "{row}");

    // The secret is in no file of the state directory.
    for entry in std::fs::read_dir(served.state_dir().join("state")).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let bytes = std::fs::read(&path).expect("reads");
            assert!(!bytes.windows(key.len()).any(|window| window == key.as_bytes()), "{}", path.display());
        }
    }

    let revoke =
        |id: &str| served.client.delete(served.url(&format!("/api/v1/keys/{id}"))).bearer_auth(&admin).send();
    assert_eq!(revoke(id).await.expect("answers").status(), 204);
    assert_eq!(revoke("ty_00000000").await.expect("answers").status(), 404);
    let (status, problem) = problem(upload().await.expect("answers")).await;
    assert_eq!((status, &problem["detail"]), (401, &json!("this key was revoked")));

    for bad in [json!({"name": "", "scopes": ["read"]}), json!({"name": "x", "scopes": []})] {
        let create = served.client.post(served.url("/api/v1/keys")).bearer_auth(&admin).json(&bad);
        assert_eq!(create.send().await.expect("answers").status(), 422, "{bad}");
    }
}

#[tokio::test]
async fn guessing_is_cut_short_and_harms_nobody_else() {
    let served = Served::with(|settings| settings.limits.wrong_keys = 5).await;
    assert_eq!(served.upload("?test=t", small()).send().await.expect("answers").status(), 201);
    let guess = |n: usize| {
        let key = format!("ty_{n:064x}");
        served.client.get(served.url("/api/v1/runs")).bearer_auth(key).send()
    };
    for n in 0..5 {
        assert_eq!(guess(n).await.expect("answers").status(), 401);
    }
    let response = guess(6).await.expect("answers");
    let wait: u64 = response.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(problem(response).await.0, 429);
    // A key that was right before still is, and so is no key at all where none is needed.
    assert_eq!(served.upload("?test=t", small()).send().await.expect("answers").status(), 201);
    assert_eq!(served.get("/api/v1/runs").await.status(), 200);
}
