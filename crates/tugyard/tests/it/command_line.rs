//! What the command line promises: help, versions, settings, exit codes, messages that name the way out.

use serde_json::Value;

use crate::support::{run, tugyard};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn check(words: &[&str], code: i32, message: &str) {
    let output = run(words);
    let said = text(&output.stderr) + &text(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{words:?} said: {said}");
    assert!(said.contains(message), "{words:?} should say `{message}` but said: {said}");
}

#[test]
fn help_and_version_are_results() {
    check(&["--version"], 0, "tugyard 0.");
    check(&["-v"], 0, "tugyard 0.");
    check(&["run", "--help"], 0, "--tlsverify");
    check(&["run", "-h"], 0, "Overrides labels of one test");
    check(&["watch", "-h"], 0, "--result-service");
    check(&["--help"], 0, "Exit codes");
}

#[test]
fn wrong_usage_ends_with_2_and_names_the_way_out() {
    check(&["run", "--nonsense"], 2, "--nonsense");
    check(&["watch"], 2, "--result-service URL or TUGYARD_RESULT_SERVICE");
    check(&["run", "--host", "ssh//x"], 2, "unix:///path/to/socket or tcp://host:port");
    check(&["run", "-c", "results=/r"], 2, "name=");
    check(&["run", "--tls", "--tlsverify"], 2, "--tlsverify is the safe one");
    check(&["--config", "/nowhere/t.toml", "run"], 2, "/nowhere/t.toml");
    check(&["watch", "-r", "http://127.0.0.1:1", "--api-key-file", "/nowhere/key"], 2, "/nowhere/key");
}

#[test]
fn an_engine_that_does_not_answer_ends_with_3() {
    check(&["run", "--plan", "--host", "unix:///nowhere/docker.sock"], 3, "/nowhere/docker.sock");
    check(&["run", "--plan", "--host", "tcp://127.0.0.1:9"], 3, "127.0.0.1:9");
}

#[test]
fn config_tells_where_each_value_came_from_and_hides_secrets() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("tugyard.toml");
    std::fs::write(&file, "[run]\ninterval = 60\ncleanup = true\nwebhook = [\"http://a.example\"]\n")
        .unwrap();
    let output = tugyard()
        .args(["config", "run", "--output", "json", "--config"])
        .arg(&file)
        .env("DOCKER_HOST", "tcp://127.0.0.1:1")
        .env("TUGYARD_API_KEY", "ty_very-secret")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!text(&output.stdout).contains("very-secret"));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let row = |setting: &str| {
        let row = rows.iter().find(|r| r["setting"] == setting).unwrap();
        (row["value"].as_str().unwrap_or_default().to_owned(), row["source"].as_str().unwrap().to_owned())
    };
    let from_file = format!("file {}", file.display());
    assert_eq!(row("interval"), ("60".into(), from_file.clone()));
    assert_eq!(row("cleanup"), ("true".into(), from_file.clone()));
    assert_eq!(row("webhook"), ("http://a.example".into(), from_file));
    assert_eq!(row("host"), ("tcp://127.0.0.1:1".into(), "environment DOCKER_HOST".into()));
    assert_eq!(row("api-key"), ("(hidden)".into(), "environment TUGYARD_API_KEY".into()));
    assert_eq!(row("no-pull").1, "default");
}

#[test]
fn answers_to_the_name_tugbot() {
    let home = tempfile::tempdir().unwrap();
    let link = home.path().join("tugbot");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tugyard"), &link).unwrap();
    let output = std::process::Command::new(&link).args(["watch", "-dir", "/var/tests"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("--result-service URL"),
        "the old spelling -dir is understood, the URL missed: {said}"
    );
    let help = std::process::Command::new(&link).args(["run", "--help"]).output().unwrap();
    assert!(text(&help.stdout).contains("Usage: tugbot run"), "{}", text(&help.stdout));
}
