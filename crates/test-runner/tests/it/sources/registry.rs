//! Debian's registry on a loopback port.

use std::{
    fs::{self, File},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

/// A registry; ends when dropped.
pub(super) struct Registry {
    home: TempDir,
    process: Child,
    port: u16,
}

impl Registry {
    pub(super) async fn start() -> Self {
        // It takes no port 0: pick a free one, and another if somebody was faster.
        for _ in 0..5 {
            let mut registry = Self::on(free_port());
            if registry.is_up().await {
                return registry;
            }
        }
        panic!("docker-registry does not start: run `cargo xtask setup`");
    }

    fn on(port: u16) -> Self {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        let config = format!(
            "version: 0.1\n\
             log: {{level: warn, accesslog: {{disabled: false}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n",
            data.display()
        );
        fs::write(home.path().join("config.yml"), config).unwrap();
        let log = File::create(home.path().join("log")).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(home.path().join("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("docker-registry is installed: run `cargo xtask setup`");
        Self { home, process, port }
    }

    /// Waits until it answers; `false` when it has ended instead.
    async fn is_up(&mut self) -> bool {
        let client = testkit::http_client();
        let url = format!("http://127.0.0.1:{}/v2/", self.port);
        let process = std::sync::Mutex::new(&mut self.process);
        testkit::eventually("the registry answers", Duration::from_secs(30), || async {
            if process.lock().unwrap().try_wait().unwrap().is_some() {
                return Some(false);
            }
            let answer = client.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(true)
        })
        .await
    }

    /// `127.0.0.1:port/name:tag`; an engine takes loopback registries without TLS.
    pub(super) fn reference(&self, name: &str, tag: &str) -> String {
        format!("127.0.0.1:{}/{name}:{tag}", self.port)
    }

    /// How often it was asked what stands behind a tag.
    pub(super) fn asked(&self, tag: &str) -> usize {
        let log = fs::read_to_string(self.home.path().join("log")).unwrap();
        let asked = format!("/manifests/{tag} ");
        log.lines().filter(|line| line.contains(&asked) && !line.contains("\"PUT ")).count()
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
