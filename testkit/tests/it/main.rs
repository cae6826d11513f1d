//! The servers of the test kit do what the tests of the house rely on.

use std::time::Duration;

use testkit::{
    Engine,
    proxy::{Mode, Proxy},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[test]
fn a_private_engine_runs_containers_and_keeps_them_over_a_restart() {
    let mut engine = Engine::private();
    let image = engine.busybox();
    assert_eq!(engine.docker(&["run", "--name", "hello", &image, "echo", "hello"]), "hello");
    engine.restart();
    assert_eq!(engine.docker(&["inspect", "--format", "{{.State.ExitCode}}", "hello"]), "0");
    assert_eq!(engine.docker(&["ps", "-aq"]).lines().count(), 1);
}

#[tokio::test]
async fn a_proxy_cuts_after_the_given_number_of_bytes_and_refuses() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::tcp(server.local_addr().unwrap()).await;
    proxy.set(Mode::CutAfter(4));
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut at_server, _) = server.accept().await.unwrap();
    client.write_all(b"abcd").await.unwrap();
    let mut four = [0; 4];
    at_server.read_exact(&mut four).await.unwrap();
    client.write_all(b"e").await.unwrap();
    let rest = tokio::time::timeout(Duration::from_secs(5), at_server.read(&mut four)).await.unwrap();
    assert!(matches!(rest, Ok(0) | Err(_)), "the fifth byte must not arrive: {rest:?}");
    proxy.set(Mode::Refuse);
    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(matches!(refused.read(&mut four).await, Ok(0) | Err(_)));
    assert_eq!(proxy.connections(), 2);
}
