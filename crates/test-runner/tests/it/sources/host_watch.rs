//! A host in a temporary directory, watched through the kernel's own inotify.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use test_runner::host_watch::{HostChange, HostChangeKind, HostWatch, HostWatchError, HostWatchSettings};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(60);

struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn real(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// Writes beside and renames, as package managers and careful editors do.
    fn write(&self, path: &str, text: &str) {
        let path = self.real(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let beside = path.with_extension("new-file");
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, &path).unwrap();
    }

    fn settings(&self, globs: &[&str]) -> HostWatchSettings {
        HostWatchSettings {
            root: self.dir.path().to_path_buf(),
            config_globs: globs.iter().map(|&glob| glob.to_owned()).collect(),
            packages: true,
            kernel: true,
        }
    }

    async fn watched(&self, globs: &[&str]) -> Watched {
        let watch = HostWatch::open(self.settings(globs)).await.unwrap();
        let (out, changes) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let task = tokio::spawn(watch.run(out, stop.clone()));
        Watched { changes, stop, task }
    }
}

struct Watched {
    changes: mpsc::Receiver<HostChange>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), HostWatchError>>,
}

impl Watched {
    async fn next(&mut self) -> HostChange {
        let next = tokio::time::timeout(DEADLINE, self.changes.recv()).await;
        next.expect("a change is reported").expect("the watch goes on")
    }

    /// The next changes are these, in any order (a burst may be seen in two parts), and no others.
    async fn expect(&mut self, details: &[&str]) {
        let mut missing: BTreeSet<&str> = details.iter().copied().collect();
        while !missing.is_empty() {
            let change = self.next().await;
            assert!(missing.remove(&*change.detail), "unexpected: {change:?}; still missing: {missing:?}");
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn dpkg(packages: &[(&str, &str)]) -> String {
    let paragraph = |(name, version): &(&str, &str)| {
        format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n")
    };
    packages.iter().map(paragraph).collect()
}

#[tokio::test]
async fn packages_of_dpkg_come_go_and_are_updated() {
    let host = Host::new();
    host.write("/var/lib/dpkg/status", &dpkg(&[("bash", "5.1"), ("vim", "9")]));
    let mut watched = host.watched(&[]).await;
    host.write("/var/lib/dpkg/lock", "not a change");
    host.write("/var/lib/dpkg/status", &dpkg(&[("bash", "5.2"), ("zsh", "5.9")]));
    watched
        .expect(&["updated bash:amd64 from 5.1 to 5.2", "removed vim:amd64 9", "installed zsh:amd64 5.9"])
        .await;
    watched.stop().await;
}

#[tokio::test]
async fn a_change_says_what_where_and_when() {
    let host = Host::new();
    host.write("/lib/apk/db/installed", "P:musl\nV:1.2.4-r0\nA:x86_64\n\n");
    let mut watched = host.watched(&[]).await;
    let before = jiff::Timestamp::now();
    host.write("/lib/apk/db/installed", "P:musl\nV:1.2.5-r0\nA:x86_64\n\n");
    let change = watched.next().await;
    assert_eq!(change.kind, HostChangeKind::Package);
    assert_eq!(change.detail, "updated musl:x86_64 from 1.2.4-r0 to 1.2.5-r0");
    assert_eq!(change.path.as_deref(), Some(Path::new("/lib/apk/db/installed")));
    assert!(change.at >= before);
    watched.stop().await;
}

#[tokio::test]
async fn each_kind_of_rpm_database_is_watched_in_both_places() {
    let host = Host::new();
    let databases =
        ["/var/lib/rpm/Packages", "/usr/lib/sysimage/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/Packages.db"];
    for database in databases {
        host.write(database, "one");
    }
    let mut watched = host.watched(&[]).await;
    for database in databases {
        // In place, as sqlite and Berkeley DB do.
        fs::write(host.real(database), "two").unwrap();
        watched.expect(&[&format!("changed package database {database}")]).await;
    }
    watched.stop().await;
}

#[tokio::test]
async fn a_database_that_appears_after_the_start_is_watched_from_then_on() {
    let host = Host::new();
    let mut watched = host.watched(&[]).await;
    host.write("/var/lib/dpkg/status", &dpkg(&[("bash", "5.1")]));
    watched.expect(&["package database /var/lib/dpkg/status appeared with 1 packages"]).await;
    host.write("/var/lib/dpkg/status", &dpkg(&[("bash", "5.2")]));
    watched.expect(&["updated bash:amd64 from 5.1 to 5.2"]).await;
    fs::remove_dir_all(host.real("/var")).unwrap();
    watched.expect(&["package database /var/lib/dpkg/status vanished"]).await;
    watched.stop().await;
}

#[tokio::test]
async fn kernels_come_and_go() {
    let host = Host::new();
    host.write("/boot/vmlinuz-6.1.0-18-amd64", "image");
    let mut watched = host.watched(&[]).await;
    host.write("/boot/vmlinuz-6.1.0-21-amd64", "image");
    watched.expect(&["installed kernel 6.1.0-21-amd64"]).await;
    fs::create_dir_all(host.real("/lib/modules/6.9.9")).unwrap();
    watched.expect(&["installed kernel 6.9.9"]).await;
    fs::remove_file(host.real("/boot/vmlinuz-6.1.0-18-amd64")).unwrap();
    fs::remove_dir(host.real("/lib/modules/6.9.9")).unwrap();
    watched.expect(&["removed kernel 6.1.0-18-amd64", "removed kernel 6.9.9"]).await;
    watched.stop().await;
}

#[tokio::test]
async fn configuration_is_created_changed_and_removed_but_a_touch_is_nothing() {
    let host = Host::new();
    host.write("/etc/app/a.conf", "1");
    host.write("/etc/app/b.conf", "1");
    let mut watched = host.watched(&["/etc/app/*.conf"]).await;
    host.write("/etc/app/a.conf", "1");
    fs::File::options().append(true).open(host.real("/etc/app/b.conf")).unwrap();
    host.write("/etc/app/other.txt", "1");
    host.write("/etc/app/c.conf", "1");
    watched.expect(&["created /etc/app/c.conf"]).await;
    host.write("/etc/app/a.conf", "2");
    watched.expect(&["changed /etc/app/a.conf"]).await;
    fs::remove_file(host.real("/etc/app/b.conf")).unwrap();
    watched.expect(&["removed /etc/app/b.conf"]).await;
    watched.stop().await;
}

#[tokio::test]
async fn a_writer_that_never_closes_its_file_is_noticed() {
    use std::io::Write;
    let host = Host::new();
    host.write("/etc/app/a.conf", "1");
    let mut file = fs::File::options().append(true).open(host.real("/etc/app/a.conf")).unwrap();
    let mut watched = host.watched(&["/etc/app/a.conf"]).await;
    file.write_all(b"2").unwrap();
    watched.expect(&["changed /etc/app/a.conf"]).await;
    watched.stop().await;
}

#[tokio::test]
async fn new_directories_under_two_stars_are_watched_however_deep() {
    let host = Host::new();
    fs::create_dir_all(host.real("/etc")).unwrap();
    let mut watched = host.watched(&["/etc/app/**/*.ini"]).await;
    host.write("/etc/app/x/y/z/one.ini", "1");
    watched.expect(&["created /etc/app/x/y/z/one.ini"]).await;
    host.write("/etc/app/x/y/z/one.ini", "2");
    watched.expect(&["changed /etc/app/x/y/z/one.ini"]).await;
    fs::rename(host.real("/etc/app/x"), host.real("/etc/app/w")).unwrap();
    watched.expect(&["removed /etc/app/x/y/z/one.ini", "created /etc/app/w/y/z/one.ini"]).await;
    host.write("/etc/app/w/y/z/one.ini", "3");
    watched.expect(&["changed /etc/app/w/y/z/one.ini"]).await;
    watched.stop().await;
}

#[tokio::test]
async fn a_swapped_link_is_a_change_of_the_files_behind_it() {
    let host = Host::new();
    host.write("/etc/app/..v1/app.conf", "one");
    host.write("/etc/app/..v2/app.conf", "two");
    symlink("..v1", host.real("/etc/app/..data")).unwrap();
    symlink("..data/app.conf", host.real("/etc/app/app.conf")).unwrap();
    let mut watched = host.watched(&["/etc/app/*.conf"]).await;
    symlink("..v2", host.real("/etc/app/..tmp")).unwrap();
    fs::rename(host.real("/etc/app/..tmp"), host.real("/etc/app/..data")).unwrap();
    watched.expect(&["changed /etc/app/app.conf"]).await;
    host.write("/etc/app/..v2/app.conf", "three");
    watched.expect(&["changed /etc/app/app.conf"]).await;
    watched.stop().await;
}

#[tokio::test]
async fn a_full_queue_is_made_up_for_by_a_scan() {
    let host = Host::new();
    fs::create_dir_all(host.real("/etc/app")).unwrap();
    let queue: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let watch = HostWatch::open(host.settings(&["/etc/app/*.conf"])).await.unwrap();
    // Nobody reads yet: the queue fills with noise, and what follows is lost.
    for n in 0..=queue / 2 {
        let noise = host.real(&format!("/etc/app/{n}.noise"));
        fs::write(&noise, "").unwrap();
        fs::remove_file(noise).unwrap();
    }
    host.write("/etc/app/late.conf", "1");
    let (out, changes) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let task = tokio::spawn(watch.run(out, stop.clone()));
    let mut watched = Watched { changes, stop, task };
    watched.expect(&["created /etc/app/late.conf"]).await;
    watched.stop().await;
}

#[tokio::test]
async fn a_burst_of_two_thousand_files_is_reported_file_by_file() {
    let host = Host::new();
    fs::create_dir_all(host.real("/etc/app")).unwrap();
    let mut watched = host.watched(&["/etc/app/**"]).await;
    let names: Vec<String> = (0..2000).map(|n| format!("/etc/app/{:02}/{n}.conf", n % 50)).collect();
    for name in &names {
        host.write(name, name);
    }
    let mut created = BTreeSet::new();
    while created.len() < names.len() {
        let change = watched.next().await;
        // A scan in the midst of the burst may meet the file under its earlier name.
        if let Some(name) = change.detail.strip_prefix("created ").filter(|name| name.ends_with(".conf")) {
            assert!(created.insert(name.to_owned()), "reported twice: {name}");
        }
    }
    assert_eq!(created, names.into_iter().collect());
    watched.stop().await;
}

#[tokio::test]
async fn what_happened_just_before_the_stop_is_still_reported() {
    let host = Host::new();
    host.write("/etc/app/a.conf", "1");
    let mut watched = host.watched(&["/etc/app/*.conf"]).await;
    host.write("/etc/app/a.conf", "2");
    watched.stop.cancel();
    watched.expect(&["changed /etc/app/a.conf"]).await;
    watched.stop().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_reader_that_does_not_read() {
    let host = Host::new();
    let watched = host.watched(&["/etc/**"]).await;
    for number in 0..100 {
        host.write(&format!("/etc/{number}.conf"), "1");
    }
    tokio::time::timeout(DEADLINE, watched.stop()).await.expect("it ends");
}

#[tokio::test]
async fn ends_when_nobody_listens() {
    let host = Host::new();
    let Watched { changes, task, .. } = host.watched(&[]).await;
    drop(changes);
    tokio::time::timeout(DEADLINE, task).await.expect("it ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_root_that_is_missing_and_a_bad_pattern_are_errors_that_name_them() {
    let host = Host::new();
    let mut settings = host.settings(&["etc/*.conf"]);
    let error = HostWatch::open(settings.clone()).await.err().unwrap();
    assert!(error.to_string().contains("etc/*.conf"), "{error}");
    settings.config_globs.clear();
    settings.root = "/no/such/root".into();
    let error = HostWatch::open(settings).await.err().unwrap();
    assert!(error.to_string().contains("/no/such/root"), "{error}");
}
