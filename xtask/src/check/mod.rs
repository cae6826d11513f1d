//! The house rules as code: arrows between crates, file headers and sizes, what a library must not do.
//! Each rule is a pure function with tests that show it failing; only this file reads the tree.

mod arrows;
mod docs;
mod files;
mod finding;
mod lines;
mod source;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use cargo_metadata::MetadataCommand;
use finding::Finding;
use source::Source;

/// Folders that hold the project's own text.
const FOLDERS: [&str; 9] =
    ["crates", "testkit", "xtask", "fuzz", "docs", "deploy", "examples", ".config", ".ci"];
/// Kinds of files that are text a person wrote.
const TEXT: [&str; 10] = ["rs", "md", "toml", "yaml", "yml", "sh", "html", "css", "js", "service"];

/// Checks the whole workspace; an error lists every breach.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cannot read the workspace's manifests")?;
    let crates = arrows::crates(&metadata);
    let mut found = arrows::forbidden_arrows(&crates);
    found.extend(arrows::misplaced_dependencies(&crates));
    let paths = paths(root)?;
    let texts = texts(root, &paths)?;
    let names: BTreeSet<String> = paths.iter().map(|path| relative(root, path)).collect();
    let here = here(root);
    for (path, text) in &texts {
        found.extend(lines::machine_paths(path, text, &here));
        if path.ends_with(".rs") {
            found.extend(rust_rules(&Source::new(path, text)));
        } else if path.ends_with(".md") {
            found.extend(docs::dangling(path, text, &names));
        }
    }
    if found.is_empty() {
        println!("{} crates and {} files keep the house rules", crates.len(), texts.len());
        return Ok(());
    }
    found.sort();
    let list: String = found.iter().map(|finding| format!("\n  {finding}")).collect();
    bail!("{} breaches of the house rules:{list}", found.len())
}

/// This checkout and this user's home: neither belongs into the project's text. Root's home has the same name
/// everywhere, containers included, so it tells nothing.
fn here(root: &Path) -> Vec<String> {
    let home = std::env::var("HOME").ok().filter(|home| Path::new(home).components().count() > 2);
    home.into_iter().chain([root.display().to_string()]).collect()
}

fn rust_rules(source: &Source) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        [files::header(source), files::size(source), files::name(source)].into_iter().flatten().collect();
    found.extend(lines::library_purity(source));
    found.extend(lines::unfinished(source));
    found
}

/// Every file of the project.
fn paths(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = read_dir(root)?.into_iter().filter(|path| path.is_file()).collect();
    for folder in FOLDERS.map(|folder| root.join(folder)) {
        if folder.is_dir() {
            walk(&folder, &mut paths)?;
        }
    }
    paths.sort();
    Ok(paths)
}

/// The text files among these, by their path from the root.
fn texts(root: &Path, paths: &[PathBuf]) -> anyhow::Result<Vec<(String, String)>> {
    let is_text =
        |path: &&PathBuf| path.extension().is_some_and(|kind| TEXT.iter().any(|text| kind == *text));
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Ok((relative(root, path), text))
    };
    paths.iter().filter(is_text).map(read).collect()
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for path in read_dir(folder)? {
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && !path.is_symlink() {
            if !["target", "corpus", "artifacts", "proptest-regressions"].iter().any(|made| name == *made) {
                walk(&path, found)?;
            }
        } else if path.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

fn read_dir(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}
