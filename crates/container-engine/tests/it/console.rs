//! Consoles of real containers.

use container_engine::{Engine, LogSource};
use futures_util::{StreamExt, TryStreamExt};

use crate::support::{Cleanup, connect};

async fn console(engine: &Engine, container: &str, follow: bool) -> (String, String) {
    let chunks: Vec<_> = engine.logs(container, follow).await.unwrap().try_collect().await.unwrap();
    let text = |source| {
        let of = chunks.iter().filter(|chunk: &&container_engine::LogChunk| chunk.source == source);
        String::from_utf8(of.flat_map(|chunk| chunk.bytes.to_vec()).collect()).unwrap()
    };
    (text(LogSource::Stdout), text(LogSource::Stderr))
}

#[tokio::test]
async fn both_outputs_are_told_apart() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let name = cleanup.container("console");
    let script = "echo out; echo bad >&2; printf 'no end'; seq 1 20000 >&2";
    docker.docker(&["run", "--detach", "--name", &name, &docker.busybox(), "sh", "-c", script]);
    engine.wait(&name).await.unwrap();
    let (out, bad) = console(&engine, &name, false).await;
    assert_eq!(out, "out\nno end");
    assert_eq!(bad.lines().count(), 20_001);
    assert!(bad.starts_with("bad\n1\n") && bad.ends_with("\n20000\n"));
}

#[tokio::test]
async fn a_terminal_is_one_output_whatever_its_bytes_are() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let name = cleanup.container("console");
    // These bytes would pass for the header of a frame.
    let script = r"printf '\001\000\000\000\000\000\000\005ab'; echo bad >&2";
    docker.docker(&["run", "--detach", "--tty", "--name", &name, &docker.busybox(), "sh", "-c", script]);
    engine.wait(&name).await.unwrap();
    let (out, bad) = console(&engine, &name, false).await;
    assert_eq!((out.as_str(), bad.as_str()), ("\u{1}\0\0\0\0\0\0\u{5}abbad\r\n", ""));
}

#[tokio::test]
async fn following_ends_with_the_container() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let name = cleanup.container("console");
    let script = "echo first; while [ ! -e /go ]; do sleep 0.02; done; echo last";
    docker.docker(&["run", "--detach", "--name", &name, &docker.busybox(), "sh", "-c", script]);
    let mut log = engine.logs(&name, true).await.unwrap();
    assert_eq!(&log.next().await.unwrap().unwrap().bytes[..], b"first\n");
    docker.docker(&["exec", &name, "touch", "/go"]);
    assert_eq!(&log.next().await.unwrap().unwrap().bytes[..], b"last\n");
    assert!(log.next().await.is_none());
}
