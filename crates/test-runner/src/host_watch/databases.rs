//! Reads the package databases of dpkg and apk, one line at a time and under limits. Never writes, never
//! judges versions: which of two is newer is the package manager's business.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, BufRead, Read},
};

/// Longer lines are cut: a name or version never comes near, a description may.
const LONGEST_LINE: u16 = 16 * 1024;
/// No host has more; a broken database may.
const MOST_PACKAGES: usize = 500_000;

/// A package: the same name can be installed once per architecture.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PackageId {
    pub(super) name: String,
    pub(super) arch: String,
}

impl fmt::Display for PackageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.arch.is_empty() { Ok(()) } else { write!(f, ":{}", self.arch) }
    }
}

/// What a database says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packages {
    /// Versions of what is installed.
    pub(super) installed: BTreeMap<PackageId, String>,
    /// What is being unpacked or configured at this moment: neither there nor gone.
    pub(super) in_transit: BTreeSet<PackageId>,
}

impl Packages {
    /// Takes over from an earlier reading what is neither there nor gone now, so that an upgrade under way
    /// does not look like a removal followed by an installation.
    pub(super) fn settle(mut self, before: Option<&Self>) -> Self {
        for id in std::mem::take(&mut self.in_transit) {
            if let Some(version) = before.and_then(|before| before.installed.get(&id)) {
                self.installed.entry(id).or_insert_with(|| version.clone());
            }
        }
        self
    }
}

/// How far a package is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Installed,
    InTransit,
    Gone,
}

impl Progress {
    /// The third word of dpkg's `Status: install ok installed`.
    fn of_dpkg(status: &str) -> Self {
        match status.split_ascii_whitespace().nth(2) {
            // A package that waits for another's trigger is unpacked and configured.
            Some("installed" | "triggers-awaited" | "triggers-pending") => Self::Installed,
            Some("half-installed" | "unpacked" | "half-configured") => Self::InTransit,
            _ => Self::Gone,
        }
    }
}

/// Reads `var/lib/dpkg/status`.
pub(super) fn read_dpkg(database: impl BufRead) -> io::Result<Packages> {
    read_paragraphs(database, |paragraph, line| match line.split_once(':') {
        Some(("Package", name)) => paragraph.id.name = name.trim().to_owned(),
        Some(("Architecture", arch)) => paragraph.id.arch = arch.trim().to_owned(),
        Some(("Version", version)) => paragraph.version = version.trim().to_owned(),
        Some(("Status", status)) => paragraph.progress = Progress::of_dpkg(status),
        _ => {}
    })
}

/// Reads `lib/apk/db/installed`.
pub(super) fn read_apk(database: impl BufRead) -> io::Result<Packages> {
    read_paragraphs(database, |paragraph, line| match line.split_once(':') {
        Some(("P", name)) => paragraph.id.name = name.trim().to_owned(),
        Some(("A", arch)) => paragraph.id.arch = arch.trim().to_owned(),
        Some(("V", version)) => paragraph.version = version.trim().to_owned(),
        _ => {}
    })
}

struct Paragraph {
    id: PackageId,
    version: String,
    progress: Progress,
}

impl Default for Paragraph {
    fn default() -> Self {
        let id = PackageId { name: String::new(), arch: String::new() };
        Self { id, version: String::new(), progress: Progress::Installed }
    }
}

fn read_paragraphs(mut database: impl BufRead, field: impl Fn(&mut Paragraph, &str)) -> io::Result<Packages> {
    let mut packages = Packages::default();
    let mut paragraph = Paragraph::default();
    let mut line = Vec::new();
    loop {
        let more = read_line(&mut database, &mut line)?;
        if line.is_empty() {
            let Paragraph { id, version, progress } = std::mem::take(&mut paragraph);
            if !id.name.is_empty() && packages.installed.len() < MOST_PACKAGES {
                match progress {
                    Progress::Installed => drop(packages.installed.insert(id, version)),
                    Progress::InTransit => drop(packages.in_transit.insert(id)),
                    Progress::Gone => {}
                }
            }
        } else if !line[0].is_ascii_whitespace() {
            field(&mut paragraph, &String::from_utf8_lossy(&line));
        }
        if !more {
            return Ok(packages);
        }
    }
}

/// Reads a line without its end, cut to a limit. `false` when the input is at its end: `line` is empty then.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let read = input.by_ref().take(LONGEST_LINE.into()).read_until(b'\n', line)?;
    if read == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else {
        input.skip_until(b'\n')?;
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(packages: &Packages) -> Vec<String> {
        packages.installed.iter().map(|(id, version)| format!("{id} {version}")).collect()
    }

    const DPKG: &str = "\
Package: libc6
Status: install ok installed
Priority: optional
Architecture: amd64
Multi-Arch: same
Version: 2.36-9+deb12u4
Description: GNU C Library: Shared libraries
 Package: not-a-field
 .
 more

Package: libc6
Status: install ok installed
Architecture: i386
Version: 2.36-9+deb12u4

Package: old
Status: deinstall ok config-files
Architecture: all
Version: 1.0

Package: held
Status: hold ok installed
Architecture: all
Version: 1:2.0~rc1-1

Package: busy
Status: install ok half-configured
Architecture: amd64
Version: 3.0

Package: waiting
Status: install ok triggers-awaited
Architecture: amd64
Version: 1";

    #[test]
    fn reads_what_dpkg_has_installed() {
        let packages = read_dpkg(DPKG.as_bytes()).unwrap();
        let expected = [
            "held:all 1:2.0~rc1-1",
            "libc6:amd64 2.36-9+deb12u4",
            "libc6:i386 2.36-9+deb12u4",
            "waiting:amd64 1",
        ];
        assert_eq!(installed(&packages), expected);
        assert_eq!(packages.in_transit.len(), 1);
    }

    #[test]
    fn reads_this_machines_own_database() {
        let file = std::fs::File::open("/var/lib/dpkg/status").expect("this is a Debian or Ubuntu");
        let packages = read_dpkg(io::BufReader::new(file)).unwrap();
        assert!(packages.installed.keys().any(|id| id.name == "dpkg"));
        assert!(packages.installed.values().all(|version| !version.is_empty()));
    }

    #[test]
    fn reads_what_apk_has_installed() {
        let apk = "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nS:1\nT:the musl c library: small\nF:lib\nR:libc.so\n\n\
                   C:Q1def=\nP:busybox\nV:1.36.1-r29\nA:x86_64\n\n";
        let packages = read_apk(apk.as_bytes()).unwrap();
        assert_eq!(installed(&packages), ["busybox:x86_64 1.36.1-r29", "musl:x86_64 1.2.5-r0"]);
    }

    #[test]
    fn a_package_in_transit_keeps_its_earlier_version() {
        let before = read_dpkg(
            "Package: busy\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.0\n".as_bytes(),
        );
        let now = read_dpkg(DPKG.as_bytes()).unwrap().settle(Some(&before.unwrap()));
        assert!(installed(&now).contains(&"busy:amd64 2.0".to_owned()));
        assert!(now.in_transit.is_empty());
        let fresh = read_dpkg(DPKG.as_bytes()).unwrap().settle(None);
        assert!(!installed(&fresh).iter().any(|package| package.starts_with("busy")));
    }

    #[test]
    fn endless_lines_and_odd_bytes_do_no_harm() {
        let mut database = b"Package: a\nDescription: ".to_vec();
        database.extend(std::iter::repeat_n(b'x', 3 * usize::from(LONGEST_LINE)));
        database
            .extend(b"\nVersion: 1\xff\r\nArchitecture: all\r\n\r\n\n\nno colon\nPackage: b\nVersion: 2\n");
        let packages = read_dpkg(&database[..]).unwrap();
        assert_eq!(installed(&packages), ["a:all 1\u{fffd}", "b 2"]);
        assert_eq!(read_dpkg(&b""[..]).unwrap(), Packages::default());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..4096)) {
            read_dpkg(&bytes[..]).unwrap();
            read_apk(&bytes[..]).unwrap();
        }
    }
}
