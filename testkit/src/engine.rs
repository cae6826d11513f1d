//! Real Docker Engines: the machine's own, and private ones in a network namespace of their own.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
const BUSYBOX_IMAGE: &str = "tugyard-testkit/busybox:1";

/// An engine that answers on a Unix socket.
#[derive(Debug)]
pub struct Engine {
    socket: PathBuf,
    private: Option<Private>,
}

/// A `dockerd` that belongs to one test.
#[derive(Debug)]
struct Private {
    /// Data root, exec root, socket and log; kept (and named) when the test panics.
    home: Option<TempDir>,
    daemon: Child,
    arguments: Vec<String>,
}

impl Engine {
    /// The machine's engine. Others use it at the same time: name objects with [`crate::unique`] and leave what is not
    /// yours alone.
    pub fn shared() -> Self {
        let mut engine = Self { socket: DEFAULT_SOCKET.into(), private: None };
        engine.wait_until_up(Duration::from_secs(5)).unwrap_or_else(|e| {
            panic!("no Docker Engine answers on {DEFAULT_SOCKET} ({e:#}): run `cargo xtask setup`")
        });
        engine
    }

    /// An engine of the test's own, with nothing in it, in its own network namespace. Ended when dropped.
    pub fn private() -> Self {
        Self::private_with(&[])
    }

    /// Like [`Engine::private`], with more arguments for `dockerd`.
    pub fn private_with(arguments: &[&str]) -> Self {
        let home = tempfile::Builder::new().prefix("ty-").tempdir().expect("a temporary directory");
        let socket = home.path().join("d.sock");
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let daemon = spawn_daemon(home.path(), &arguments).expect("dockerd starts: run `cargo xtask setup`");
        let mut engine = Self { socket, private: Some(Private { home: Some(home), daemon, arguments }) };
        if let Err(e) = engine.wait_until_up(Duration::from_secs(60)) {
            let log = fs::read_to_string(engine.home().join("log")).unwrap_or_default();
            engine.end(Signal::KILL);
            panic!("the private Docker Engine did not come up: {e:#}\n{log}");
        }
        engine
    }

    /// Path of the socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The socket as `DOCKER_HOST` has it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Process id of a private engine's daemon.
    pub fn pid(&self) -> u32 {
        self.private.as_ref().expect("only a private engine's pid is known").daemon.id()
    }

    /// Runs the Docker client and returns what it printed, trimmed. Panics with its error otherwise.
    pub fn docker(&self, arguments: &[&str]) -> String {
        self.try_docker(arguments).unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// Runs the Docker client and returns what it printed, trimmed.
    pub fn try_docker(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("docker").arg("--host").arg(self.host()).args(arguments).output()?;
        ensure!(
            output.status.success(),
            "docker {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A small image with a shell and the usual tools, made from the machine's static busybox.
    pub fn busybox(&self) -> String {
        if self.try_docker(&["image", "inspect", BUSYBOX_IMAGE]).is_err() {
            self.import(BUSYBOX_IMAGE, &busybox_layer(), &["CMD [\"/bin/sh\"]", "ENV PATH=/bin"]);
        }
        BUSYBOX_IMAGE.to_owned()
    }

    /// Imports a tar as an image, with changes in Dockerfile form (`LABEL a=b`).
    pub fn import(&self, reference: &str, layer: &[u8], changes: &[&str]) {
        let mut command = Command::new("docker");
        command.arg("--host").arg(self.host()).arg("import");
        for change in changes {
            command.args(["--change", change]);
        }
        let mut child = command
            .args(["-", reference])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the Docker client is installed: run `cargo xtask setup`");
        child.stdin.take().expect("stdin is piped").write_all(layer).expect("the engine takes the layer");
        assert!(child.wait().expect("docker import ends").success(), "docker import {reference} failed");
    }

    /// Stops a private engine and starts it again on the same data. Containers without live-restore end.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// Stops a private engine; its data stay.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Kills a private engine as a crash would; its data stay.
    pub fn crash(&mut self) {
        self.end(Signal::KILL);
    }

    /// Starts a stopped private engine again.
    pub fn start(&mut self) {
        let home = self.home().to_owned();
        let _ = fs::remove_file(home.join("pid"));
        // A crash leaves this one behind, and a containerd that nobody has reaped would pass for alive.
        let _ = fs::remove_file(home.join("exec/containerd/containerd.pid"));
        let private = self.private.as_mut().expect("only a private engine can be started");
        private.daemon = spawn_daemon(&home, &private.arguments).expect("dockerd starts again");
        self.wait_until_up(Duration::from_secs(60)).expect("the private engine comes up again");
    }

    fn home(&self) -> &Path {
        let private = self.private.as_ref().expect("only a private engine has a home");
        private.home.as_ref().expect("the home lives as long as the engine").path()
    }

    fn end(&mut self, signal: Signal) {
        let private = self.private.as_mut().expect("only a private engine can be stopped");
        if private.daemon.try_wait().ok().flatten().is_some() {
            return;
        }
        let pid = i32::try_from(private.daemon.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, signal));
        let deadline = Instant::now() + Duration::from_secs(20);
        while private.daemon.try_wait().ok().flatten().is_none() {
            if Instant::now() > deadline {
                let _ = private.daemon.kill();
                let _ = private.daemon.wait();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Some(home) = &private.home {
            end_leftovers(home.path());
        }
    }

    fn wait_until_up(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self.private.as_mut().and_then(|p| p.daemon.try_wait().ok().flatten());
            match ping(&self.socket) {
                Ok(()) => return Ok(()),
                Err(_) if ended.is_some() => bail!("dockerd ended at once"),
                Err(e) if Instant::now() > deadline => return Err(e),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.private.is_none() {
            return;
        }
        self.end(Signal::TERM);
        let home = self.private.as_mut().and_then(|p| p.home.take());
        if let (true, Some(home)) = (std::thread::panicking(), home) {
            let log = home.path().join("log");
            let tail = fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = tail.lines().rev().take(15).collect();
            #[allow(clippy::print_stderr)]
            {
                eprintln!("last lines of the private engine's log, newest first:\n{}", tail.join("\n"));
            }
        }
    }
}

fn spawn_daemon(home: &Path, arguments: &[String]) -> Result<Child> {
    // An own, empty configuration: the machine's must not apply.
    fs::write(home.join("daemon.json"), "{}")?;
    let log = File::options().create(true).append(true).open(home.join("log"))?;
    let path = |name: &str| home.join(name).display().to_string();
    // `setpriv` lets the daemon end with this process even when this process is killed; the namespace keeps its
    // bridge and firewall rules away from those of other engines.
    Command::new("setpriv")
        .args([
            "--pdeathsig",
            "TERM",
            "unshare",
            "--net",
            "sh",
            "-c",
            "ip link set lo up && exec dockerd \"$@\"",
            "dockerd",
        ])
        .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
        .args(["--host", &format!("unix://{}", path("d.sock"))])
        .args(["--log-level", "warn", "--shutdown-timeout", "2", "--config-file", &path("daemon.json")])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start dockerd through setpriv and unshare")
}

/// What a killed daemon leaves behind: its containerd, its shims, its mounts. All are known by the home's path.
fn end_leftovers(home: &Path) {
    let mine = home.display().to_string();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        let is_mine = command.contains("containerd") && command.contains(&mine);
        if let (true, Some(pid)) = (is_mine, Pid::from_raw(pid)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for mount in mounts.lines().rev().filter_map(|l| l.split(' ').nth(1)).filter(|m| m.starts_with(&mine)) {
        let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
    }
}

/// One `GET /_ping` over the socket.
fn ping(socket: &Path) -> Result<()> {
    use std::{io::Read, os::unix::net::UnixStream};

    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.1 200") {
        bail!("/_ping answered {:?}", answer.lines().next());
    }
    Ok(())
}

/// A layer with busybox and a link for each of its tools.
pub fn busybox_layer() -> Vec<u8> {
    let binary = fs::read("/bin/busybox").expect("busybox-static is installed: run `cargo xtask setup`");
    let tools = Command::new("/bin/busybox").arg("--list").output().expect("busybox lists its tools");
    let mut layer = tar::Builder::new(Vec::new());
    for (directory, mode) in
        [("bin", 0o755), ("tmp", 0o1777), ("etc", 0o755), ("var", 0o755), ("root", 0o700)]
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        layer.append_data(&mut header, format!("{directory}/"), &[][..]).expect("memory does not fail");
    }
    let mut file = |name: &str, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        layer.append_data(&mut header, name, content).expect("memory does not fail");
    };
    file("bin/busybox", 0o755, &binary);
    file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n");
    file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n");
    for tool in String::from_utf8_lossy(&tools.stdout).lines().filter(|t| !t.is_empty() && *t != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        layer.append_link(&mut header, format!("bin/{tool}"), "busybox").expect("memory does not fail");
    }
    layer.into_inner().expect("memory does not fail")
}
