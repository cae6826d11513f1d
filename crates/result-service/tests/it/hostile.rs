//! Uploads that mean harm: each is refused with a clear answer, writes nothing outside, and costs little memory.

use std::io::Read;

use flate2::{Compression, read::GzEncoder};
use futures_util::stream;
use result_service::ServiceSettings;
use serde_json::Value;

use crate::{
    intake::noise,
    served::{JUNIT, Served, archive, gzip, problem, tar},
};

/// A tar of one entry whose header is as given, also where no sound writer would write it.
fn entry(kind: tar::EntryType, path: &str, link: &str, contents: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(contents.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(contents);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// The end of a tar.
const END: [u8; 1024] = [0; 1024];

async fn refuses(served: &Served, what: &str, upload: Vec<u8>, statuses: &[u16]) -> Value {
    let (status, problem) = problem(served.upload("?test=t", upload).send().await.expect("answers")).await;
    assert!(statuses.contains(&status), "{what}: {status} {problem}");
    problem
}

/// Nothing of what was refused is left, and nothing lies beside the state directory.
async fn left_nothing(served: &Served) {
    for table in ["runs", "cases", "files", "blobs"] {
        assert_eq!(served.count(table).await, 0, "{table}");
    }
    assert_eq!(served.blob_files(), Vec::<String>::new());
    let beside: Vec<_> = std::fs::read_dir(served.state_dir())
        .expect("lists")
        .map(|e| e.expect("an entry").file_name())
        .collect();
    assert_eq!(beside, ["state"]);
}

#[tokio::test]
async fn paths_that_lead_out_are_refused() {
    let served = Served::start().await;
    let file = tar::EntryType::Regular;
    for path in
        ["../evil", "results/../../evil", "/etc/cron.d/evil", "results/..", "//x", "results/a/../../../b"]
    {
        let upload = gzip(&[&entry(file, path, "", b"evil")[..], &END].concat());
        let problem = refuses(&served, path, upload, &[400, 422]).await;
        assert!(
            problem["detail"].as_str().expect("text").contains(path.trim_start_matches('/')),
            "{problem}"
        );
    }
    left_nothing(&served).await;
}

#[tokio::test]
async fn links_and_devices_never_become_files() {
    use tar::EntryType as Kind;
    let served = Served::start().await;
    for (kind, link) in [
        (Kind::Symlink, "/etc/passwd"),
        (Kind::Symlink, "../../../../etc/passwd"),
        (Kind::Link, "/etc/passwd"),
        (Kind::Link, "../../state/results.sqlite"),
        (Kind::Char, ""),
        (Kind::Block, ""),
        (Kind::Fifo, ""),
    ] {
        let good = entry(Kind::Regular, "results/good.txt", "", b"good");
        let upload = gzip(&[&entry(kind, "results/bad", link, b"")[..], &good, &END].concat());
        let response = served.upload("?test=t", upload).send().await.expect("answers");
        if response.status() == 201 {
            let receipt: Value = response.json().await.expect("JSON");
            let path = format!("/api/v1/runs/{}", receipt["id"].as_str().expect("an id"));
            let text = served.get(&format!("{path}/files/results/bad")).await.text().await.expect("a body");
            assert!(!text.contains("root:"), "{kind:?} {link}: {text}");
            assert_eq!(
                served.get(&format!("{path}/files/results/good.txt")).await.text().await.expect("a body"),
                "good"
            );
        } else {
            assert!(matches!(problem(response).await.0, 400 | 422), "{kind:?} {link}");
        }
    }
}

#[tokio::test]
async fn what_is_no_gzip_or_no_tar_is_refused() {
    let served = Served::start().await;
    let sound = archive(&[("results/noise.bin", &noise(100_000)), ("results/junit.xml", JUNIT.as_bytes())]);
    let mut flipped = sound.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    let mut checksum = sound.clone();
    let end = checksum.len() - 6;
    checksum[end] ^= 0xff;
    for (what, upload) in [
        ("nothing", Vec::new()),
        ("no gzip", b"this is no gzip".to_vec()),
        ("a bare tar", tar(&[("results/a", b"a")])),
        ("no tar inside", gzip(&noise(10_000))),
        ("cut off", sound[..sound.len() - 1000].to_vec()),
        ("cut off in the checksum", sound[..sound.len() - 4].to_vec()),
        ("a flipped byte", flipped),
        ("a wrong checksum", checksum),
        ("bytes behind the end", [&sound[..], b"garbage"].concat()),
        ("a tar cut off inside a file", gzip(&tar(&[("results/a", &noise(5_000))])[..3_000])),
    ] {
        refuses(&served, what, upload, &[400, 422]).await;
    }
    left_nothing(&served).await;
}

#[tokio::test]
async fn malformed_reports_are_refused_with_file_and_line() {
    let served = Served::start().await;
    for report in [
        "<testsuite name=\"a\">\n<testcase name=\"b\">\n</testsuite>",
        "<testsuite name=\"a\">\n<testcase name=\"b\"/>\n",
        "<?xml version=\"1.0\"?>\n<!DOCTYPE t [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>\n\
         <testsuite name=\"&b;\"><testcase name=\"c\"/></testsuite>",
        "<testsuite>\n\n<testcase name=\"b\" <failure/></testcase></testsuite>",
    ] {
        let upload = archive(&[("results/sub/junit.xml", report.as_bytes())]);
        let problem = refuses(&served, report, upload, &[422]).await;
        assert_eq!(problem["file"], "results/sub/junit.xml", "{problem}");
        assert!(problem["line"].as_u64().is_some_and(|line| line >= 1), "{problem}");
    }
    left_nothing(&served).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let served = Served::with(|settings| {
        settings.limits.upload_bytes = 300_000;
        settings.limits.unpacked_bytes = 2_000_000;
        settings.limits.entries = 100;
        settings.limits.cases = 1_000;
        settings.limits.json_bytes = 10_000;
    })
    .await;
    let many: Vec<(String, Vec<u8>)> = (0..101).map(|n| (format!("results/{n}"), Vec::new())).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(path, contents)| (&path[..], &contents[..])).collect();
    let cases: String = (0..1_001).map(|n| format!("<testcase name=\"{n}\"/>")).collect();
    let report = format!("<testsuite>{cases}</testsuite>");
    for (what, upload) in [
        ("the declared body", archive(&[("results/noise", &noise(400_000))])),
        ("the unpacked files", archive(&[("results/zeros", &vec![0; 3_000_000])])),
        ("the entries", archive(&many)),
        ("the cases", archive(&[("results/junit.xml", report.as_bytes())])),
    ] {
        refuses(&served, what, upload, &[413]).await;
    }
    let pieces = vec![Ok::<_, std::io::Error>(archive(&[("results/noise", &noise(400_000))]))];
    let chunked = served.post("/results?test=t").header("content-type", "application/gzip");
    let chunked =
        chunked.body(reqwest::Body::wrap_stream(stream::iter(pieces))).send().await.expect("answers");
    assert_eq!(problem(chunked).await.0, 413);
    let json =
        served.post("/results?test=t").header("content-type", "application/json").body(vec![b' '; 20_000]);
    assert_eq!(problem(json.send().await.expect("answers")).await.0, 413);
    left_nothing(&served).await;
}

/// The most memory that this process has had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("reads");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("is there");
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kibibytes * 1024
}

/// A tar with one large entry, compressed, in pieces, made as it is sent.
fn large_upload(head: Vec<u8>, size: u64, fill: impl Read + Send + 'static) -> reqwest::Body {
    let padding = size.next_multiple_of(512) - size;
    let source =
        std::io::Cursor::new(head).chain(fill.take(size)).chain(std::io::repeat(0).take(padding + 1024));
    let encoder = GzEncoder::new(source, Compression::fast());
    let pieces = stream::unfold(encoder, |mut encoder| async move {
        let mut piece = vec![0; 64 * 1024];
        let read = encoder.read(&mut piece).expect("compresses");
        piece.truncate(read);
        (read > 0).then_some((Ok::<_, std::io::Error>(piece), encoder))
    });
    reqwest::Body::wrap_stream(pieces)
}

fn header(kind: tar::EntryType, path: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(path).expect("fits");
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// Random bytes without end, of the bits in the mask: few bits compress, all of them do not.
struct Noise(u64, u8);

impl Read for Noise {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        for byte in &mut *into {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            *byte = self.0.to_le_bytes()[3] & self.1;
        }
        Ok(into.len())
    }
}

const MEGABYTE: u64 = 1 << 20;

async fn send_large(served: &Served, body: reqwest::Body) -> reqwest::Response {
    let request = served.post("/results?test=large").header("content-type", "application/gzip");
    request.body(body).send().await.expect("answers")
}

#[tokio::test]
async fn large_results_are_taken_in_little_memory() {
    let served = Served::start().await;
    served.stored("?test=warm", archive(&[("results/noise", &noise(100_000))])).await;
    let before = peak_memory();
    let size = 200 * MEGABYTE;
    let file = header(tar::EntryType::Regular, "results/bits.bin", size);
    assert_eq!(send_large(&served, large_upload(file, size, Noise(1, 1))).await.status(), 201);
    let size = 80 * MEGABYTE;
    let file = header(tar::EntryType::Regular, "results/noise.bin", size);
    let response = send_large(&served, large_upload(file, size, Noise(1, 0xff))).await;
    assert_eq!(response.status(), 201);
    let receipt: Value = response.json().await.expect("JSON");
    let path = format!("/api/v1/runs/{}/files/results/noise.bin", receipt["id"].as_str().expect("an id"));
    let mut file = served.get(&path).await;
    let mut received = 0;
    while let Some(piece) = file.chunk().await.expect("arrives") {
        received += piece.len() as u64;
    }
    assert_eq!(received, size);
    let growth = peak_memory() - before;
    assert!(growth < 48 * MEGABYTE, "memory grew by {growth} bytes");
}

#[tokio::test]
async fn bombs_are_refused_in_little_memory() {
    let limit = |settings: &mut ServiceSettings| settings.limits.unpacked_bytes = 100 * MEGABYTE;
    let served = Served::with(limit).await;
    served.stored("?test=warm", archive(&[("results/noise", &noise(100_000))])).await;
    let before = peak_memory();
    let size = 300 * MEGABYTE;
    for (what, kind, path) in [
        ("a file", tar::EntryType::Regular, "results/zeros.bin"),
        ("a long name", tar::EntryType::GNULongName, "././@LongLink"),
        ("a long link", tar::EntryType::GNULongLink, "././@LongLink"),
        ("extended attributes", tar::EntryType::XHeader, "PaxHeaders/x"),
        ("global attributes", tar::EntryType::XGlobalHeader, "pax_global_header"),
        ("the inspect document", tar::EntryType::Regular, "container_info/inspect.json"),
        ("a report", tar::EntryType::Regular, "results/junit.xml"),
    ] {
        let body = large_upload(header(kind, path, size), size, std::io::repeat(b' '));
        let (status, problem) = problem(send_large(&served, body).await).await;
        assert!(matches!(status, 400 | 413 | 422), "{what}: {status} {problem}");
    }
    // A report without line ends, with one name that never ends.
    let mut report = header(tar::EntryType::Regular, "results/junit.xml", 90 * MEGABYTE);
    report.extend_from_slice(b"<testsuite name=\"");
    let body = large_upload(report, 90 * MEGABYTE, std::io::repeat(b'a'));
    let (status, problem) = problem(send_large(&served, body).await).await;
    assert!(matches!(status, 400 | 413 | 422), "{status} {problem}");
    let growth = peak_memory() - before;
    assert!(growth < 48 * MEGABYTE, "memory grew by {growth} bytes");
    assert_eq!(served.count("runs").await, 1);
}

#[tokio::test]
async fn a_name_may_be_anything_and_still_is_only_text() {
    let served = Served::start().await;
    let name = "<script>alert(1)</script>";
    let query = "?test=%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    served.stored(query, archive(&[("results/<b>.txt", b"x")])).await;
    let tests = served.json("/api/v1/tests").await;
    assert_eq!(tests["items"][0]["name"], name);
    let page =
        served.client.get(served.url("/")).header("accept", "text/html").send().await.expect("answers");
    assert!(!page.text().await.expect("a body").contains("<script>alert"));
}
