//! What a host looked like at one moment, and what changed between two. Pure: no clock, no disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{HostChange, HostChangeKind, databases::Packages, shown};

/// The parts of a host that are read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Areas {
    pub(super) packages: bool,
    pub(super) kernel: bool,
    pub(super) config: bool,
}

impl Areas {
    pub(super) fn of(kind: HostChangeKind) -> Self {
        Self {
            packages: kind == HostChangeKind::Package,
            kernel: kind == HostChangeKind::Kernel,
            config: kind == HostChangeKind::Config,
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.packages |= other.packages;
        self.kernel |= other.kernel;
        self.config |= other.config;
    }

    pub(super) fn any(self) -> bool {
        self != Self::default()
    }

    pub(super) fn kinds(self) -> impl Iterator<Item = HostChangeKind> {
        let all = [
            (self.packages, HostChangeKind::Package),
            (self.kernel, HostChangeKind::Kernel),
            (self.config, HostChangeKind::Config),
        ];
        all.into_iter().filter_map(|(wanted, kind)| wanted.then_some(kind))
    }
}

/// What a host looked like. Paths are the host's own names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// By the database's path: dpkg, apk.
    pub(super) packages: BTreeMap<PathBuf, Packages>,
    /// By the database's path: rpm. Its databases are digested, not read.
    pub(super) rpm: BTreeMap<PathBuf, blake3::Hash>,
    /// By version.
    pub(super) kernels: BTreeMap<String, Kernel>,
    /// By path.
    pub(super) config: BTreeMap<PathBuf, blake3::Hash>,
}

/// A kernel on disk: an image, its modules, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) image: Option<(PathBuf, blake3::Hash)>,
    pub(super) modules: Option<PathBuf>,
}

impl Kernel {
    fn path(&self) -> Option<&Path> {
        self.image.as_ref().map(|(path, _)| path).or(self.modules.as_ref()).map(PathBuf::as_path)
    }
}

/// What changed from `before` to `now`.
pub(super) fn diff(before: &Snapshot, now: &Snapshot, at: Timestamp) -> Vec<HostChange> {
    let mut changes = Changes { at, all: Vec::new() };
    packages(before, now, &mut changes);
    rpm(before, now, &mut changes);
    kernels(before, now, &mut changes);
    config(before, now, &mut changes);
    changes.all
}

struct Changes {
    at: Timestamp,
    all: Vec<HostChange>,
}

impl Changes {
    fn add(&mut self, kind: HostChangeKind, path: Option<&Path>, detail: String) {
        self.all.push(HostChange { kind, detail, path: path.map(Path::to_path_buf), at: self.at });
    }
}

/// Keys of both, each once, in order.
fn keys<'a, K: Ord, V>(before: &'a BTreeMap<K, V>, now: &'a BTreeMap<K, V>) -> BTreeSet<&'a K> {
    before.keys().chain(now.keys()).collect()
}

fn packages(before: &Snapshot, now: &Snapshot, changes: &mut Changes) {
    for path in keys(&before.packages, &now.packages) {
        let mut add = |detail| changes.add(HostChangeKind::Package, Some(path), detail);
        let (before, now) = match (before.packages.get(path), now.packages.get(path)) {
            (Some(before), Some(now)) => (&before.installed, &now.installed),
            // Thousands of packages came or went with their database: one change, not thousands.
            (None, Some(now)) => {
                add(format!(
                    "package database {} appeared with {} packages",
                    shown(path),
                    now.installed.len()
                ));
                continue;
            }
            _ => {
                add(format!("package database {} vanished", shown(path)));
                continue;
            }
        };
        for id in keys(before, now) {
            match (before.get(id), now.get(id)) {
                (None, Some(version)) => add(format!("installed {id} {version}")),
                (Some(version), None) => add(format!("removed {id} {version}")),
                (Some(old), Some(new)) if old != new => add(format!("updated {id} from {old} to {new}")),
                _ => {}
            }
        }
    }
}

fn rpm(before: &Snapshot, now: &Snapshot, changes: &mut Changes) {
    files(&before.rpm, &now.rpm, |path, verb| {
        changes.add(HostChangeKind::Package, Some(path), format!("{verb} package database {}", shown(path)));
    });
}

fn config(before: &Snapshot, now: &Snapshot, changes: &mut Changes) {
    files(&before.config, &now.config, |path, verb| {
        changes.add(HostChangeKind::Config, Some(path), format!("{verb} {}", shown(path)));
    });
}

fn files(
    before: &BTreeMap<PathBuf, blake3::Hash>,
    now: &BTreeMap<PathBuf, blake3::Hash>,
    mut add: impl FnMut(&Path, &str),
) {
    for path in keys(before, now) {
        match (before.get(path), now.get(path)) {
            (None, Some(_)) => add(path, "created"),
            (Some(_), None) => add(path, "removed"),
            (Some(old), Some(new)) if old != new => add(path, "changed"),
            _ => {}
        }
    }
}

fn kernels(before: &Snapshot, now: &Snapshot, changes: &mut Changes) {
    for version in keys(&before.kernels, &now.kernels) {
        let mut add = |path, detail| changes.add(HostChangeKind::Kernel, path, detail);
        match (before.kernels.get(version), now.kernels.get(version)) {
            (None, Some(kernel)) => add(kernel.path(), format!("installed kernel {version}")),
            (Some(kernel), None) => add(kernel.path(), format!("removed kernel {version}")),
            (Some(Kernel { image: Some((path, old)), .. }), Some(kernel)) => match &kernel.image {
                // A security update of a distribution keeps the version in the name.
                Some((path, new)) if old != new => add(Some(path), format!("replaced kernel {version}")),
                Some(_) => {}
                // Without its image it cannot be booted, whatever modules are left behind.
                None => add(Some(path), format!("removed kernel {version}, its modules are still there")),
            },
            // The modules came first; the kernel was reported then.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::databases::PackageId, *};

    fn details(before: &Snapshot, now: &Snapshot) -> Vec<String> {
        diff(before, now, Timestamp::UNIX_EPOCH).into_iter().map(|change| change.detail).collect()
    }

    fn with_packages(packages: &[(&str, &str)]) -> Snapshot {
        let installed = packages
            .iter()
            .map(|(name, version)| {
                (PackageId { name: (*name).into(), arch: "amd64".into() }, (*version).into())
            })
            .collect();
        let packages = Packages { installed, ..Packages::default() };
        Snapshot { packages: [("/var/lib/dpkg/status".into(), packages)].into(), ..Snapshot::default() }
    }

    fn with_files(files: &[(&str, &str)]) -> Snapshot {
        let config = files.iter().map(|(path, text)| (path.into(), blake3::hash(text.as_bytes()))).collect();
        Snapshot { config, ..Snapshot::default() }
    }

    fn with_kernel(image: Option<&str>, modules: bool) -> Snapshot {
        let kernel = Kernel {
            image: image.map(|text| ("/boot/vmlinuz-6.1".into(), blake3::hash(text.as_bytes()))),
            modules: modules.then(|| "/lib/modules/6.1".into()),
        };
        Snapshot { kernels: [("6.1".into(), kernel)].into(), ..Snapshot::default() }
    }

    #[test]
    fn packages_are_installed_removed_and_updated_with_their_versions() {
        let before = with_packages(&[("bash", "5.2"), ("vim", "9.0"), ("curl", "7.88")]);
        let now = with_packages(&[("bash", "5.2"), ("curl", "8.0"), ("zsh", "5.9")]);
        let expected =
            ["updated curl:amd64 from 7.88 to 8.0", "removed vim:amd64 9.0", "installed zsh:amd64 5.9"];
        assert_eq!(details(&before, &now), expected);
        assert!(diff(&before, &now, Timestamp::UNIX_EPOCH).iter().all(|change| {
            change.kind == HostChangeKind::Package
                && change.path.as_deref() == Some(Path::new("/var/lib/dpkg/status"))
        }));
    }

    #[test]
    fn a_database_that_comes_or_goes_is_one_change() {
        let some = with_packages(&[("a", "1"), ("b", "2")]);
        let none = Snapshot::default();
        assert_eq!(details(&none, &some), ["package database /var/lib/dpkg/status appeared with 2 packages"]);
        assert_eq!(details(&some, &none), ["package database /var/lib/dpkg/status vanished"]);
    }

    #[test]
    fn files_are_created_changed_and_removed() {
        let before = with_files(&[("/etc/a", "1"), ("/etc/b", "1"), ("/etc/c", "1")]);
        let now = with_files(&[("/etc/a", "1"), ("/etc/b", "2"), ("/etc/d", "1")]);
        assert_eq!(details(&before, &now), ["changed /etc/b", "removed /etc/c", "created /etc/d"]);
    }

    #[test]
    fn a_changed_rpm_database_names_its_file() {
        let path = PathBuf::from("/var/lib/rpm/rpmdb.sqlite");
        let snapshot = |text: &[u8]| Snapshot {
            rpm: [(path.clone(), blake3::hash(text))].into(),
            ..Snapshot::default()
        };
        assert_eq!(
            details(&snapshot(b"1"), &snapshot(b"2")),
            ["changed package database /var/lib/rpm/rpmdb.sqlite"]
        );
    }

    #[test]
    fn a_kernel_is_reported_once_although_it_comes_in_two_parts() {
        let none = Snapshot::default();
        let half = with_kernel(None, true);
        let whole = with_kernel(Some("v1"), true);
        assert_eq!(details(&none, &half), ["installed kernel 6.1"]);
        assert!(details(&half, &whole).is_empty());
        assert_eq!(details(&none, &whole), ["installed kernel 6.1"]);
        assert_eq!(details(&whole, &none), ["removed kernel 6.1"]);
        assert_eq!(details(&whole, &half), ["removed kernel 6.1, its modules are still there"]);
    }

    #[test]
    fn a_kernel_rebuilt_under_its_old_name_is_a_change() {
        let change = details(&with_kernel(Some("v1"), true), &with_kernel(Some("v2"), true));
        assert_eq!(change, ["replaced kernel 6.1"]);
    }

    #[test]
    fn the_same_is_no_change() {
        for snapshot in
            [with_packages(&[("a", "1")]), with_files(&[("/a", "")]), with_kernel(Some(""), false)]
        {
            assert!(details(&snapshot, &snapshot).is_empty());
        }
    }
}
