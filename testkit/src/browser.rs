//! A headless Chromium that a test drives over chromedriver. Each has its own profile and dies with its handle;
//! it never talks to anything but what the test opens.

use std::{path::Path, process::Stdio, time::Duration};

use fantoccini::{Client, ClientBuilder, Locator, wd::WebDriverCompatibleCommand};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::eventually;

const INSTALL: &str = "install it: apt-get install chromium chromium-driver (or `cargo xtask setup`)";

/// How long a condition on a page may take to come true. Generous: nothing here measures speed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running browser with one window.
pub struct Browser {
    client: Client,
    driver: Child,
    profile: Option<TempDir>,
    // Held open: chromedriver would die of a closed pipe.
    _driver_output: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    /// Starts a browser with a window of 1280 × 900.
    pub async fn start() -> Self {
        Self::with_preferences(json!({})).await
    }

    /// Starts a browser that runs no script of any page.
    pub async fn without_scripts() -> Self {
        Self::with_preferences(json!({ "profile.managed_default_content_settings.javascript": 2 })).await
    }

    async fn with_preferences(preferences: Value) -> Self {
        let profile = tempfile::Builder::new()
            .prefix("testkit-browser-")
            .tempdir()
            .expect("a temporary directory can be made");
        // A group of its own: Chromium's processes are in it, so one signal ends all of them.
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start chromedriver: {error}; {INSTALL}"));
        let mut output = BufReader::new(driver.stdout.take().expect("stdout was piped")).lines();
        let port = port_of(&mut output).await;

        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-quic",
            "--disable-breakpad",
            "--no-first-run",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
            "--window-size=1280,900",
        ];
        let mut arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        arguments.push(format!("--user-data-dir={}", profile.path().join("profile").display()));
        let capabilities = json!({
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments, "prefs": preferences },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("it was written as an object") };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap_or_else(|error| panic!("chromedriver cannot start Chromium: {error}; {INSTALL}"));
        Self { client, driver, profile: Some(profile), _driver_output: output }
    }

    /// The WebDriver client, for what this type has no word for.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Opens a page and waits until it is loaded.
    pub async fn goto(&self, url: &str) {
        self.client.goto(url).await.unwrap_or_else(|error| panic!("cannot open {url}: {error}"));
    }

    /// The address of the page that is shown.
    pub async fn url(&self) -> String {
        self.client.current_url().await.expect("a window has an address").to_string()
    }

    /// The visible text of the first element that matches, waiting for it to appear.
    pub async fn text(&self, css: &str) -> String {
        eventually(&format!("an element `{css}`"), PATIENCE, || async {
            let element = self.client.find(Locator::Css(css)).await.ok()?;
            element.text().await.ok()
        })
        .await
    }

    /// Waits until the visible text of the first match contains `part`, and returns that text.
    pub async fn text_with(&self, css: &str, part: &str) -> String {
        eventually(&format!("`{part}` in `{css}`"), PATIENCE, || async {
            let element = self.client.find(Locator::Css(css)).await.ok()?;
            element.text().await.ok().filter(|text| text.contains(part))
        })
        .await
    }

    /// The visible texts of all elements that match now.
    pub async fn texts(&self, css: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for element in self.client.find_all(Locator::Css(css)).await.expect("the selector is valid") {
            texts.push(element.text().await.unwrap_or_default());
        }
        texts
    }

    /// How many elements match now.
    pub async fn count(&self, css: &str) -> usize {
        self.client.find_all(Locator::Css(css)).await.expect("the selector is valid").len()
    }

    /// Waits until exactly `count` elements match.
    pub async fn wait_for_count(&self, css: &str, count: usize) {
        eventually(&format!("{count} × `{css}`"), PATIENCE, || async {
            (self.count(css).await == count).then_some(())
        })
        .await;
    }

    /// An attribute of the first element that matches.
    pub async fn attribute(&self, css: &str, name: &str) -> Option<String> {
        self.element(css).await.attr(name).await.expect("an attribute can be read")
    }

    /// The computed value of a style property of the first element that matches.
    pub async fn style(&self, css: &str, property: &str) -> String {
        self.element(css).await.css_value(property).await.expect("a style can be read")
    }

    /// Clicks the first element that matches.
    pub async fn click(&self, css: &str) {
        self.element(css).await.click().await.unwrap_or_else(|error| panic!("cannot click `{css}`: {error}"));
    }

    /// Types into the first element that matches.
    pub async fn type_into(&self, css: &str, keys: &str) {
        let element = self.element(css).await;
        element.send_keys(keys).await.unwrap_or_else(|error| panic!("cannot type into `{css}`: {error}"));
    }

    async fn element(&self, css: &str) -> fantoccini::elements::Element {
        let found = self.client.find(Locator::Css(css)).await;
        found.unwrap_or_else(|error| panic!("no element matches `{css}`: {error}"))
    }

    /// Runs a script in the page and returns what it `return`s.
    pub async fn evaluate(&self, script: &str) -> Value {
        let result = self.client.execute(script, Vec::new()).await;
        result.unwrap_or_else(|error| panic!("the page refused `{script}`: {error}"))
    }

    /// Gives the page this viewport, in CSS pixels; below 700 it behaves as a phone does.
    pub async fn viewport(&self, width: u32, height: u32) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700 });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Makes pages believe that the user prefers dark (or light) colours.
    pub async fn prefer_dark(&self, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", media).await;
    }

    /// Sends a command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.driver_command("goog/cdp/execute", body).await
    }

    /// What the console has said since the last call: errors of scripts, failed requests, violated policies. The browser's
    /// own start page is left out: on a slow machine it talks about its fonts.
    pub async fn console(&self) -> Vec<String> {
        let entries = self.driver_command("se/log", json!({ "type": "browser" })).await;
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .filter(|entry| !entry["message"].as_str().is_some_and(|m| m.starts_with("chrome://")))
            .map(|entry| format!("{}: {}", entry["level"].as_str().unwrap_or("?"), entry["message"]))
            .collect()
    }

    /// Saves what the window shows as a PNG file.
    pub async fn screenshot(&self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        let png = self.client.screenshot().await.expect("a window can be photographed");
        std::fs::write(path, png).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }

    async fn driver_command(&self, path: &'static str, body: Value) -> Value {
        let answer = self.client.issue_cmd(DriverCommand { path, body }).await;
        answer.unwrap_or_else(|error| panic!("chromedriver refused {path}: {error}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(group) = self.driver.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            // Fails only when all of them are gone already.
            let _ = kill_process_group(group, Signal::KILL);
        }
        // Killed processes may still be closing files for a moment.
        if let Some(profile) = self.profile.take() {
            let path = profile.keep();
            for _ in 0..100 {
                if std::fs::remove_dir_all(&path).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

async fn port_of(output: &mut Lines<BufReader<ChildStdout>>) -> u16 {
    let mut said = String::new();
    while let Ok(Some(line)) = output.next_line().await {
        if let Some(port) = line.strip_prefix("ChromeDriver was started successfully on port ") {
            return port.trim_end_matches('.').parse().expect("chromedriver prints a port");
        }
        said.push_str(&line);
        said.push('\n');
    }
    panic!("chromedriver ended before it was ready: {said}");
}

/// A command of chromedriver that the WebDriver standard does not have.
#[derive(Debug)]
struct DriverCommand {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for DriverCommand {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}
