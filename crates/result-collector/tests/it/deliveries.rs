//! The spool and the delivery under faults. Results come from a directory; how they are found is tested elsewhere.

use std::{os::unix::fs::PermissionsExt, process::Command, time::Duration};

use result_collector::{CollectError, CollectorEvent, RefusalKind, SpoolError};
use testkit::proxy::{Mode, Proxy};

use crate::{
    harness::{Doomed, Home, Running, SECRET, listing},
    sink::{Reply, Sink, url_of},
};

/// Bytes that do not compress.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

#[tokio::test]
async fn an_upload_has_the_agreed_form() {
    let (home, sink) = (Home::new(), Sink::start().await);
    let collector = Running::start(home.settings(sink.url()), None);
    home.write("sub/junit.xml", "<testsuite/>");
    let stored = &sink.wait_for(1).await[0];
    collector.delivered(1).await;
    assert_eq!(stored.text("results/sub/junit.xml"), "<testsuite/>");
    assert_eq!(stored.headers["authorization"], format!("Bearer {SECRET}"));
    assert_eq!(stored.query["mainfile"], "results.tar");
    assert_eq!(stored.query["test"], "watched");
    assert_eq!(stored.query["hostname"], "host1");
    stored.query["end-time"].parse::<jiff::Timestamp>().unwrap();
    assert!(stored.key.starts_with("file/host1/"), "{}", stored.key);
    assert!(stored.key.contains("/watched/sub/junit.xml/"), "{}", stored.key);
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(home.state("spool")), 0o700);
    assert_eq!(mode(home.state("files.log")), 0o600);
    collector.stop().await;
    assert!(home.spool("queue").is_empty() && home.spool("partial").is_empty());
}

#[tokio::test]
async fn a_service_that_is_busy_is_asked_again_when_it_said() {
    let (home, sink) = (Home::new(), Sink::start().await);
    sink.next([
        Reply::Say(503, Some(("retry-after", "1")), "busy"),
        Reply::Say(429, Some(("retry-after", "0")), "slow down"),
        Reply::Say(500, None, "oops"),
        Reply::Say(200, None, "<html>a captive portal</html>"),
        Reply::Say(204, None, ""),
    ]);
    home.write("a.xml", "a");
    let mut collector = Running::start(home.settings(sink.url()), None);
    let after = collector
        .event("a retry", |event| match event {
            CollectorEvent::Retrying { after, reason, .. } => {
                assert_eq!(reason, "503 Service Unavailable: busy");
                Some(*after)
            }
            _ => None,
        })
        .await;
    assert!(after >= Duration::from_secs(1) && after < Duration::from_secs(2), "{after:?}");
    sink.wait_for(1).await;
    collector.delivered(1).await;
    assert_eq!((sink.requests(), sink.repeats()), (6, 0));
    assert_eq!(collector.status.counters().retried, 5);
    collector.stop().await;
}

#[tokio::test]
async fn an_upload_that_is_cut_in_its_middle_is_sent_again() {
    let (home, sink) = (Home::new(), Sink::start().await);
    let proxy = Proxy::tcp(sink.address).await;
    proxy.set(Mode::CutAfter(300_000));
    let content = noise(2_000_000, 1);
    home.write("large.bin", &content);
    let mut collector = Running::start(home.settings(url_of(proxy.address())), None);
    collector.event("a retry", |event| matches!(event, CollectorEvent::Retrying { .. }).then_some(())).await;
    assert_eq!(sink.count(), 0);
    proxy.set(Mode::Forward);
    let stored = &sink.wait_for(1).await[0];
    assert_eq!(stored.files()[&b"results/large.bin"[..]], content);
    collector.delivered(1).await;
    collector.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_lost_leads_to_a_repeat_and_no_second_result() {
    let (home, sink) = (Home::new(), Sink::start().await);
    sink.next([Reply::StoreAndCut, Reply::StoreAndCut]);
    home.write("a.xml", "a");
    let collector = Running::start(home.settings(sink.url()), None);
    collector.delivered(1).await;
    assert_eq!(sink.count(), 1);
    assert!(sink.repeats() >= 1);
    assert_eq!(collector.status.counters().repeated, 1);
    collector.stop().await;
}

#[tokio::test]
async fn a_result_that_the_service_does_not_want_is_put_aside_with_its_words() {
    let (home, sink) = (Home::new(), Sink::start().await);
    let problem = r#"{"title":"Too large","detail":"at most 10 MiB","status":413}"#;
    sink.next([Reply::Say(413, None, problem)]);
    home.write("a.xml", "unwanted");
    let mut collector = Running::start(home.settings(sink.url()), None);
    let path = collector
        .event("a rejection", |event| match event {
            CollectorEvent::Rejected { reason, path, kind: RefusalKind::Content, .. } => {
                assert_eq!(reason, "413 Payload Too Large: Too large: at most 10 MiB");
                Some(path.clone())
            }
            _ => None,
        })
        .await;
    // It lies there as a plain archive, beside the reason.
    let reason = std::fs::read_to_string(home.state("spool/rejected/0000000000000001.json")).unwrap();
    assert!(reason.contains("at most 10 MiB") && !reason.contains(SECRET), "{reason}");
    let archive = flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap());
    assert_eq!(tar::Archive::new(archive).entries().unwrap().count(), 1);
    home.write("b.xml", "wanted");
    sink.wait_for(1).await;
    collector.stop().await;
    // Neither is offered again.
    let collector = Running::start(home.settings(sink.url()), None);
    home.write("c.xml", "another");
    sink.wait_for(2).await;
    collector.delivered(1).await;
    assert_eq!(sink.requests(), 3);
    collector.stop().await;
}

#[tokio::test]
async fn what_was_refused_for_a_wrong_key_is_offered_again_at_the_next_start() {
    let (home, sink) = (Home::new(), Sink::start().await);
    // The service echoes the key: it must not come out anywhere.
    sink.always(Some(Reply::Say(401, None, r#"{"title":"unknown key k3y-that-must-not-be-seen"}"#)));
    home.write("a.xml", "a");
    home.write("b.xml", "b");
    let mut collector = Running::start(home.settings(sink.url()), None);
    for _ in 0..2 {
        let reason = collector
            .event("a rejection", |event| match event {
                CollectorEvent::Rejected { kind: RefusalKind::Access, reason, .. } => Some(reason.clone()),
                _ => None,
            })
            .await;
        assert_eq!(reason, "401 Unauthorized: unknown key ***");
    }
    collector.stop().await;
    assert_eq!(listing(&home.state("spool/rejected")).len(), 4);
    for name in listing(&home.state("spool/rejected")) {
        let content = std::fs::read(home.state("spool/rejected").join(name)).unwrap();
        assert!(!String::from_utf8_lossy(&content).contains(SECRET));
    }
    sink.always(None);
    let collector = Running::start(home.settings(sink.url()), None);
    collector.delivered(2).await;
    assert_eq!(sink.count(), 2);
    collector.stop().await;
    assert!(home.spool("rejected").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_ends_without_a_word_loses_and_doubles_nothing() {
    let (home, sink) = (Home::new(), Sink::start().await);
    let proxy = Proxy::tcp(sink.address).await;
    let settings = home.settings(url_of(proxy.address()));
    let mut written = 0;
    for round in 0..4 {
        let doomed = Doomed::start(settings.clone());
        for n in 0..300 {
            home.write(&format!("r{round}/{n}.xml"), format!("result {round} {n}"));
        }
        written += 300;
        // Ends while some are unread, some spooled, some under way, some stored.
        testkit::eventually("a part of the work", Duration::from_secs(60), async || {
            (doomed.status.counters().spooled > 50 || doomed.status.counters().delivered > 20).then_some(())
        })
        .await;
        proxy.set(if round % 2 == 0 { Mode::Refuse } else { Mode::Forward });
        doomed.end();
        proxy.set(Mode::Forward);
        // The lock goes with the last thread of the one that ended.
        Running::start_again(settings.clone(), None).await.stop().await;
    }
    let collector = Running::start(settings, None);
    let stored = sink.wait_for(written).await;
    testkit::eventually("an empty spool", Duration::from_secs(60), async || {
        home.spool("queue").is_empty().then_some(())
    })
    .await;
    let names: std::collections::BTreeSet<_> =
        stored.iter().flat_map(|stored| stored.files().into_keys()).collect();
    assert_eq!((stored.len(), names.len()), (written, written));
    collector.stop().await;
}

#[tokio::test]
async fn a_full_spool_holds_the_watch_back_and_loses_nothing() {
    let (home, sink) = (Home::new(), Sink::start().await);
    let proxy = Proxy::tcp(sink.address).await;
    proxy.set(Mode::Refuse);
    let mut settings = home.settings(url_of(proxy.address()));
    settings.spool_max = 256 * 1024;
    for n in 0..100u8 {
        home.write(&format!("{n}.bin"), noise(10_000, u64::from(n) + 1));
    }
    let mut collector = Running::start(settings.clone(), None);
    let (used, max) = collector
        .event("a full spool", |event| match event {
            CollectorEvent::SpoolFull { used, max } => Some((*used, *max)),
            _ => None,
        })
        .await;
    assert!(used <= max && max == 256 * 1024, "{used} of {max}");
    let on_disk: u64 = home.spool("queue").iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(on_disk <= 256 * 1024, "{on_disk}");
    assert_eq!(sink.count(), 0);
    // A collector that waits for room still stops.
    collector.stop().await;
    proxy.set(Mode::Forward);
    let collector = Running::start(settings, None);
    assert_eq!(sink.wait_for(100).await.len(), 100);
    testkit::eventually("an empty spool", Duration::from_secs(30), async || {
        (collector.status.counters().waiting == 0).then_some(())
    })
    .await;
    collector.stop().await;
    assert_eq!(sink.repeats(), 0);
}

#[tokio::test]
async fn rejected_results_give_way_when_the_spool_is_full() {
    let (home, sink) = (Home::new(), Sink::start().await);
    sink.always(Some(Reply::Say(422, None, "no")));
    let mut settings = home.settings(sink.url());
    settings.spool_max = 128 * 1024;
    for n in 0..30u8 {
        home.write(&format!("{n}.bin"), noise(10_000, u64::from(n) + 1));
    }
    let mut collector = Running::start(settings, None);
    collector
        .event("an eviction", |event| matches!(event, CollectorEvent::Evicted { .. }).then_some(()))
        .await;
    testkit::eventually("all to be refused", Duration::from_secs(60), async || {
        (collector.status.counters().rejected == 30).then_some(())
    })
    .await;
    let on_disk: u64 = home.spool("rejected").iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(on_disk <= 128 * 1024, "{on_disk}");
    collector.stop().await;
}

#[tokio::test]
async fn two_collectors_do_not_share_a_spool() {
    let (home, sink) = (Home::new(), Sink::start().await);
    let first = Running::start(home.settings(sink.url()), None);
    home.write("a.xml", "a");
    first.delivered(1).await;
    let second = Running::start(home.settings(sink.url()), None).ended().await.unwrap_err();
    assert!(matches!(second, CollectError::Spool(SpoolError::Locked { .. })), "{second:?}");
    first.stop().await;
    let third = Running::start(home.settings(sink.url()), None);
    home.write("b.xml", "b");
    third.delivered(1).await;
    third.stop().await;
}

#[tokio::test]
async fn a_damaged_item_is_put_aside_and_the_others_are_delivered() {
    let (home, sink) = (Home::new(), Sink::start().await);
    let proxy = Proxy::tcp(sink.address).await;
    proxy.set(Mode::Refuse);
    let settings = home.settings(url_of(proxy.address()));
    (0..3).for_each(|n| home.write(&format!("{n}.xml"), n.to_string()));
    let collector = Running::start(settings.clone(), None);
    testkit::eventually("three spooled results", Duration::from_secs(30), async || {
        (collector.status.counters().spooled == 3).then_some(())
    })
    .await;
    collector.stop().await;
    let mut queue = home.spool("queue");
    queue.sort();
    let whole = std::fs::read(&queue[1]).unwrap();
    std::fs::write(&queue[1], &whole[..whole.len() - 10]).unwrap();
    std::fs::write(home.state("spool/partial/0000000000000007"), "half").unwrap();
    proxy.set(Mode::Forward);
    let mut collector = Running::start(settings, None);
    collector
        .event("a rejection", |event| {
            matches!(event, CollectorEvent::Rejected { kind: RefusalKind::Corrupt, .. }).then_some(())
        })
        .await;
    collector.delivered(2).await;
    collector.stop().await;
    assert_eq!(sink.count(), 2);
    assert!(home.spool("partial").is_empty());
}

/// A file system of two megabytes, unmounted at the end.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: std::path::PathBuf) -> Self {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&at).status().unwrap();
        assert!(mounted.success(), "tests mount file systems: run them as root");
        Self(at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

#[tokio::test]
async fn a_full_disk_holds_the_watch_back_and_loses_nothing() {
    let (home, sink) = (Home::new(), Sink::start().await);
    let _disk = SmallDisk::mount(home.state(""));
    let proxy = Proxy::tcp(sink.address).await;
    proxy.set(Mode::Refuse);
    for n in 0..40u8 {
        home.write(&format!("{n}.bin"), noise(100_000, u64::from(n) + 1));
    }
    let mut collector = Running::start(home.settings(url_of(proxy.address())), None);
    collector
        .event("a word on the disk", |event| match event {
            CollectorEvent::Unreadable { reason, .. } => {
                assert!(reason.contains("No space left"), "{reason}");
                Some(())
            }
            _ => None,
        })
        .await;
    assert_eq!(sink.count(), 0);
    proxy.set(Mode::Forward);
    assert_eq!(sink.wait_for(40).await.len(), 40);
    testkit::eventually("an empty spool", Duration::from_secs(60), async || {
        (collector.status.counters().waiting == 0).then_some(())
    })
    .await;
    collector.stop().await;
    let collector = Running::start(home.settings(sink.url()), None);
    home.write("last.bin", "1");
    sink.wait_for(41).await;
    collector.stop().await;
    assert_eq!(sink.count(), 41);
}
