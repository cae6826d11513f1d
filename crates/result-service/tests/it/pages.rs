//! The pages in a real browser, over a real service that got its runs through HTTP.

mod sample;

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use testkit::browser::Browser;

use self::sample::{REFUND, Run, container_event, failed_run, history, post_event};
use crate::served::{Served, problem};

/// What Chromium sends when somebody opens a page.
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";

fn ago(seconds: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_secs(seconds)
}

async fn open_to_all() -> Served {
    Served::with(|settings| settings.access.open_upload = true).await
}

/// Fails when the page broke a policy, met an error in a script, or could not load something.
async fn assert_quiet(browser: &Browser) {
    let said = browser.console().await;
    assert!(said.is_empty(), "the console says: {said:#?}");
}

#[tokio::test]
async fn the_list_shows_each_test_with_its_runs_and_filters_while_one_types() {
    let served = Served::start().await;
    for (test, owner, exit_codes) in
        [("checkout", "team-a", &[0, 0, 1][..]), ("search", "team-b", &[1, 0]), ("backup", "", &[0])]
    {
        for (place, exit_code) in exit_codes.iter().enumerate() {
            let run = Run::of(test).exit(*exit_code).at(ago(600 - place as i64 * 60), 1.0 + place as f64);
            run.label("tugbot.owner", owner).upload(&served).await;
        }
    }
    let browser = Browser::start().await;
    browser.goto(&served.url("/")).await;

    assert_eq!(
        browser.texts(".tests .name a").await,
        ["checkout", "backup", "search"],
        "failures come first"
    );
    assert_eq!(browser.texts(".tests .badge").await, ["failed", "passed", "passed"]);
    assert!(browser.text(".tests tbody tr:nth-child(1) .owner").await.ends_with("team-a"));
    assert_eq!(browser.texts(".choices .choice b").await, ["3", "2", "1", "0", "0"]);
    assert_eq!(browser.count(".tests tbody tr:nth-child(1) a.bar").await, 3);
    assert_eq!(browser.count(".tests tbody tr:nth-child(1) a.bar.is-failed").await, 1);
    assert!(browser.text(".tests tbody tr:nth-child(1) .rate").await.contains("66 %"));
    assert_eq!(browser.text(".tests tbody tr:nth-child(1) .pace").await, "3.00 s");
    assert_eq!(browser.count(".tests tbody tr:nth-child(1) .pace polyline").await, 1);
    let title = browser.evaluate("return document.querySelector('a.bar.is-failed title').textContent").await;
    assert!(title.as_str().unwrap().starts_with("failed · 3.00 s · 20"), "{title}");

    // `/` moves to the filter; typing into it filters, and the address can be shared.
    browser.type_into("body", "/").await;
    assert_eq!(browser.evaluate("return document.activeElement.id").await, "q");
    browser.client().active_element().await.unwrap().send_keys("sea").await.unwrap();
    browser.wait_for_count(".tests tbody tr", 1).await;
    assert_eq!(browser.text(".tests .name a").await, "search");
    assert!(browser.url().await.ends_with("/?q=sea"));
    assert_eq!(browser.evaluate("return document.activeElement.id").await, "q", "typing can go on");

    browser.goto(&served.url("/?state=failed")).await;
    assert_eq!(browser.texts(".tests .name a").await, ["checkout"]);
    browser.click(".tests .name a").await;
    assert_eq!(browser.text("h1").await, "checkout");
    assert_quiet(&browser).await;
}

#[tokio::test]
async fn an_empty_service_says_how_to_get_the_first_result() {
    let served = Served::start().await;
    let browser = Browser::start().await;
    browser.goto(&served.url("/")).await;
    let text = browser.text_with(".empty", "tugyard watch").await;
    assert!(text.contains(&format!("--result-service {}", served.url(""))), "{text}");
    // What it says works: the first result appears.
    Run::of("first").upload(&served).await;
    assert_eq!(browser.text(".tests .name a").await, "first");
    assert_quiet(&browser).await;
}

#[tokio::test]
async fn a_run_shows_its_cause_cases_console_and_files() {
    let served = Served::start().await;
    let started = ago(95);
    post_event(&served, &container_event("01-web-create", "create", "web", started)).await;
    let page = failed_run(started).upload(&served).await;
    let browser = Browser::start().await;
    browser.goto(&served.url(&page)).await;

    assert!(browser.text(".outcome").await.eq_ignore_ascii_case("failed with exit code 1"));
    assert!(browser.text(".verdict").await.contains("26 cases: 24 passed, 1 failed, 1 skipped"));
    let facts = browser.text(".facts").await;
    for fact in ["registry.shop.example/tests:2.14", "node-3.shop.example", "9c7a54a9a43c", "20.10.24"] {
        assert!(facts.contains(fact), "{fact} is missing in {facts}");
    }

    // A failed run opens with its failures, unfolded.
    assert_eq!(browser.texts(".cases .badge").await, ["failed"]);
    assert_eq!(browser.text(".cases summary").await, REFUND.1);
    let text = browser.text(".cases pre.term").await;
    assert!(text.contains("assert shop.refund(order).status == 200"), "{text}");
    assert!(text.contains("where 502 = <Response POST /orders/1077/refund>.status"), "{text}");

    browser.click(".choices .choice:nth-child(1)").await;
    browser.wait_for_count(".cases tbody tr", 26).await;
    browser.type_into("#q", "ADDS").await;
    browser.wait_for_count(".cases tbody tr", 4).await;
    assert!(browser.text(".cases tbody tr:nth-child(1)").await.contains("shop.cart › adds an article"));

    // Colours of the console, and which of its two streams said it.
    assert!(browser.text(".console.stdout pre").await.contains("✗ shop.payments refunds a card (1.2 s)"));
    assert!(browser.text(".console.stderr pre").await.contains("npm warn config"));
    let plain = browser.style(".console.stdout pre", "color").await;
    assert_ne!(browser.style(".console.stdout .f1", "color").await, plain);
    assert_ne!(browser.style(".console.stdout .b1", "background-color").await, plain);
    assert_eq!(browser.attribute("#stdout-7 > a", "href").await.as_deref(), Some("#stdout-7"));

    // What the engine said of the container is folded until somebody asks.
    assert_eq!(browser.text("#inspect pre").await, "");
    browser.click("#inspect summary").await;
    assert!(browser.text("#inspect pre").await.contains("\"NetworkMode\": \"shop_default\""));

    let link = browser.attribute(".files a[href*='refund%20page.png']", "href").await.unwrap();
    let file = served.get(&link).await;
    assert!(file.headers()["content-disposition"].to_str().unwrap().starts_with("attachment"));
    assert_eq!(file.bytes().await.unwrap().as_ref(), [0x89, b'P', b'N', b'G']);

    browser.click(".cause a").await;
    assert_eq!(browser.text("h1").await, "container create");
    assert!(browser.text("main pre").await.contains("\"id\": \"01-web-create\""));
    assert_quiet(&browser).await;
}

#[tokio::test]
async fn a_large_console_shows_its_beginning_and_its_end() {
    let served = Served::start().await;
    let console: String = (1..=40_000).map(|number| format!("line {number}\n")).collect();
    let page = Run::of("chatty").file("console_output/stdout.log", console).upload(&served).await;
    let browser = Browser::start().await;
    browser.goto(&served.url(&page)).await;
    assert_eq!(browser.text("#stdout-1").await, "line 1");
    assert_eq!(browser.text("#stdout-40000").await, "line 40000", "numbers go on behind the gap");
    assert!(browser.text(".cut").await.contains("kB left out"));
    assert!(
        browser.attribute(".cut a", "href").await.unwrap().ends_with("console_output/stdout.log?view=true")
    );
    assert_quiet(&browser).await;
}

#[tokio::test]
async fn a_new_run_appears_without_a_reload() {
    let served = Served::start().await;
    Run::of("smoke").at(ago(300), 1.0).upload(&served).await;
    let browser = Browser::start().await;
    browser.goto(&served.url("/")).await;
    browser.text_with("#link", "Live").await;
    browser.evaluate("window.since = 'the same page'").await;
    browser.wait_for_count("a.bar", 1).await;

    Run::of("smoke").at(ago(30), 1.0).exit(1).upload(&served).await;
    browser.wait_for_count("a.bar", 2).await;
    assert_eq!(browser.texts(".tests .badge").await, ["failed"]);
    Run::of("another").upload(&served).await;
    browser.wait_for_count(".tests tbody tr", 2).await;
    assert_eq!(browser.evaluate("return window.since").await, "the same page");

    browser.goto(&served.url("/events")).await;
    browser.wait_for_count(".events tbody tr", 3).await;
    browser.text_with("#link", "Live").await;
    post_event(&served, &container_event("e-9", "start", "web", Timestamp::now())).await;
    browser.text_with(".events tbody tr:nth-child(1)", "container start").await;
    assert_eq!(browser.count(".events tbody tr.fresh").await, 1);
    assert_quiet(&browser).await;
}

#[tokio::test]
async fn what_runs_say_is_text_and_nothing_else() {
    let served = Served::start().await;
    let script = "<script>alert(document.domain)</script>";
    let image = "\"><img src=x onerror=alert(1)>";
    let reversed = "user\u{202e}gnp.exe";
    let endless = "endless".repeat(35);
    let mut pages = vec!["/".to_owned(), "/events".to_owned()];
    for name in [script, image, reversed, &endless, "a/b?c=d#e f%2F", "'{{ 7 * 7 }}'"] {
        let report = format!(
            "<testsuite name='&lt;b>s'><testcase classname='{0}' name='{0}'><failure message='{0}'>{0}</failure>\
             <system-out>{0}</system-out></testcase></testsuite>",
            name.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
        );
        let run = Run::of(name)
            .exit(1)
            .label("tugbot.owner", image)
            .label("tugbot.cause", sample::cause("manual", script, ago(60), Some(image)))
            .file("results/junit.xml", report)
            .file("results/<img src=x>.html", script)
            .file(
                "console_output/stdout.log",
                format!("{script}\u{1b}]8;;javascript:alert(1)\u{7}{image}\u{1b}[31m\n"),
            );
        pages.push(run.upload(&served).await);
        let mut url = url::Url::parse(&served.url("/tests/")).unwrap();
        url.path_segments_mut().unwrap().pop_if_empty().push(name);
        pages.push(url.path().to_owned());
    }
    pages.push(format!("/nowhere/{}", "%3Cscript%3Ealert(1)%3C/script%3E"));

    let browser = Browser::start().await;
    browser.goto(&served.url("/")).await;
    let mut names = browser.texts(".tests .name a").await;
    names.sort();
    assert!(names.contains(&script.to_owned()) && names.contains(&image.to_owned()), "{names:?}");
    browser.viewport(390, 844).await;
    for page in &pages {
        browser.goto(&served.url(page)).await;
        browser.text("h1").await;
        assert!(browser.client().get_alert_text().await.is_err(), "{page} ran a script");
        assert_eq!(browser.evaluate("return document.scripts.length").await, 1, "{page}");
        assert_eq!(browser.count("main img, main iframe, [onerror], [style]").await, 0, "{page}");
        assert_fits(&browser, page).await;
    }
    let said = browser.console().await;
    let said: Vec<_> = said.iter().filter(|line| !line.contains("404 (Not Found)")).collect();
    assert!(said.is_empty(), "{said:#?}");
}

#[tokio::test]
async fn everything_can_be_read_and_searched_without_scripts() {
    let served = open_to_all().await;
    let started = ago(95);
    post_event(&served, &container_event("01-web-create", "create", "web", started)).await;
    let page = failed_run(started).upload(&served).await;
    Run::of("other").upload(&served).await;
    let browser = Browser::without_scripts().await;
    browser.goto(&served.url("/")).await;
    assert_eq!(browser.texts(".tests .name a").await, ["payments-api", "other"]);
    assert_eq!(browser.count("#link:not([hidden])").await, 0, "no promise of updates without scripts");
    browser.type_into("#q", "oth\n").await;
    browser.wait_for_count(".tests tbody tr", 1).await;

    browser.goto(&served.url(&page)).await;
    browser.click(".choices .choice:nth-child(1)").await;
    browser.wait_for_count(".cases tbody tr", 26).await;
    browser.type_into("#q", "refund\n").await;
    browser.wait_for_count(".cases tbody tr", 1).await;
    assert!(browser.text(".cases summary").await.contains(REFUND.1));
    assert!(browser.text(".cases pre.term").await.contains("test_refund"));

    browser.goto(&served.url("/tests/payments-api")).await;
    browser.click("button.main").await;
    browser.text_with(".note", "A run was asked for").await;
    browser.goto(&served.url("/events?type=dev.cdeventsx.tugyard-run.*")).await;
    assert_eq!(browser.texts(".events tbody .subject").await, ["payments-api"]);
}

#[tokio::test]
async fn a_test_shows_its_history_page_by_page() {
    let served = Served::start().await;
    for number in 0..57 {
        let exit_code = i64::from(number % 10 == 0);
        Run::of("smoke").exit(exit_code).at(ago(60_000 - number * 600), 2.0).upload(&served).await;
    }
    let browser = Browser::start().await;
    browser.goto(&served.url("/tests/smoke")).await;
    assert!(browser.text(".figures").await.contains("51 of the last 57"));
    assert_eq!(browser.count(".plot a.bar").await, 57);
    assert_eq!(browser.count(".plot a.bar.is-failed").await, 6);
    assert_eq!(browser.count(".runs-table tbody tr").await, 50);
    let newest = browser.text(".runs-table tbody tr:nth-child(1) time").await;
    browser.click(".pager [rel=next]").await;
    browser.wait_for_count(".runs-table tbody tr", 7).await;
    browser.click(".pager [rel=first]").await;
    browser.wait_for_count(".runs-table tbody tr", 50).await;
    assert_eq!(browser.text(".runs-table tbody tr:nth-child(1) time").await, newest);
    browser.click(".choices .is-failed").await;
    browser.wait_for_count(".runs-table tbody tr", 6).await;

    // One stop of the Tab key for all bars; the arrows go from run to run.
    assert_eq!(browser.count(".plot a.bar:not([tabindex])").await, 1);
    browser.evaluate("document.querySelector('.plot a.bar:last-of-type').focus()").await;
    browser.client().active_element().await.unwrap().send_keys("\u{e012}").await.unwrap();
    let place = "const bars = [...document.querySelectorAll('.plot a.bar')]; return bars.indexOf(document.activeElement)";
    assert_eq!(browser.evaluate(place).await, 55);
    assert_quiet(&browser).await;
}

#[tokio::test]
async fn a_run_can_be_asked_for_by_who_may_and_never_by_another_site() {
    let served = open_to_all().await;
    Run::of("smoke").upload(&served).await;
    let browser = Browser::start().await;
    browser.goto(&served.url("/tests/smoke")).await;
    browser.click("button.main").await;
    browser.text_with(".note", "A run was asked for").await;
    let asked = served.json("/api/v1/events?type=dev.cdeventsx.tugyard-run.*").await;
    assert_eq!(asked["items"].as_array().unwrap().len(), 1, "{asked}");
    assert_eq!(asked["items"][0]["event"]["subject"], "smoke");
    assert_quiet(&browser).await;

    let forged = served.post("/tests/smoke/run").header("sec-fetch-site", "cross-site");
    assert_eq!(problem(forged.send().await.unwrap()).await.0, 403);
    let forged = served.post("/tests/smoke/run").header("origin", "https://elsewhere.example");
    assert_eq!(problem(forged.send().await.unwrap()).await.0, 403);

    let closed = Served::start().await;
    let nobody = closed.client.post(closed.url("/tests/smoke/run")).send().await.unwrap();
    assert!(nobody.headers().contains_key("www-authenticate"), "the browser asks for a key");
    assert_eq!(problem(nobody).await.0, 401);
}

#[tokio::test]
async fn every_page_has_a_twin_in_json_and_every_error_is_a_page() {
    let served = Served::start().await;
    post_event(&served, &container_event("e-1", "create", "web", ago(60))).await;
    let run = failed_run(ago(60)).upload(&served).await;
    let with_accept = async |path: &str, accept: &str| {
        served.client.get(served.url(path)).header("accept", accept).send().await.unwrap()
    };
    for (path, twin, pointer, expected) in [
        ("/", "/index.json", "/items/0/name", json!("payments-api")),
        ("/?q=nothing", "/index.json?q=nothing", "/items", json!([])),
        ("/tests/payments-api", "/tests/payments-api.json", "/test/runs", json!(1)),
        (run.as_str(), &format!("{run}.json"), "/cases/items/0/status", json!("failed")),
        ("/events", "/events.json", "/items/1/event/id", json!("e-1")),
        ("/events/e-1", "/events/e-1.json", "/event/id", json!("e-1")),
    ] {
        let page = with_accept(path, BROWSER).await;
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8", "{path}");
        assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'self'"));
        let html = page.text().await.unwrap();
        let escaped = twin.replace('&', "&#38;");
        assert!(html.contains(&format!("href=\"{escaped}\"")), "{path} does not link to {twin}");
        for answer in [with_accept(twin, "*/*").await, with_accept(path, "application/json").await] {
            assert_eq!(answer.headers()["content-type"], "application/json", "{path}");
            let document: Value = answer.json().await.unwrap();
            assert_eq!(document.pointer(pointer), Some(&expected), "{path}: {document}");
        }
    }
    for (path, status) in [
        ("/nowhere", 404),
        ("/runs/0190b2a4-0000-7000-8000-000000000000", 404),
        ("/runs/x", 404),
        ("/tests/none", 404),
        ("/events/none", 404),
        ("/?state=purple", 400),
        ("/?after=%00", 200),
        ("/events?after=x", 400),
        ("/api/v1/runs/x", 404),
    ] {
        let page = with_accept(path, BROWSER).await;
        assert_eq!(page.status(), status, "{path}");
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8", "{path}");
        let html = page.text().await.unwrap();
        assert!(html.contains("<nav aria-label=\"Main\">"), "{path} is no page of ours");
        if status != 200 {
            assert_eq!(problem(with_accept(path, "*/*").await).await.0, status, "{path}");
        }
    }
}

#[tokio::test]
async fn a_page_loads_from_here_only_and_fits_a_phone_in_the_dark() {
    let served = Served::start().await;
    let started = ago(95);
    post_event(&served, &container_event("01-web-create", "create", "web", started)).await;
    let run = failed_run(started).upload(&served).await;
    let all = format!("{run}?status=all");
    let browser = Browser::start().await;
    for page in ["/", "/tests/payments-api", &run, &all, "/events", "/events/01-web-create", "/?q=none"] {
        browser.viewport(360, 740).await;
        browser.prefer_dark(true).await;
        browser.goto(&served.url(page)).await;
        browser.text("h1").await;
        assert_fits(&browser, page).await;
        let dark = brightness(&browser.style("body", "background-color").await);
        browser.prefer_dark(false).await;
        let light = brightness(&browser.style("body", "background-color").await);
        assert!(dark < 60 && light > 200, "{page}: {dark}, {light}");
        browser.viewport(1280, 900).await;
        assert_fits(&browser, page).await;
        let origins = "return [...new Set(performance.getEntries().map(e => e.name).filter(n => n.includes('://')) \
                       .map(n => new URL(n).origin))]";
        assert_eq!(browser.evaluate(origins).await, json!([served.url("")]), "{page}");
        let named = "return [...document.querySelectorAll('a, button, input:not([type=hidden]), pre')] \
                     .filter(e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length \
                     || e.dataset.n)).map(e => e.outerHTML)";
        assert_eq!(browser.evaluate(named).await, json!([]), "{page}: everything has a name");
    }
    // The first stop of the Tab key leads past the navigation.
    browser.goto(&served.url("/")).await;
    browser.type_into("body", "\u{e004}").await;
    assert_eq!(browser.evaluate("return document.activeElement.textContent").await, "Skip to the content");
    assert_quiet(&browser).await;
}

async fn assert_fits(browser: &Browser, page: &str) {
    let too_wide = "const wide = document.documentElement.clientWidth; \
         return [document.documentElement.scrollWidth - wide, ...[...document.querySelectorAll('main *')] \
         .filter(e => e.getBoundingClientRect().right > wide + 1 && !e.closest('.scroll, pre')).map(e => e.outerHTML.slice(0, 200))]";
    assert_eq!(browser.evaluate(too_wide).await, json!([0]), "{page} is wider than the window");
}

/// The sum of red, green and blue of `rgb(1, 2, 3)`, divided by three.
fn brightness(colour: &str) -> u32 {
    let numbers = colour.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    numbers.take(3).sum::<u32>() / 3
}

/// Takes the pictures that the documentation shows and people look at after a change: `target/tmp/page-*.png`.
#[tokio::test]
async fn pictures() {
    let picture =
        |name: &str| -> PathBuf { Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{name}.png")) };
    let served = Served::start().await;
    let run = history(&served).await;
    let browser = Browser::start().await;
    for (name, path, dark, width, height) in [
        ("tests", "/", false, 1280, 790),
        ("tests-dark", "/", true, 1280, 800),
        ("tests-phone", "/", false, 390, 844),
        ("run", run.as_str(), false, 1280, 1450),
        ("run-dark", run.as_str(), true, 1280, 1600),
        ("run-phone", run.as_str(), true, 390, 1600),
        ("test", "/tests/payments-api", false, 1280, 1000),
        ("test-phone", "/tests/payments-api", false, 390, 1000),
        ("events", "/events", false, 1280, 900),
        ("events-phone", "/events", false, 390, 844),
        ("event", "/events/01-web-create", false, 1280, 900),
        ("missing", "/nowhere", false, 1280, 500),
    ] {
        browser.viewport(width, height).await;
        browser.prefer_dark(dark).await;
        browser.goto(&served.url(path)).await;
        browser.text("h1").await;
        browser.screenshot(picture(name)).await;
        assert!(picture(name).metadata().unwrap().len() > 5_000);
    }
}
