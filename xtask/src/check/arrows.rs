//! Which crate may depend on which: the list of the architecture, compared with the manifests.
//! Also who may use the dependencies that belong to one crate. Pure: metadata in, findings out.

use cargo_metadata::{DependencyKind, Metadata};

use super::finding::Finding;

/// A workspace crate as its manifest declares it.
#[derive(Clone, Debug)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<(String, DependencyKind)>,
}

/// The permitted arrows, and no others. Crates that do not exist yet are listed as the architecture has them.
/// `tugyard` may use everything and is not listed.
const ARROWS: &[(&str, &[&str])] = &[
    ("container-engine", &[]),
    ("test-results", &[]),
    ("test-runner", &["container-engine", "test-results"]),
    ("cloud-probe", &["container-engine", "test-results"]),
    ("result-collector", &["container-engine", "test-results"]),
    ("image-build", &["container-engine"]),
    ("wheel-build", &["container-engine"]),
    ("build-host", &["test-results"]),
    ("artifact-mirror", &["test-results"]),
    ("glance-import", &["test-results"]),
    ("result-service", &["test-results"]),
    ("testkit", &[]),
    ("xtask", &[]),
];

/// The binary joins the jobs.
const BINARY: &str = "tugyard";

/// Real servers for tests: never part of a product.
const TESTKIT: &str = "testkit";

/// A dependency, and the crates that may have it in their product.
struct Owned {
    dependency: &'static str,
    owners: &'static [&'static str],
    /// Whether other crates may use it in their tests.
    in_tests: bool,
}

const OWNED: &[Owned] = &[
    Owned { dependency: "bollard", owners: &["container-engine"], in_tests: false },
    Owned { dependency: "sqlx", owners: &["result-service"], in_tests: false },
    Owned { dependency: "axum", owners: &["result-service"], in_tests: true },
    Owned { dependency: "clap", owners: &["tugyard", "xtask"], in_tests: false },
    Owned { dependency: "indicatif", owners: &["tugyard", "xtask"], in_tests: false },
    Owned { dependency: "anyhow", owners: &["tugyard", "xtask", "testkit"], in_tests: true },
];

/// The workspace's crates out of `cargo metadata`.
pub(crate) fn crates(metadata: &Metadata) -> Vec<Crate> {
    let declared = |package: &&cargo_metadata::Package| Crate {
        name: package.name.to_string(),
        dependencies: package.dependencies.iter().map(|dep| (dep.name.clone(), dep.kind)).collect(),
    };
    metadata.workspace_packages().iter().map(declared).collect()
}

/// Arrows between our crates that the architecture does not permit.
pub(crate) fn forbidden_arrows(crates: &[Crate]) -> Vec<Finding> {
    let ours: Vec<&str> = crates.iter().map(|it| it.name.as_str()).collect();
    let mut found = Vec::new();
    for from in crates {
        let permitted = ARROWS.iter().find(|(name, _)| *name == from.name).map(|(_, to)| *to);
        if permitted.is_none() && from.name != BINARY {
            found.push(Finding::new(
                &from.name,
                "this crate is not in the architecture's list: add it there and to xtask/src/check/arrows.rs",
            ));
            continue;
        }
        for (to, kind) in from.dependencies.iter().filter(|(to, _)| ours.contains(&to.as_str())) {
            let fine = match (to.as_str(), permitted) {
                (TESTKIT, _) => *kind == DependencyKind::Development,
                (_, None) => true,
                // A crate's tests may name what its product may name, and nothing beyond.
                (to, Some(permitted)) => permitted.contains(&to),
            };
            if !fine {
                found.push(Finding::new(
                    &from.name,
                    format!("depends on `{to}`, an arrow that the architecture does not permit"),
                ));
            }
        }
    }
    found
}

/// Dependencies used outside the crate that they belong to.
pub(crate) fn misplaced_dependencies(crates: &[Crate]) -> Vec<Finding> {
    let mut found = Vec::new();
    for krate in crates {
        for (name, kind) in &krate.dependencies {
            let Some(owned) = OWNED.iter().find(|owned| owned.dependency == name) else { continue };
            let in_tests = owned.in_tests && *kind == DependencyKind::Development;
            if !owned.owners.contains(&krate.name.as_str()) && !in_tests {
                let owners = owned.owners.join(", ");
                found.push(Finding::new(
                    &krate.name,
                    format!("depends on `{name}`, which belongs to {owners}"),
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use DependencyKind::{Development, Normal};

    fn krate(name: &str, dependencies: &[(&str, DependencyKind)]) -> Crate {
        let dependencies = dependencies.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
        Crate { name: name.to_owned(), dependencies }
    }

    fn house(changed: Crate) -> Vec<Crate> {
        let mut crates = vec![
            krate(
                "tugyard",
                &[("test-runner", Normal), ("result-service", Normal), ("testkit", Development)],
            ),
            krate(
                "test-runner",
                &[("container-engine", Normal), ("test-results", Normal), ("serde", Normal)],
            ),
            krate("container-engine", &[("bollard", Normal)]),
            krate("result-service", &[("test-results", Normal), ("sqlx", Normal), ("axum", Normal)]),
            krate("test-results", &[]),
            krate("testkit", &[]),
        ];
        crates.retain(|it| it.name != changed.name);
        crates.push(changed);
        crates
    }

    fn messages(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_permitted_arrows_pass() {
        let crates = house(krate("xtask", &[("clap", Normal), ("testkit", Development)]));
        assert_eq!(forbidden_arrows(&crates), []);
        assert_eq!(misplaced_dependencies(&crates), []);
    }

    #[test]
    fn one_job_must_not_use_another() {
        let crates = house(krate("test-runner", &[("result-service", Normal)]));
        assert_eq!(
            messages(&forbidden_arrows(&crates)),
            ["test-runner: depends on `result-service`, an arrow that the architecture does not permit"]
        );
    }

    #[test]
    fn an_arrow_from_tests_counts_too() {
        let crates = house(krate("result-service", &[("container-engine", Development)]));
        assert_eq!(forbidden_arrows(&crates).len(), 1);
    }

    #[test]
    fn testkit_must_not_enter_a_product() {
        for kind in [Normal, DependencyKind::Build] {
            let crates = house(krate("tugyard", &[("testkit", kind)]));
            assert_eq!(forbidden_arrows(&crates).len(), 1);
        }
    }

    #[test]
    fn a_crate_outside_the_list_is_found() {
        let crates = house(krate("string-things", &[]));
        assert!(messages(&forbidden_arrows(&crates))[0].starts_with("string-things: this crate is not in"));
    }

    #[test]
    fn the_docker_client_stays_in_its_crate_even_in_tests() {
        let crates = house(krate("test-runner", &[("bollard", Development)]));
        assert_eq!(
            messages(&misplaced_dependencies(&crates)),
            ["test-runner: depends on `bollard`, which belongs to container-engine"]
        );
    }

    #[test]
    fn axum_may_serve_in_tests_of_others_but_not_in_their_product() {
        let in_tests = house(krate("test-runner", &[("axum", Development)]));
        assert_eq!(misplaced_dependencies(&in_tests), []);
        let in_product = house(krate("test-runner", &[("axum", Normal)]));
        assert_eq!(misplaced_dependencies(&in_product).len(), 1);
    }
}
