//! Faithful copies on a real engine, whose own `docker inspect` is the judge.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use container_engine::{CopyPlan, CopyRequest, Engine, Lifecycle, faithful_copy};
use serde_json::{Value, json};

use crate::support::{Cleanup, connect};

/// What the Docker client shows of a container.
fn inspect(docker: &testkit::Engine, container: &str) -> Value {
    let text = docker.docker(&["inspect", "--type", "container", container]);
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

async fn plan_copy(engine: &Engine, original: &str, request: &CopyRequest) -> CopyPlan {
    let original = engine.inspect(original).await.unwrap();
    let made_from = engine.image(&original.image_id).await.ok();
    faithful_copy::plan(&original, made_from.as_ref(), request)
}

/// Makes a copy, and checks that nothing but the permitted differs.
async fn copy(docker: &testkit::Engine, engine: &Engine, original: &str, name: &str) -> CopyPlan {
    let label = format!("{name}-made-from");
    let labels = [(label.clone(), original.to_owned())].into();
    let request = CopyRequest { name: name.to_owned(), labels, ..Default::default() };
    let plan = plan_copy(engine, original, &request).await;
    engine.create(&plan).await.unwrap_or_else(|e| panic!("{e}\n{:#}", plan.create));
    assert_faithful(docker, original, name);
    assert_eq!(inspect(docker, name)["Config"]["Labels"][&label], original);
    plan
}

fn assert_faithful(docker: &testkit::Engine, original: &str, copy: &str) {
    let found = faithful_copy::differences(&inspect(docker, original), &inspect(docker, copy));
    assert!(found.is_empty(), "the copy differs:\n{}", found.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_with_everything() {
    let docker = testkit::Engine::private();
    let engine = connect(&docker).await;
    let image = docker.busybox();
    let host_dir = tempfile::tempdir().unwrap();
    let bind = host_dir.path().display().to_string();
    docker.docker(&["network", "create", "--subnet", "10.91.0.0/24", "front"]);
    docker.docker(&["network", "create", "--subnet", "10.92.0.0/24", "back"]);
    docker.docker(&["volume", "create", "named"]);
    let mount_bind = format!("type=bind,source={bind},target=/m-bind,readonly");
    let old_bind = format!("{bind}:/old-bind:ro");
    let mut arguments = vec!["create", "--name", "t1", "--restart", "on-failure:3", "--init"];
    arguments.extend(["--mount", &mount_bind, "--volume", &old_bind, "--volume", "named:/named"]);
    arguments.extend(["--volume", "/anonymous", "--mount", "type=volume,target=/m-anonymous"]);
    arguments.extend(["--mount", "type=volume,source=named,target=/m-named,volume-nocopy"]);
    arguments.extend([
        "--mount",
        "type=tmpfs,target=/m-tmpfs,tmpfs-size=65536",
        "--tmpfs",
        "/tmpfs:size=64k",
    ]);
    arguments.extend([
        "--memory",
        "64m",
        "--memory-reservation",
        "32m",
        "--memory-swap",
        "96m",
        "--cpus",
        "0.5",
    ]);
    arguments.extend([
        "--cpuset-cpus",
        "0",
        "--cpu-shares",
        "512",
        "--pids-limit",
        "50",
        "--shm-size",
        "32m",
    ]);
    arguments.extend(["--ulimit", "nofile=512:1024", "--oom-score-adj", "100", "--blkio-weight", "100"]);
    arguments.extend(["--sysctl", "net.core.somaxconn=128", "--device", "/dev/null:/dev/nothing:rw"]);
    arguments.extend([
        "--cap-add",
        "NET_ADMIN",
        "--cap-drop",
        "MKNOD",
        "--security-opt",
        "no-new-privileges",
    ]);
    arguments.extend(["--group-add", "nogroup", "--user", "0:0", "--workdir", "/work", "--ipc", "shareable"]);
    arguments.extend(["--health-cmd", "true", "--health-interval", "5s", "--health-retries", "4"]);
    arguments.extend(["--health-start-period", "2s", "--health-timeout", "3s"]);
    arguments.extend(["--stop-timeout", "3", "--stop-signal", "SIGINT"]);
    arguments.extend(["--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "labels=team"]);
    arguments.extend(["--hostname", "shop", "--domainname", "example"]);
    arguments.extend([
        "--network",
        "front",
        "--network-alias",
        "web",
        "--network-alias",
        "www",
        "--ip",
        "10.91.0.7",
    ]);
    arguments.extend(["--dns", "10.0.0.53", "--dns-search", "example", "--dns-option", "ndots:2"]);
    arguments.extend(["--add-host", "db:10.0.0.9", "--publish", "127.0.0.1:18080:80", "--publish", "81"]);
    arguments.extend([
        "--expose",
        "82",
        "--env",
        "MODE=test",
        "--label",
        "team=shop",
        "--label",
        "tugbot.test",
    ]);
    arguments.extend(["--entrypoint", "/bin/sh", "--cgroup-parent", "/shop", "--interactive", &image, "-c"]);
    arguments.push("cat /proc/sys/net/core/somaxconn; hostname; ip -o -4 addr | grep -c 10.9");
    docker.docker(&arguments);
    docker.docker(&["network", "connect", "--ip", "10.92.0.7", "--alias", "deep", "back", "t1"]);

    // Before it has ever run, and after.
    copy(&docker, &engine, "t1", "fresh").await;
    docker.docker(&["rm", "fresh"]);
    docker.docker(&["start", "t1"]);
    docker.docker(&["wait", "t1"]);
    let plan = copy(&docker, &engine, "t1", "t1-copy").await;
    assert_eq!(plan.remarks, ["the restart policy on-failure is not copied: a copy runs once"]);
    engine.start("t1-copy").await.unwrap();
    assert_eq!(engine.wait("t1-copy").await.unwrap(), 0);
    assert_faithful(&docker, "t1", "t1-copy");
    let said = |name| docker.docker(&["logs", name]);
    assert_eq!(said("t1-copy"), "128\nshop\n2");
    assert_eq!(said("t1-copy"), said("t1"));

    // A copy of the copy is as good.
    engine.remove("t1", true).await.unwrap();
    copy(&docker, &engine, "t1-copy", "t1-copy-2").await;
    engine.start("t1-copy-2").await.unwrap();
    assert_eq!(engine.wait("t1-copy-2").await.unwrap(), 0);
}

/// The Docker client here refuses a MAC address towards an engine before API 1.44; the engine itself takes it.
async fn create_with_mac(engine: &Engine, name: &str, image: &str, mac: &str) {
    let create = json!({
        "Image": image, "Cmd": ["sleep", "600"], "MacAddress": mac, "ExposedPorts": { "80/tcp": {} },
        "HostConfig": { "NetworkMode": "shop", "PortBindings": { "80/tcp": [{ "HostPort": "18081" }] } },
        "NetworkingConfig": { "EndpointsConfig": { "shop": { "IPAMConfig": { "IPv4Address": "10.93.0.7" } } } },
    });
    let plan = CopyPlan { name: name.to_owned(), create, connect: Vec::new(), remarks: Vec::new() };
    engine.create(&plan).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_original_that_runs_keeps_what_it_holds() {
    let docker = testkit::Engine::private();
    let engine = connect(&docker).await;
    let image = docker.busybox();
    docker.docker(&["network", "create", "--subnet", "10.93.0.0/24", "shop"]);
    create_with_mac(&engine, "t1", &image, "02:00:00:00:00:98").await;
    engine.start("t1").await.unwrap();
    engine.kill("t1", "SIGKILL").await.unwrap();
    engine.wait("t1").await.unwrap();
    let plan = copy(&docker, &engine, "t1", "t1-after").await;
    assert_eq!(plan.remarks, [""; 0], "it holds nothing any more");
    engine.start("t1").await.unwrap();

    let plan = copy(&docker, &engine, "t1", "t1-copy").await;
    assert_eq!(plan.remarks.len(), 3, "{:?}", plan.remarks);
    engine.start("t1-copy").await.expect("nothing is in its way");
    let copied = inspect(&docker, "t1-copy");
    let port = &copied["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"];
    assert!(port.as_str().is_some_and(|port| port != "18081" && !port.is_empty()), "{port}");
    assert_ne!(copied["NetworkSettings"]["Networks"]["shop"]["IPAddress"], "10.93.0.7");
    assert_ne!(copied["NetworkSettings"]["Networks"]["shop"]["MacAddress"], "02:00:00:00:00:98");
}

#[tokio::test]
async fn every_kind_of_network_mode() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let image = cleanup.image("exposes");
    docker.import(&image, &testkit::engine::busybox_layer(), &["EXPOSE 80", "ENV PATH=/bin"]);
    let other = cleanup.container("other");
    docker.docker(&["run", "--detach", "--name", &other, "--hostname", "other", &image, "sleep", "600"]);
    let (shares, link) = (format!("container:{other}"), format!("{other}:db"));
    for (mode, arguments) in [
        ("default", &[][..]),
        ("container", &["--network", &shares][..]),
        ("host", &["--network", "host"][..]),
        ("host with uts", &["--network", "host", "--uts", "host"][..]),
        ("uts", &["--uts", "host"][..]),
        ("none", &["--network", "none"][..]),
        ("bridge with link", &["--link", &link][..]),
        ("pid, ipc of another", &["--pid", &shares, "--ipc", "host"][..]),
    ] {
        let (name, copied) = (cleanup.container("mode"), cleanup.container("mode-copy"));
        let create = [&["create", "--name", &name][..], arguments, &[&image, "cat", "/etc/hosts"]].concat();
        docker.docker(&create);
        engine.start(&name).await.unwrap();
        assert_eq!(engine.wait(&name).await.unwrap(), 0, "{mode}");
        let plan = copy(&docker, &engine, &name, &copied).await;
        assert_eq!(plan.remarks, [""; 0], "{mode}");
        engine.start(&copied).await.unwrap_or_else(|e| panic!("{mode}: {e}"));
        assert_eq!(engine.wait(&copied).await.unwrap(), 0, "{mode}");
        if mode == "bridge with link" {
            assert!(docker.docker(&["logs", &copied]).contains("db"), "the link works");
        }
    }
}

#[tokio::test]
async fn a_copy_outlives_its_run_even_of_an_original_that_would_not() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let (name, copied) = (cleanup.container("rm"), cleanup.container("rm-copy"));
    docker.docker(&["create", "--rm", "--name", &name, &docker.busybox(), "true"]);
    assert!(engine.inspect(&name).await.unwrap().auto_remove);
    copy(&docker, &engine, &name, &copied).await;
    engine.start(&copied).await.unwrap();
    engine.wait(&copied).await.unwrap();
    assert_eq!(engine.inspect(&copied).await.unwrap().lifecycle, Lifecycle::Exited);

    let (name, copied) = (cleanup.container("always"), cleanup.container("always-copy"));
    docker.docker(&["create", "--restart", "always", "--name", &name, &docker.busybox(), "true"]);
    copy(&docker, &engine, &name, &copied).await;
    engine.start(&copied).await.unwrap();
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(60), engine.wait(&copied)).await.unwrap().unwrap(),
        0
    );
    assert_eq!(engine.inspect(&copied).await.unwrap().lifecycle, Lifecycle::Exited);
}

#[tokio::test]
async fn an_anonymous_volume_is_fresh_and_a_named_one_shared() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    let (name, copied) = (cleanup.container("vol"), cleanup.container("vol-copy"));
    let (image, volume) = (cleanup.image("vol-image"), cleanup.volume("vol-named"));
    docker.import(&image, &testkit::engine::busybox_layer(), &["VOLUME /of-image", "ENV PATH=/bin"]);
    let script = "for d in /of-image /given /mounted /named; do ls $d; touch $d/been-here; done";
    let named = format!("{volume}:/named");
    let mut arguments = vec!["run", "--name", &name, "--volume", "/given", "--volume", &named];
    arguments.extend(["--mount", "type=volume,target=/mounted", &image, "sh", "-c", script]);
    docker.docker(&arguments);
    copy(&docker, &engine, &name, &copied).await;
    engine.start(&copied).await.unwrap();
    assert_eq!(engine.wait(&copied).await.unwrap(), 0);
    assert_eq!(docker.docker(&["logs", &copied]), "been-here", "once, of the named volume");
}

/// Two images of one tag, one after the other.
const OLD: &str = r#"
ENV MODE=old ONLY=old
LABEL version=1 only-old=1
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo old"]
WORKDIR /old
USER nobody
EXPOSE 80
VOLUME /old-data
STOPSIGNAL SIGQUIT
SHELL ["/bin/sh", "-ec"]
HEALTHCHECK --interval=7s CMD ["true"]
"#;
const NEW: &str = r#"
ENV MODE=new MORE=new
LABEL version=2 only-new=1
ENTRYPOINT ["/bin/ash", "-c"]
CMD ["echo new"]
WORKDIR /new
USER root
EXPOSE 81
VOLUME /new-data
STOPSIGNAL SIGINT
SHELL ["/bin/ash", "-ec"]
HEALTHCHECK --interval=9s CMD ["false"]
"#;

/// Builds an image from busybox with the classic builder: importing knows not all directives.
fn build(docker: &testkit::Engine, image: &str, directives: &str) {
    let mut child = Command::new("docker")
        .args(["--host", &docker.host(), "build", "--quiet", "--tag", image, "-"])
        .env("DOCKER_BUILDKIT", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let directives = format!("FROM {}\n{directives}", docker.busybox());
    child.stdin.take().unwrap().write_all(directives.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A copy on a newer image must be what the same command line makes of that image.
#[tokio::test]
async fn on_a_newer_image_only_what_was_given_by_hand_is_kept() {
    let docker = testkit::Engine::shared();
    let mut cleanup = Cleanup::new(&docker);
    let engine = connect(&docker).await;
    for (case, arguments, command) in [
        ("nothing given", &[][..], &[][..]),
        ("a command", &[][..], &["echo mine"][..]),
        ("environment", &["--env", "MODE=mine", "--env", "MINE=1"][..], &[][..]),
        ("an entry point", &["--entrypoint", "/bin/echo"][..], &["mine"][..]),
        ("an entry point alone", &["--entrypoint", "/bin/true"][..], &[][..]),
        ("no entry point", &["--entrypoint", ""][..], &["echo", "mine"][..]),
        ("labels", &["--label", "version=mine", "--label", "mine=1"][..], &[][..]),
        ("user and directory", &["--user", "0", "--workdir", "/mine"][..], &[][..]),
        ("ports and volumes", &["--expose", "99", "--volume", "/mine"][..], &[][..]),
        ("signal", &["--stop-signal", "SIGHUP"][..], &[][..]),
        ("part of the health check", &["--health-interval", "3s"][..], &[][..]),
        ("no health check", &["--no-healthcheck"][..], &[][..]),
    ] {
        let image = cleanup.image("default");
        let (name, copied) = (cleanup.container("default"), cleanup.container("default-copy"));
        let create = |name: &str| {
            docker.docker(&[&["create", "--name", name][..], arguments, &[image.as_str()], command].concat());
        };
        build(&docker, &image, OLD);
        // A second name, by which the old image can be removed at the end.
        docker.docker(&["tag", &image, &cleanup.image("default-old")]);
        create(&name);
        let same = cleanup.container("default-same");
        copy(&docker, &engine, &name, &same).await;

        build(&docker, &image, NEW);
        // Unasked for, the copy stays on the old image, whose name is gone.
        let moved = cleanup.container("default-moved");
        copy(&docker, &engine, &name, &moved).await;
        assert!(
            inspect(&docker, &moved)["Config"]["Image"].as_str().unwrap().starts_with("sha256:"),
            "{case}"
        );

        let request = CopyRequest { name: copied.clone(), image: Some(image.clone()), ..Default::default() };
        let plan = plan_copy(&engine, &name, &request).await;
        engine.create(&plan).await.unwrap_or_else(|e| panic!("{case}: {e}"));
        let expected = cleanup.container("default-expected");
        create(&expected);
        let found = faithful_copy::differences(&inspect(&docker, &expected), &inspect(&docker, &copied));
        assert!(found.is_empty(), "{case}:\n{}", found.join("\n"));
    }
}
