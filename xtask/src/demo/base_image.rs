//! A base image from this machine's static busybox: no registry, no network.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::program;

const BUSYBOX: &str = "/bin/busybox";

/// Imports the base image under this name.
pub(super) fn import(reference: &str) -> anyhow::Result<()> {
    let layer = layer(Path::new(BUSYBOX))?;
    let mut command =
        program::docker(["import", "--change", "ENV PATH=/bin", "--change", "CMD [\"/bin/sh\"]"]);
    command.args(["-", reference]).stdin(Stdio::piped()).stdout(Stdio::null());
    let shown = program::line(&command);
    let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
    let sent = child.stdin.take().context("standard input is a pipe")?.write_all(&layer);
    let status = child.wait()?;
    if !status.success() {
        bail!("`{shown}` failed with {status}");
    }
    sent.with_context(|| format!("`{shown}` did not take the image"))
}

/// A tar of `/bin/busybox` with a link for each of its tools.
fn layer(busybox: &Path) -> anyhow::Result<Vec<u8>> {
    let binary = fs::read(busybox).with_context(|| format!("cannot read `{}`", busybox.display()))?;
    let tools = program::output(Command::new(busybox).arg("--list"))?;
    let mut tar = tar::Builder::new(Vec::new());
    for (folder, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777), ("var/", 0o755)] {
        entry(&mut tar, tar::EntryType::Directory, mode, folder, &[])?;
    }
    entry(&mut tar, tar::EntryType::Regular, 0o644, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\n")?;
    entry(&mut tar, tar::EntryType::Regular, 0o755, "bin/busybox", &binary)?;
    for tool in tools.lines().filter(|tool| *tool != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{tool}"), "busybox")?;
    }
    Ok(tar.into_inner()?)
}

fn entry(
    tar: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    mode: u32,
    path: &str,
    content: &[u8],
) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    Ok(tar.append_data(&mut header, path, content)?)
}
