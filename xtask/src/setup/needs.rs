//! What the project needs from the system: which program, from which package, and why. Installs nothing.

use std::path::Path;

use super::Purpose;
use crate::{elf, program};

/// One program, or a property of one.
pub(crate) struct Need {
    /// How it is recognised.
    pub(crate) sign: Sign,
    /// Packages that bring it: the first that the system's archive has is taken.
    pub(crate) packages: &'static [&'static str],
    /// Shown before it is installed.
    pub(crate) why: &'static str,
    purposes: &'static [Purpose],
    /// Whether it is only there to run an engine of our own: an engine that answers makes it superfluous for a demo.
    runs_engine: bool,
}

/// How a need is recognised as met.
pub(crate) enum Sign {
    /// One of these programs is installed.
    Program(&'static [&'static str]),
    /// `/bin/busybox` needs no loader.
    StaticBusybox,
}

use Purpose::{All, Bench, Demo, Image, Test};

const NEEDS: &[Need] = &[
    Need {
        sign: Sign::Program(&["docker"]),
        packages: &["docker-cli", "docker.io"],
        why: "Docker's command line: the demo, the tests and the image build speak to the engine with it",
        purposes: &[Demo, Test, Image, Bench, All],
        runs_engine: false,
    },
    Need {
        sign: Sign::Program(&["dockerd"]),
        packages: &["docker.io"],
        why: "Docker Engine: test containers run on it, and some tests start one of their own",
        purposes: &[Demo, Test, Image, Bench, All],
        runs_engine: true,
    },
    Need {
        sign: Sign::Program(&["iptables"]),
        packages: &["iptables"],
        why: "the engine's networks",
        purposes: &[Demo, Test, Image, Bench, All],
        runs_engine: true,
    },
    Need {
        sign: Sign::StaticBusybox,
        packages: &["busybox-static"],
        why: "a static busybox: the base image of examples and tests, without a registry",
        purposes: &[Demo, Test, Bench, All],
        runs_engine: false,
    },
    Need {
        sign: Sign::Program(&["ip"]),
        packages: &["iproute2"],
        why: "network namespaces for engines that tests start",
        purposes: &[Test, Bench, All],
        runs_engine: false,
    },
    Need {
        sign: Sign::Program(&["chromium", "chromium-browser", "google-chrome"]),
        packages: &["chromium", "chromium-browser"],
        why: "a headless browser: pages are tested in a real one",
        purposes: &[Test, All],
        runs_engine: false,
    },
    Need {
        sign: Sign::Program(&["chromedriver"]),
        packages: &["chromium-driver", "chromium-chromedriver"],
        why: "drives the browser in page tests",
        purposes: &[Test, All],
        runs_engine: false,
    },
    Need {
        sign: Sign::Program(&["docker-registry", "registry"]),
        packages: &["docker-registry"],
        why: "a registry on this machine: tests pull newer images from it",
        purposes: &[Test, All],
        runs_engine: false,
    },
    Need {
        sign: Sign::Program(&["openssl"]),
        packages: &["openssl"],
        why: "makes the certificates of TLS tests",
        purposes: &[Test, All],
        runs_engine: false,
    },
    Need {
        sign: Sign::Program(&["musl-gcc"]),
        packages: &["musl-tools"],
        why: "links the release into one static file",
        purposes: &[Purpose::Dist, Image, Bench, All],
        runs_engine: false,
    },
];

/// What `purpose` needs and `is_there` does not see. `running`: an engine answers already.
pub(crate) fn missing(
    purpose: Purpose,
    running: bool,
    is_there: impl Fn(&Need) -> bool,
) -> Vec<&'static Need> {
    let only_engine = matches!(purpose, Demo | Image);
    NEEDS
        .iter()
        .filter(|need| need.purposes.contains(&purpose))
        .filter(|need| !(need.runs_engine && running && only_engine))
        .filter(|need| !is_there(need))
        .collect()
}

/// Whether this machine has it.
pub(crate) fn is_there(need: &Need) -> bool {
    match need.sign {
        Sign::Program(names) => names.iter().any(|name| program::find(name).is_some()),
        Sign::StaticBusybox => elf::is_static(Path::new("/bin/busybox")).unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(needs: &[&Need]) -> Vec<&'static str> {
        needs.iter().filter_map(|need| need.packages.first().copied()).collect()
    }

    #[test]
    fn a_bare_machine_gets_everything_that_tests_use() {
        let bare = packages(&missing(Test, false, |_| false));
        for package in ["docker.io", "iptables", "iproute2", "busybox-static", "chromium", "chromium-driver"]
        {
            assert!(bare.contains(&package), "{package} in {bare:?}");
        }
        assert!(!bare.contains(&"musl-tools"), "only a release needs it");
    }

    #[test]
    fn nothing_is_missing_where_all_is_there() {
        assert!(missing(All, true, |_| true).is_empty());
    }

    #[test]
    fn a_demo_takes_the_engine_that_answers() {
        assert_eq!(packages(&missing(Demo, true, |_| false)), ["docker-cli", "busybox-static"]);
        assert!(packages(&missing(Demo, false, |_| false)).contains(&"docker.io"));
    }

    #[test]
    fn tests_need_their_own_engines_even_when_one_answers() {
        assert!(packages(&missing(Test, true, |_| false)).contains(&"docker.io"));
    }

    #[test]
    fn a_demo_needs_no_browser() {
        assert!(!packages(&missing(Demo, false, |_| false)).contains(&"chromium"));
    }
}
