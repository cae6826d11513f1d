//! Watched directories: what counts as a new version, and everything that events do not tell.

use std::{
    collections::HashSet,
    ffi::OsStr,
    io::Write,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::Path,
    process::Command,
    time::Duration,
};

use result_collector::CollectorEvent;

use crate::{
    harness::{Home, Running},
    sink::{Sink, Stored},
};

/// All contents that were stored under a name, in order.
fn versions(stored: &[Stored], name: &str) -> Vec<String> {
    let path = format!("results/{name}").into_bytes();
    let content = |stored: &Stored| stored.files().remove(&path);
    stored.iter().filter_map(content).map(|content| String::from_utf8(content).unwrap()).collect()
}

/// Writes a file that settles after everything before it, and waits for it: what was not sent by then is not sent.
async fn barrier(home: &Home, sink: &Sink, name: &str) -> Vec<Stored> {
    // A new directory is found by a scan, which comes after all earlier events.
    home.write(&format!("{name}/barrier"), name);
    let key = format!("/{name}/barrier/");
    testkit::eventually(name, Duration::from_secs(60), async || sink.has_key_with(&key).then_some(())).await;
    sink.stored()
}

/// The kernel's queue holds 16,384 changes and nobody reads it while this test's only thread writes: it overflows.
#[tokio::test]
async fn ten_thousand_files_in_a_burst_are_stored_and_none_twice() {
    let (home, sink) = (Home::new(), Sink::start().await);
    let mut collector = Running::start(home.settings(sink.url()), None);
    barrier(&home, &sink, "started").await;
    for n in 0..10_000 {
        // Some where events tell of each, most in directories that are found by a scan.
        let path = home.watched(["", "1", "2", "3/4", "5/6/7"][n % 5]);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join(format!("{n}.xml")), format!("result {n}")).unwrap();
    }
    let queue: u32 =
        std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    home.write("many/first", "1");
    barrier(&home, &sink, "watched").await;
    for n in 0..queue.min(100_000) {
        // A change without a result: only the queue is filled.
        std::fs::write(home.watched(&format!("many/{n}.tmp")), "").unwrap();
    }
    home.write("many/last", "2");
    collector.event("an overflow", |event| matches!(event, CollectorEvent::Overflow).then_some(())).await;
    sink.wait_for(10_004).await;
    let stored = barrier(&home, &sink, "ended").await;
    let keys: HashSet<_> = stored.iter().map(|stored| &stored.key).collect();
    assert_eq!((stored.len(), keys.len(), sink.repeats()), (10_005, 10_005, 0));
    collector.delivered(10_005).await;
    collector.stop().await;
}

#[tokio::test]
async fn a_modified_file_is_a_new_version_and_the_same_content_is_not() {
    let (home, sink) = (Home::new(), Sink::start().await);
    let collector = Running::start(home.settings(sink.url()), None);
    barrier(&home, &sink, "started").await;
    for (n, content) in ["A", "A", "B", "A"].into_iter().enumerate() {
        home.write("junit.xml", content);
        barrier(&home, &sink, &format!("step{n}")).await;
    }
    std::fs::remove_file(home.watched("junit.xml")).unwrap();
    home.write("junit.xml", "C");
    let stored = barrier(&home, &sink, "ended").await;
    assert_eq!(versions(&stored, "junit.xml"), ["A", "B", "A", "C"]);
    collector.stop().await;
}

#[tokio::test]
async fn a_restart_sends_what_came_meanwhile_and_nothing_again() {
    let (home, sink) = (Home::new(), Sink::start().await);
    home.write("before.xml", "there before the first start");
    home.write("changing.xml", "1");
    let collector = Running::start(home.settings(sink.url()), None);
    sink.wait_for(2).await;
    collector.stop().await;
    home.write("changing.xml", "2");
    home.write("new/dir/meanwhile.xml", "3");
    let collector = Running::start(home.settings(sink.url()), None);
    let stored = barrier(&home, &sink, "ended").await;
    assert_eq!(versions(&stored, "before.xml").len(), 1);
    assert_eq!(versions(&stored, "changing.xml"), ["1", "2"]);
    assert_eq!(versions(&stored, "new/dir/meanwhile.xml"), ["3"]);
    collector.stop().await;
    let collector = Running::start(home.settings(sink.url()), None);
    let stored = barrier(&home, &sink, "again").await;
    assert_eq!((stored.len(), sink.repeats()), (6, 0));
    collector.stop().await;
}

#[tokio::test]
async fn only_complete_files_are_sent() {
    let (home, sink) = (Home::new(), Sink::start().await);
    let collector = Running::start(home.settings(sink.url()), None);
    barrier(&home, &sink, "started").await;
    let mut half = std::fs::File::create(home.watched("half.xml")).unwrap();
    half.write_all(b"first ").unwrap();
    home.write("empty.xml", "");
    home.write(".hidden.xml", "hidden");
    home.write(".git/config", "hidden");
    home.write("backup.xml~", "backup");
    home.write("renamed.xml.part", "renamed");
    let outside = tempfile::tempdir_in(home.watched("").parent().unwrap()).unwrap();
    std::fs::write(outside.path().join("moved.xml"), "moved in").unwrap();
    std::fs::rename(outside.path().join("moved.xml"), home.watched("moved.xml")).unwrap();
    let stored = barrier(&home, &sink, "half-way").await;
    assert_eq!(versions(&stored, "moved.xml"), ["moved in"]);
    assert_eq!(stored.len(), 3, "{:?}", stored.iter().map(|s| &s.key).collect::<Vec<_>>());
    half.write_all(b"second").unwrap();
    drop(half);
    std::fs::rename(home.watched("renamed.xml.part"), home.watched("renamed.xml")).unwrap();
    let stored = barrier(&home, &sink, "ended").await;
    assert_eq!(versions(&stored, "half.xml"), ["first second"]);
    assert_eq!(versions(&stored, "renamed.xml"), ["renamed"]);
    assert_eq!(stored.len(), 6);
    collector.stop().await;
}

#[tokio::test]
async fn a_log_that_is_rotated_and_truncated_is_sent_as_versions_of_one_file() {
    let (home, sink) = (Home::new(), Sink::start().await);
    let collector = Running::start(home.settings(sink.url()), None);
    home.write("a.log", "one");
    barrier(&home, &sink, "first").await;
    std::fs::rename(home.watched("a.log"), home.watched("a.log.1")).unwrap();
    home.write("a.log", "two");
    barrier(&home, &sink, "rotated").await;
    std::fs::File::create(home.watched("a.log")).unwrap();
    barrier(&home, &sink, "truncated").await;
    let mut log = std::fs::File::options().append(true).open(home.watched("a.log")).unwrap();
    log.write_all(b"three").unwrap();
    drop(log);
    let stored = barrier(&home, &sink, "ended").await;
    assert_eq!(versions(&stored, "a.log"), ["one", "two", "three"]);
    assert_eq!(versions(&stored, "a.log.1"), [""; 0]);
    collector.stop().await;
}

#[tokio::test]
async fn directories_that_come_move_and_go_are_followed() {
    let (home, sink) = (Home::new(), Sink::start().await);
    let collector = Running::start(home.settings(sink.url()), None);
    barrier(&home, &sink, "started").await;
    home.write("a/b/c/deep.xml", "deep");
    barrier(&home, &sink, "deep").await;
    std::fs::rename(home.watched("a"), home.watched("moved")).unwrap();
    barrier(&home, &sink, "moved-there").await;
    // The old watches tell the new names.
    home.write("moved/b/c/later.xml", "later");
    let away = home.state("away");
    let stored = barrier(&home, &sink, "later").await;
    assert_eq!(versions(&stored, "moved/b/c/later.xml"), ["later"]);
    // Renamed with its directory, not sent again.
    assert_eq!(versions(&stored, "moved/b/c/deep.xml"), [""; 0]);
    std::fs::rename(home.watched("moved"), &away).unwrap();
    barrier(&home, &sink, "away").await;
    std::fs::write(away.join("b/c/foreign.xml"), "foreign").unwrap();
    let before = barrier(&home, &sink, "ended").await.len();
    assert_eq!(before, 8);
    collector.stop().await;
}

#[tokio::test]
async fn a_watched_directory_may_be_missing_and_come_back() {
    let (home, sink) = (Home::new(), Sink::start().await);
    let mut settings = home.settings(sink.url());
    settings.dirs = vec![home.watched("later/results"), home.watched("other")];
    let mut collector = Running::start(settings, None);
    for _ in 0..2 {
        collector
            .event("a missing directory", |event| {
                matches!(event, CollectorEvent::Unwatched { .. }).then_some(())
            })
            .await;
    }
    home.write("later/results/a.xml", "1");
    sink.wait_for(1).await;
    std::fs::remove_dir_all(home.watched("later")).unwrap();
    home.write("later/results/a.xml", "2");
    let stored = sink.wait_for(2).await;
    assert_eq!(versions(&stored, "a.xml"), ["1", "2"]);
    assert_eq!(stored[1].query["test"], "results");
    collector.stop().await;
}

#[tokio::test]
async fn links_fifos_and_odd_names_do_no_harm() {
    let (home, sink) = (Home::new(), Sink::start().await);
    let secret = home.state("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("passwd"), "root:x:0").unwrap();
    symlink(secret.join("passwd"), home.watched("link.xml")).unwrap();
    symlink(&secret, home.watched("linked")).unwrap();
    symlink("/dev/zero", home.watched("zero")).unwrap();
    assert!(Command::new("mkfifo").arg(home.watched("fifo.xml")).status().unwrap().success());
    let collector = Running::start(home.settings(sink.url()), None);
    barrier(&home, &sink, "started").await;
    symlink(secret.join("passwd"), home.watched("late-link.xml")).unwrap();
    symlink(&secret, home.watched("late-linked")).unwrap();
    std::fs::write(secret.join("more"), "root:x:0").unwrap();
    let odd: &Path = OsStr::from_bytes(b"\xff\xfe \n%.xml").as_ref();
    std::fs::write(home.watched("").join(odd), "odd").unwrap();
    let long = "d".repeat(200);
    home.write(&format!("{long}/{long}/{long}/{long}.xml"), "long");
    std::fs::hard_link(home.watched("started/barrier"), home.watched("second-name")).unwrap();
    for n in 0..200 {
        home.write("fleeting.xml", n.to_string());
        std::fs::remove_file(home.watched("fleeting.xml")).unwrap();
    }
    let stored = barrier(&home, &sink, "ended").await;
    let all: Vec<Vec<u8>> = stored.iter().flat_map(|stored| stored.files().into_keys()).collect();
    assert!(all.contains(&b"results/\xff\xfe \n%.xml".to_vec()));
    assert!(all.contains(&format!("results/{long}/{long}/{long}/{long}.xml").into_bytes()));
    assert!(stored.iter().all(|stored| !stored.files().values().any(|c| c.starts_with(b"root"))));
    assert!(!all.contains(&b"results/second-name".to_vec()));
    assert!(stored.iter().all(|stored| stored.key.is_ascii() && stored.key.len() < 256));
    collector.stop().await;
}

#[tokio::test]
async fn a_file_that_is_larger_than_the_limit_is_told_once_and_the_others_pass() {
    let (home, sink) = (Home::new(), Sink::start().await);
    let mut settings = home.settings(sink.url());
    settings.limits.results_max = 1000;
    settings.limits.rescan = Duration::from_millis(300);
    home.write("large.bin", vec![b'x'; 1001]);
    home.write("small.bin", vec![b'x'; 1000]);
    let mut collector = Running::start(settings, None);
    collector
        .event("a word on the large file", |event| {
            matches!(event, CollectorEvent::Unreadable { path, .. } if path.ends_with("large.bin"))
                .then_some(())
        })
        .await;
    sink.wait_for(1).await;
    barrier(&home, &sink, "one").await;
    barrier(&home, &sink, "two").await;
    let events = collector.stop().await;
    let told = events.iter().filter(|event| matches!(event, CollectorEvent::Unreadable { .. })).count();
    assert_eq!((told, sink.count()), (1, 3));
}
