//! `cargo xtask demo` from beginning to end, on an engine of its own.

use std::{path::Path, process::Command};

use testkit::Engine;

#[test]
fn the_demo_on_a_private_engine_shows_runs_by_timer_and_by_event_and_leaves_nothing() {
    let engine = Engine::private();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_xtask"));
    demo.args(["demo", "--exit"]).env("DOCKER_HOST", engine.host());
    // A run of all tests has built it; else the demo does.
    let binary = Path::new(env!("CARGO_BIN_EXE_xtask")).with_file_name("tugyard");
    if binary.exists() {
        demo.arg("--binary").arg(binary);
    }
    let shown = demo.output().expect("xtask starts");
    let (table, story) = (String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
    assert!(shown.status.success(), "{story}\n{table}");
    let row =
        |why: &str| table.lines().find(|line| line.contains(why)).unwrap_or_else(|| panic!("{why}: {table}"));
    assert!(row("first run").contains("passed"), "{table}");
    assert!(row("every 10s").contains("passed"), "{table}");
    assert!(row("start").contains("failed"), "the second deployment has a mistake: {table}");
    assert!(table.contains("Open http://127.0.0.1:"), "{table}");

    assert_eq!(engine.docker(&["container", "ls", "--all", "--quiet"]), "");
    assert_eq!(engine.docker(&["network", "ls", "--quiet", "--filter", "label=tugyard.demo"]), "");
}
