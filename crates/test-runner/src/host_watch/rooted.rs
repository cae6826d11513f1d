//! Finds what a path means inside another root: a link on a mounted host must not lead into our own file
//! system. Looks names up only; it never opens a file.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    path::{Component, Path, PathBuf},
};

/// As many links as the kernel itself follows.
const MOST_LINKS: usize = 40;

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The real path in our own file system, without links below the root; `None` when there is nothing.
    pub(super) real: Option<PathBuf>,
    /// The directory entries on which this answer hangs: each link on the way, then the entry itself or the
    /// first one that is missing. A change of one of them may change the answer.
    pub(super) hinges: Vec<(PathBuf, OsString)>,
}

/// Follows `path`, which is absolute on the host, inside `root`.
pub(super) fn find(root: &Path, path: &Path) -> io::Result<Found> {
    let mut real = root.to_path_buf();
    let mut hinges = Vec::new();
    let mut links = 0;
    let mut rest: VecDeque<OsString> = VecDeque::new();
    push_front(&mut rest, path);
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            if real != root {
                real.pop();
            }
            continue;
        }
        let next = real.join(&name);
        let meta = match next.symlink_metadata() {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                hinges.push((real, name));
                return Ok(Found { real: None, hinges });
            }
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                hinges.extend(entry(&real));
                return Ok(Found { real: None, hinges });
            }
            Err(e) => return Err(e),
        };
        if !meta.is_symlink() {
            real = next;
            continue;
        }
        hinges.push((real.clone(), name));
        links += 1;
        if links > MOST_LINKS {
            return Ok(Found { real: None, hinges });
        }
        let target = next.read_link()?;
        if target.is_absolute() {
            real = root.to_path_buf();
        }
        push_front(&mut rest, &target);
    }
    if real != root {
        hinges.extend(entry(&real));
    }
    Ok(Found { real: Some(real), hinges })
}

fn entry(path: &Path) -> Option<(PathBuf, OsString)> {
    Some((path.parent()?.to_path_buf(), path.file_name()?.to_owned()))
}

fn push_front(rest: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => rest.push_front(name.to_owned()),
            Component::ParentDir => rest.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn real(root: &Path, path: &str) -> Option<PathBuf> {
        let real = find(root, Path::new(path)).unwrap().real?;
        Some(real.strip_prefix(root).expect("never outside the root").to_path_buf())
    }

    #[test]
    fn absolute_links_stay_inside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("opt/app/etc")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("opt/app/etc/a.conf"), "x").unwrap();
        symlink("/opt/app/etc", root.join("etc/app")).unwrap();
        symlink("../../../../../opt", root.join("etc/up")).unwrap();
        assert_eq!(real(root, "/etc/app/a.conf"), Some("opt/app/etc/a.conf".into()));
        assert_eq!(real(root, "/etc/up/app"), Some("opt/app".into()));
        assert_eq!(real(root, "/etc/../../opt"), Some("opt".into()));
    }

    #[test]
    fn names_each_entry_on_which_the_answer_hangs() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("data/v1")).unwrap();
        fs::write(root.join("data/v1/app.conf"), "x").unwrap();
        symlink("v1", root.join("data/current")).unwrap();
        symlink("current/app.conf", root.join("data/app.conf")).unwrap();
        let found = find(root, Path::new("/data/app.conf")).unwrap();
        let data = root.join("data");
        let expected = [(&data, "app.conf"), (&data, "current"), (&data.join("v1"), "app.conf")];
        let expected: Vec<_> = expected.iter().map(|(d, n)| ((*d).clone(), OsString::from(n))).collect();
        assert_eq!(found.hinges, expected);
    }

    #[test]
    fn a_missing_directory_hangs_on_its_nearest_ancestor() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join("etc")).unwrap();
        fs::write(root.join("etc/file"), "x").unwrap();
        let missing = find(root, Path::new("/etc/foo/bar")).unwrap();
        assert_eq!(missing, Found { real: None, hinges: vec![(root.join("etc"), "foo".into())] });
        let under_a_file = find(root, Path::new("/etc/file/bar")).unwrap();
        assert_eq!(under_a_file, Found { real: None, hinges: vec![(root.join("etc"), "file".into())] });
    }

    #[test]
    fn a_circle_of_links_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert_eq!(real(dir.path(), "/a"), None);
    }
}
