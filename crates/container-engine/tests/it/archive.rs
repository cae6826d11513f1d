//! Paths out of containers: links inside the container's file system, and nowhere else.

use std::{collections::BTreeMap, io::Read};

use container_engine::{Engine, EngineError};
use futures_util::{StreamExt, TryStreamExt};

use crate::support::{Cleanup, connect};

/// All entries of the archive of a path, with their contents; links as `-> target`.
async fn entries(
    engine: &Engine,
    container: &str,
    path: &str,
) -> Result<BTreeMap<String, String>, EngineError> {
    let pieces: Vec<bytes::Bytes> = engine.archive(container, path).await?.try_collect().await?;
    let tar = pieces.concat();
    let mut archive = tar::Archive::new(&tar[..]);
    let mut all = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        if let Some(target) = entry.link_name().unwrap() {
            content = format!("-> {}", target.display());
        }
        all.insert(name, content);
    }
    Ok(all)
}

async fn container(docker: &testkit::Engine, cleanup: &mut Cleanup<'_>, script: &str) -> String {
    let name = cleanup.container("archive");
    docker.docker(&["run", "--name", &name, &docker.busybox(), "sh", "-ec", script]);
    name
}

#[tokio::test]
async fn a_results_directory_behind_links_is_found_inside_the_container() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let name = container(
        &docker,
        &mut cleanup,
        "mkdir -p /data/out /var/tests /real; echo ok > /data/out/r.xml
         ln -s /data/out /var/tests/absolute; ln -s ../../data/out /var/tests/relative
         ln -s /var/tests/absolute /chain; ln -s chain /chain2; ln -s /var/tests /real/up
         ln -s ../../../../../../data/out /escape; ln -s /data/out/r.xml /file",
    )
    .await;
    for path in [
        "/data/out",
        "/data/out/",
        "/data/out/.",
        "data/out",
        "/var/tests/absolute",
        "/var/tests/absolute/",
        "/var/tests/relative",
        "/chain",
        "/chain2",
        "/real/up/absolute",
        "/escape",
    ] {
        let found = entries(&engine, &name, path).await.unwrap_or_else(|e| panic!("{path}: {e:?}"));
        let expected: BTreeMap<_, _> =
            [("out/".to_owned(), String::new()), ("out/r.xml".to_owned(), "ok\n".to_owned())].into();
        assert_eq!(found, expected, "{path}");
    }
    let file = entries(&engine, &name, "/file").await.unwrap();
    assert_eq!(file, [("r.xml".to_owned(), "ok\n".to_owned())].into());
}

#[tokio::test]
async fn links_that_lead_out_or_nowhere_never_touch_the_host() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    // A file of the host that a container has not.
    let secret = tempfile::Builder::new().prefix("host-only-").tempfile().unwrap();
    std::fs::write(secret.path(), "the host's").unwrap();
    let host_path = secret.path().display().to_string();
    let name = container(
        &docker,
        &mut cleanup,
        &format!(
            "ln -s {host_path} /out; ln -s ../../../../../..{host_path} /out2; ln -s /nowhere /dangling
             ln -s /loop2 /loop1; ln -s /loop1 /loop2; ln -s self /self; ln -s /etc/passwd /passwd
             mkdir /results; ln -s {host_path} /results/inner"
        ),
    )
    .await;
    for path in ["/out", "/out2", "/dangling", "/missing", "/missing/deeper"] {
        let error = entries(&engine, &name, path).await.expect_err(path);
        assert!(
            matches!(&error, EngineError::NotFound { kind: "path", name: n } if n.contains(&name)),
            "{path}: {error}"
        );
    }
    for path in ["/loop1", "/self"] {
        let error = entries(&engine, &name, path).await.expect_err(path);
        assert!(
            matches!(&error, EngineError::Refused { message, .. } if message.contains("links")),
            "{path}: {error}"
        );
    }
    let passwd = entries(&engine, &name, "/passwd").await.unwrap();
    assert!(passwd["passwd"].lines().count() == 2, "the container's own, not the host's: {passwd:?}");
    let results = entries(&engine, &name, "/results").await.unwrap();
    assert_eq!(results["results/inner"], format!("-> {host_path}"), "a link inside stays a link");
}

#[tokio::test]
async fn a_missing_container_is_not_a_missing_path() {
    let docker = testkit::Engine::shared();
    let engine = connect(&docker).await;
    let name = testkit::unique("none");
    let error = entries(&engine, &name, "/results").await.expect_err("no such container");
    assert!(matches!(&error, EngineError::NotFound { kind: "container", name: n } if *n == name), "{error}");
}

#[tokio::test]
async fn a_link_into_a_volume_is_followed() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let name = cleanup.container("archive");
    let script = "echo ok > /data/r.xml; ln -s /data /results";
    docker.docker(&["run", "--name", &name, "--volume", "/data", &docker.busybox(), "sh", "-ec", script]);
    let found = entries(&engine, &name, "/results").await.unwrap();
    assert_eq!(found["data/r.xml"], "ok\n");
}

#[tokio::test]
async fn a_large_file_is_streamed() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let name = container(
        &docker,
        &mut cleanup,
        "mkdir /r; dd if=/dev/zero of=/r/big bs=1048576 count=64 2>/dev/null",
    )
    .await;
    let mut stream = engine.archive(&name, "/r").await.unwrap();
    let (mut total, mut largest) = (0, 0);
    while let Some(piece) = stream.next().await {
        let piece = piece.unwrap();
        total += piece.len();
        largest = largest.max(piece.len());
    }
    assert!(total > 64 << 20);
    assert!(largest < 4 << 20, "one piece of {largest} bytes");
}
