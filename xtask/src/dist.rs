//! `cargo xtask dist`: the release as one static file with completions and man pages, an archive with its digest, and
//! on request a container image. Publishes nothing.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};

use crate::{
    elf, program, references,
    setup::{self, Purpose, cargo_tools::MUSL_TARGET},
};

/// Names under which the same file speaks as an older tool. More follow with the jobs they belong to.
const LINKS: [&str; 1] = ["tugbot"];
/// A command line that starts slower than this is felt.
const START_GOAL: Duration = Duration::from_millis(10);
const START_SAMPLES: usize = 20;

#[derive(clap::Args)]
pub(crate) struct DistArgs {
    /// Build the container image `tugyard:VERSION` as well
    #[arg(long)]
    image: bool,
    /// Base of the image, instead of the one named in deploy/Dockerfile
    #[arg(long, requires = "image", value_name = "REFERENCE")]
    base: Option<String>,
}

pub(crate) fn run(root: &Path, args: &DistArgs) -> anyhow::Result<()> {
    setup::run(root, if args.image { Purpose::Image } else { Purpose::Dist })?;
    let binary = build(root)?;
    let version = version(&binary)?;
    let folder = program::target(root).join("dist").join(format!("tugyard-{version}-x86_64-linux"));
    lay_out(root, &binary, &folder)?;
    let archive = pack(&folder)?;
    report_start(&binary)?;
    println!("{}", archive.display());
    if args.image {
        let reference = format!("tugyard:{version}");
        image(root, &folder, args.base.as_deref(), &reference)?;
        println!("image {reference}");
    }
    Ok(())
}

/// Builds the file as it is shipped.
pub(crate) fn build(root: &Path) -> anyhow::Result<PathBuf> {
    setup::cargo_tools::musl_target(root)?;
    eprintln!("building the static release (about ten minutes on two cores the first time)");
    program::run(program::cargo(root).args([
        "build",
        "--locked",
        "--release",
        "--package",
        "tugyard",
        "--target",
        MUSL_TARGET,
    ]))?;
    let binary = program::target(root).join(MUSL_TARGET).join("release/tugyard");
    if !elf::is_static(&binary)? {
        bail!("`{}` needs a dynamic loader: a dependency links a shared library", binary.display());
    }
    Ok(binary)
}

/// The last word of what `--version` prints.
fn version(binary: &Path) -> anyhow::Result<String> {
    let text = program::output(Command::new(binary).arg("--version"))?;
    let word = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    word.map(str::to_owned).with_context(|| format!("`--version` printed no version: {text}"))
}

/// Lays out what a user unpacks.
fn lay_out(root: &Path, binary: &Path, folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove `{}`", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    copy(binary, &folder.join("tugyard"))?;
    for link in LINKS {
        symlink("tugyard", folder.join(link)).with_context(|| format!("cannot link `{link}`"))?;
    }
    for file in ["LICENSE", "README.md", "CHANGELOG.md"] {
        copy(&root.join(file), &folder.join(file))?;
    }
    copy(&root.join("deploy/systemd/tugyard.service"), &folder.join("tugyard.service"))?;
    references::generate(binary, &["completions"], &folder.join("completions"))?;
    references::generate(binary, &["man"], &folder.join("man"))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy `{}` to `{}`", from.display(), to.display()))?;
    Ok(())
}

/// Packs the folder into a `.tar.gz` with its `.sha256` beside it. The same files give the same bytes.
fn pack(folder: &Path) -> anyhow::Result<PathBuf> {
    let name = folder.file_name().context("a release folder has a name")?.to_string_lossy().into_owned();
    let archive = folder.with_file_name(format!("{name}.tar.gz"));
    let file = File::create(&archive).with_context(|| format!("cannot create `{}`", archive.display()))?;
    let mut tar = tar::Builder::new(GzEncoder::new(BufWriter::new(file), Compression::best()));
    tar.mode(tar::HeaderMode::Deterministic);
    tar.follow_symlinks(false);
    for path in sorted_tree(folder)? {
        let inside = Path::new(&name).join(path.strip_prefix(folder)?);
        tar.append_path_with_name(&path, &inside)
            .with_context(|| format!("cannot pack `{}`", path.display()))?;
    }
    tar.into_inner()?.finish()?.flush()?;
    let digest = hex::encode(Sha256::digest(fs::read(&archive)?));
    fs::write(folder.with_file_name(format!("{name}.tar.gz.sha256")), format!("{digest}  {name}.tar.gz\n"))?;
    Ok(archive)
}

fn sorted_tree(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let inner = if path.is_dir() && !path.is_symlink() { sorted_tree(&path)? } else { Vec::new() };
        all.push(path);
        all.extend(inner);
    }
    Ok(all)
}

/// Measures how long the file takes to start. A busy machine is no reason to fail.
fn report_start(binary: &Path) -> anyhow::Result<()> {
    let mut samples = Vec::with_capacity(START_SAMPLES);
    for _ in 0..START_SAMPLES {
        let began = Instant::now();
        program::output(Command::new(binary).arg("--version"))?;
        samples.push(began.elapsed());
    }
    samples.sort();
    let median = samples[START_SAMPLES / 2];
    let megabytes = fs::metadata(binary)?.len() as f64 / 1e6;
    println!(
        "static, {megabytes:.1} MB, starts in {:.1} ms (median of {START_SAMPLES})",
        median.as_secs_f64() * 1e3
    );
    if median > START_GOAL {
        eprintln!("dist: warning: the goal is {START_GOAL:?}; measure again on an idle machine");
    }
    Ok(())
}

/// Builds the image without a network: nothing but the base and the file goes in.
fn image(root: &Path, folder: &Path, base: Option<&str>, reference: &str) -> anyhow::Result<()> {
    let context = tempfile::tempdir().context("cannot create a temporary folder")?;
    let (programs, state) = (context.path().join("bin"), context.path().join("state"));
    for folder in [&programs, &state] {
        fs::create_dir(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    }
    copy(&folder.join("tugyard"), &programs.join("tugyard"))?;
    for link in LINKS {
        symlink("tugyard", programs.join(link)).with_context(|| format!("cannot link `{link}`"))?;
    }
    let mut command = program::docker(["build", "--network", "none", "--tag", reference, "--file"]);
    command.arg(root.join("deploy/Dockerfile"));
    if let Some(base) = base {
        command.args(["--build-arg", &format!("BASE={base}")]);
    }
    program::run(command.arg(context.path()).stdout(std::io::stderr()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_archive_and_its_digest_is_right() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let folder = place.path().join("tugyard-1.0.0-x86_64-linux");
        fs::create_dir_all(folder.join("man")).expect("writable");
        fs::write(folder.join("tugyard"), "binary").expect("writable");
        fs::write(folder.join("man/tugyard.1"), "page").expect("writable");
        symlink("tugyard", folder.join("tugbot")).expect("writable");
        let archive = pack(&folder).expect("packs");
        let first = fs::read(&archive).expect("readable");
        fs::write(folder.join("man/tugyard.1"), "page").expect("writable again, with another time");
        assert_eq!(fs::read(pack(&folder).expect("packs")).expect("readable"), first);

        let checked = Command::new("sha256sum")
            .current_dir(place.path())
            .args(["--check", "--status", "tugyard-1.0.0-x86_64-linux.tar.gz.sha256"])
            .status();
        assert!(checked.expect("coreutils").success());
    }

    #[test]
    fn links_stay_links_in_the_archive() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let folder = place.path().join("release");
        fs::create_dir_all(&folder).expect("writable");
        fs::write(folder.join("tugyard"), "binary").expect("writable");
        symlink("tugyard", folder.join("tugbot")).expect("writable");
        let archive = pack(&folder).expect("packs");
        let listed = program::output(Command::new("tar").arg("-tvzf").arg(archive)).expect("readable");
        assert!(listed.contains("release/tugbot -> tugyard"), "{listed}");
    }
}
