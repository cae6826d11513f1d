//! The release's image on a local base: what a user of `deploy/Dockerfile` gets. The file inside is a stand-in, since
//! building the static release takes longer than all tests together; `cargo xtask dist --image` puts the real one in.

use std::{fs, os::unix::fs::symlink, path::Path};

use testkit::{Engine, unique};

/// Built images and their containers, removed in the end.
struct Image {
    engine: Engine,
    reference: String,
}

impl Image {
    fn build() -> Self {
        let engine = Engine::shared();
        let context = tempfile::tempdir().expect("a temporary folder");
        for folder in ["bin", "state"] {
            fs::create_dir(context.path().join(folder)).expect("writable");
        }
        fs::copy("/bin/busybox", context.path().join("bin/tugyard")).expect("setup installs busybox-static");
        symlink("tugyard", context.path().join("bin/tugbot")).expect("writable");
        let dockerfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/Dockerfile");
        let (base, reference) =
            (format!("BASE={}", engine.busybox()), unique("tugyard-image").to_lowercase());
        let (dockerfile, folder) = (dockerfile.display().to_string(), context.path().display().to_string());
        engine.docker(&[
            "build",
            "--quiet",
            "--network",
            "none",
            "--build-arg",
            &base,
            "--tag",
            &reference,
            "--file",
            &dockerfile,
            &folder,
        ]);
        Self { engine, reference }
    }

    fn config(&self, field: &str) -> String {
        self.engine.docker(&[
            "image",
            "inspect",
            "--format",
            &format!("{{{{json .Config.{field}}}}}"),
            &self.reference,
        ])
    }

    fn shell(&self, script: &str) -> String {
        let image = &self.reference;
        self.engine.docker(&[
            "run",
            "--rm",
            "--network",
            "none",
            "--read-only",
            "--entrypoint",
            "/bin/sh",
            image,
            "-c",
            script,
        ])
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = self.engine.try_docker(&["image", "rm", "--force", &self.reference]);
    }
}

#[test]
fn the_image_starts_the_binary_as_an_unprivileged_user() {
    let image = Image::build();
    assert_eq!(image.config("User"), r#""65532:65532""#);
    assert_eq!(image.config("Entrypoint"), r#"["/usr/local/bin/tugyard"]"#);
    assert_eq!(image.config("Healthcheck"), "null");
    assert_eq!(image.shell("id -u"), "65532");
}

#[test]
fn the_image_holds_one_file_its_links_and_a_folder_for_state() {
    let image = Image::build();
    assert_eq!(image.shell("readlink /usr/local/bin/tugbot"), "tugyard");
    assert_eq!(image.shell("stat -c '%u %a' /var/lib/tugyard"), "65532 755");
    let script = "touch /usr/local/bin/x 2>/dev/null && echo writable || echo not writable";
    assert_eq!(image.shell(script), "not writable");
}

#[test]
fn a_volume_over_the_folder_for_state_is_writable() {
    let image = Image::build();
    let volume = unique("tugyard-state").to_lowercase();
    let mount = format!("{volume}:/var/lib/tugyard");
    let written = image.engine.docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--volume",
        &mount,
        "--entrypoint",
        "/bin/sh",
        &image.reference,
        "-c",
        "echo kept > /var/lib/tugyard/file && cat /var/lib/tugyard/file",
    ]);
    image.engine.docker(&["volume", "rm", &volume]);
    assert_eq!(written, "kept");
}
