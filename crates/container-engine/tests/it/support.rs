//! What the tests of this crate share: connections, containers that remove themselves, a stand-in engine.

use std::{net::SocketAddr, sync::Arc};

use container_engine::{ConnectSettings, Engine};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Connects to an engine of the testkit.
pub(crate) async fn connect(engine: &testkit::Engine) -> Engine {
    connect_to(&engine.host()).await
}

pub(crate) async fn connect_to(host: &str) -> Engine {
    let settings = ConnectSettings { host: Some(host.to_owned()), ..Default::default() };
    Engine::connect(&settings).await.unwrap_or_else(|e| panic!("{host}: {e:?}"))
}

/// Objects of the shared engine that a test made; removed when dropped, by exact name.
pub(crate) struct Cleanup<'a> {
    engine: &'a testkit::Engine,
    objects: Vec<(&'static [&'static str], String)>,
}

impl<'a> Cleanup<'a> {
    pub(crate) fn new(engine: &'a testkit::Engine) -> Self {
        Self { engine, objects: Vec::new() }
    }

    /// A new container's name, removed with its anonymous volumes at the end.
    pub(crate) fn container(&mut self, stem: &str) -> String {
        self.named(&["rm", "--force", "--volumes"], stem)
    }

    pub(crate) fn network(&mut self, stem: &str) -> String {
        self.named(&["network", "rm"], stem)
    }

    pub(crate) fn volume(&mut self, stem: &str) -> String {
        self.named(&["volume", "rm", "--force"], stem)
    }

    pub(crate) fn image(&mut self, stem: &str) -> String {
        self.named(&["image", "rm", "--force"], stem)
    }

    fn named(&mut self, removal: &'static [&'static str], stem: &str) -> String {
        let name = testkit::unique(stem);
        self.objects.push((removal, name.clone()));
        name
    }
}

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        // Containers were often made after the networks and volumes they use.
        let last = |removal: &[&str]| removal[0] != "rm";
        self.objects.sort_by_key(|(removal, _)| last(removal));
        for (removal, name) in &self.objects {
            let _ = self.engine.try_docker(&[*removal, &[name]].concat());
        }
    }
}

/// An engine that is not there: answers each request by its line, e.g. `GET /v1.24/info`.
pub(crate) struct StandIn {
    pub(crate) address: SocketAddr,
    server: JoinHandle<()>,
}

/// A status and a JSON body.
pub(crate) type Answer = (u16, String);

impl StandIn {
    pub(crate) async fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = Arc::clone(&answer);
                tokio::spawn(async move { serve(stream, &*answer).await });
            }
        });
        Self { address, server }
    }

    pub(crate) fn host(&self) -> String {
        format!("tcp://{}", self.address)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(stream: TcpStream, answer: &(dyn Fn(&str) -> Answer + Send + Sync)) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut request, mut line) = (String::new(), String::new());
    stream.read_line(&mut request).await?;
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let request = request.trim().trim_end_matches(" HTTP/1.1");
    let (status, body) = answer(request);
    let head = format!(
        "HTTP/1.1 {status} Stand-in\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}
