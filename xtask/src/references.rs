//! The generated references under `docs/reference`: written from the binary, or compared with what it would write.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::program;

/// What the binary generates into `docs/reference`.
const REFERENCES: [&str; 3] = ["cli-reference", "settings-reference", "openapi"];

/// Writes the references anew.
pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    let folder = root.join("docs/reference");
    generate(&build(root)?, &REFERENCES, &folder)?;
    println!("wrote {}", folder.display());
    Ok(())
}

/// Fails when a checked-in reference is not what this binary would write.
pub(crate) fn check(root: &Path, binary: &Path) -> anyhow::Result<()> {
    let fresh = tempfile::tempdir().context("cannot create a temporary folder")?;
    generate(binary, &REFERENCES, fresh.path())?;
    let stale = stale(&texts(fresh.path())?, &texts(&root.join("docs/reference")).unwrap_or_default());
    if !stale.is_empty() {
        bail!("out of date under docs/reference: {}; run `cargo xtask references`", stale.join(", "));
    }
    println!("the references are up to date");
    Ok(())
}

/// Runs the binary's hidden generator.
pub(crate) fn generate(binary: &Path, kinds: &[&str], folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    for kind in kinds {
        program::output(Command::new(binary).args(["generate", kind, "--out"]).arg(folder))?;
    }
    Ok(())
}

/// Builds the binary for development and says where it is.
pub(crate) fn build(root: &Path) -> anyhow::Result<PathBuf> {
    program::run(program::cargo(root).args(["build", "--quiet", "--locked", "--package", "tugyard"]))?;
    Ok(built(root))
}

/// Where a development build leaves the binary.
pub(crate) fn built(root: &Path) -> PathBuf {
    program::target(root).join("debug/tugyard")
}

type Texts = BTreeMap<String, String>;

fn texts(folder: &Path) -> anyhow::Result<Texts> {
    let mut found = Texts::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        found.insert(name, text);
    }
    Ok(found)
}

/// Names of generated files that are missing or differ.
fn stale(fresh: &Texts, checked_in: &Texts) -> Vec<String> {
    fresh
        .iter()
        .filter(|(name, text)| checked_in.get(*name) != Some(text))
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> Texts {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_reference_that_differs_or_is_missing_is_stale() {
        let fresh = texts(&[("cli.md", "new"), ("settings.md", "same"), ("more.md", "x")]);
        let checked_in = texts(&[("cli.md", "old"), ("settings.md", "same")]);
        assert_eq!(stale(&fresh, &checked_in), ["cli.md", "more.md"]);
    }

    #[test]
    fn a_page_written_by_hand_beside_them_is_no_concern() {
        assert!(stale(&texts(&[]), &texts(&[("labels.md", "by hand")])).is_empty());
    }
}
