//! Results directories that are not what a collector would like to find, in a real container.

use test_results::upload::EntryKind;
use testkit::Engine;

use crate::{
    harness::{Home, Running, connect},
    sink::Sink,
};

const SCRIPT: &str = r#"
mkdir -p /real/results && ln -s /real/results /var/tests && cd /real/results
echo ok > junit.xml
ln -s /etc/passwd passwd.xml
ln -s ../../../../etc up.xml
ln -s junit.xml latest.xml
ln junit.xml second-name.xml
mkfifo fifo.xml
mknod null.xml c 1 3
touch "$(printf 'odd\377\376name.xml')"
deep=.
for i in $(seq 1 60); do deep=$deep/directory-$i; done
mkdir -p $deep && echo deep > $deep/deep.xml
for i in $(seq 61 70); do deep=$deep/directory-$i; done
mkdir -p $deep && echo deep > $deep/too-deep.xml
long=$(printf 'n%.0s' $(seq 1 240))
echo long > $long.xml
mkdir many && seq 1 5000 | while read n; do echo $n > many/$n.xml; done
truncate -s 50000000 sparse.bin
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_devices_odd_names_and_many_files_are_safe() {
    let engine = Engine::private();
    let (home, sink) = (Home::new(), Sink::start().await);
    let collector = Running::start(home.container_settings(sink.url()), Some(connect(engine.host()).await));
    let image = engine.busybox();
    let script = SCRIPT.replace("/var/tests", "/results");
    let labels = ["--label", "tugbot.test", "--label", "tugbot.results=/results"];
    engine.docker(
        &[&["run", "-d", "--name", "hostile"], &labels[..], &[&image, "sh", "-ec", &script]].concat(),
    );
    let stored = sink.wait_for(1).await.remove(0);
    assert_eq!(stored.query["exitcode"], "0", "{}", stored.text("console_output/stderr.log"));
    let files = stored.files();
    assert_eq!(stored.text("results/junit.xml"), "ok\n");
    assert!(files.contains_key(&b"results/odd\xff\xfename.xml"[..]));
    assert_eq!(files.keys().filter(|path| path.starts_with(b"results/many/")).count(), 5000);
    assert!(files.keys().any(|path| path.ends_with(b"/directory-60/deep.xml")));
    assert!(stored.has(&format!("results/{}.xml", "n".repeat(240))));
    assert_eq!(files[&b"results/sparse.bin"[..]].len(), 50_000_000);
    let notes = stored.notes();
    let note = |name: &str| &notes[format!("results/{name}").as_bytes()];
    assert_eq!(*note("passwd.xml"), EntryKind::Symlink { target: b"/etc/passwd".to_vec() });
    assert_eq!(*note("up.xml"), EntryKind::Symlink { target: b"../../../../etc".to_vec() });
    assert_eq!(*note("latest.xml"), EntryKind::Symlink { target: b"junit.xml".to_vec() });
    assert!(matches!(note("fifo.xml"), EntryKind::Skipped { .. }));
    assert!(matches!(note("null.xml"), EntryKind::Skipped { .. }));
    assert_eq!(*note("second-name.xml"), EntryKind::HardLink { target: b"results/junit.xml".to_vec() });
    assert!(stored.text("container_info/notes.txt").contains("too-deep.xml` is left out"));
    assert!(!files.values().any(|content| content.starts_with(b"root:")));
    collector.delivered(1).await;
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_beyond_the_limit_are_cut_with_a_note() {
    let engine = Engine::private();
    let (home, sink) = (Home::new(), Sink::start().await);
    let mut settings = home.container_settings(sink.url());
    settings.limits.results_max = 1_000_000;
    settings.spool_max = 2_000_000;
    let collector = Running::start(settings, Some(connect(engine.host()).await));
    let image = engine.busybox();
    let script = "mkdir -p /var/tests/results; cd /var/tests/results; echo a > a; head -c 3000000 /dev/urandom > b; exit 1";
    engine.docker(&["run", "-d", "--name", "big", "--label", "tugbot.test", &image, "sh", "-c", script]);
    let stored = sink.wait_for(1).await.remove(0);
    assert!(!stored.has("results/b"));
    assert!(stored.text("container_info/notes.txt").contains("more than 99000 entries or 1000000 bytes"));
    assert_eq!(stored.query["exitcode"], "1");
    collector.delivered(1).await;
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_does_not_fit_the_spool_is_delivered_without_its_files() {
    let engine = Engine::private();
    let (home, sink) = (Home::new(), Sink::start().await);
    let mut settings = home.container_settings(sink.url());
    settings.spool_max = 1_200_000;
    let collector = Running::start(settings, Some(connect(engine.host()).await));
    let image = engine.busybox();
    let script = "mkdir -p /var/tests/results; head -c 5000000 /dev/urandom > /var/tests/results/b";
    engine.docker(&["run", "-d", "--name", "big", "--label", "tugbot.test", &image, "sh", "-c", script]);
    let stored = sink.wait_for(1).await.remove(0);
    assert!(!stored.has("results/b"));
    assert!(stored.text("container_info/notes.txt").contains("are left out"));
    collector.delivered(1).await;
    collector.stop().await;
}
