//! The event stream under what real networks and engines do to it.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use container_engine::{Engine, EngineEvent, EventStream, StreamItem};
use futures_util::StreamExt;
use testkit::proxy::{Mode, Proxy};

use crate::support::{StandIn, connect, connect_to};

const PATIENCE: Duration = Duration::from_secs(60);

async fn next(events: &mut EventStream) -> StreamItem {
    tokio::time::timeout(PATIENCE, events.next())
        .await
        .expect("an item in time")
        .expect("the stream has no end")
}

/// Reads on until the stream is connected; returns whether something may be missing.
async fn connected(events: &mut EventStream) -> bool {
    loop {
        match next(events).await {
            StreamItem::Connected { maybe_missed, .. } => return maybe_missed,
            StreamItem::Disconnected { .. } => {}
            StreamItem::Event(event) => panic!("an event before the connection: {event:?}"),
        }
    }
}

/// Reads events up to one that creates this volume, which comes along.
async fn until_volume(events: &mut EventStream, volume: &str) -> Vec<EngineEvent> {
    let mut all = Vec::new();
    loop {
        match next(events).await {
            StreamItem::Event(event) => {
                let is_last = event.kind == "volume" && event.verb() == "create" && event.actor.id == volume;
                all.push(event);
                if is_last {
                    return all;
                }
            }
            other => panic!("{other:?} among {} events", all.len()),
        }
    }
}

async fn make_volumes(engine: &Engine, names: impl Iterator<Item = String>) {
    for name in names {
        engine.create_volume(&name, &BTreeMap::new()).await.unwrap();
    }
}

fn ids(events: &[EngineEvent]) -> Vec<&str> {
    events.iter().map(|event| event.actor.id.as_str()).collect()
}

fn numbered(stem: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{stem}-{n:04}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_as_the_docker_client_shows_them_and_none_from_before() {
    let docker = testkit::Engine::private();
    let engine = connect(&docker).await;
    let image = docker.busybox();
    docker.docker(&["volume", "create", "before"]);
    let mut events = engine.events();
    assert_eq!(next(&mut events).await, StreamItem::Connected { first: true, maybe_missed: false });
    docker.docker(&["run", "--name", "t1", "--volume", "v1:/v", &image, "true"]);
    docker.docker(&["run", "--detach", "--name", "t2", &image, "sleep", "600"]);
    docker.docker(&["exec", "t2", "echo", "a:b"]);
    docker.docker(&["rm", "--force", "t2"]);
    docker.docker(&["volume", "create", "last"]);
    let got = until_volume(&mut events, "last").await;

    let end = got.last().expect("there are some").at;
    let end = format!("{}.{:09}", end.as_second(), end.subsec_nanosecond());
    let shown = docker.docker(&["events", "--since", "1", "--until", &end, "--format", "{{json .}}"]);
    let shown: Vec<serde_json::Value> =
        shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let start =
        shown.iter().position(|event| event["Actor"]["ID"] == "before").expect("it is remembered") + 1;
    let expected: Vec<_> = shown[start..]
        .iter()
        .map(|event| {
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            let at = i128::from(event["timeNano"].as_i64().unwrap());
            (at, text(&event["Type"]), text(&event["Action"]), text(&event["Actor"]["ID"]))
        })
        .collect();
    let got: Vec<_> = got
        .into_iter()
        .map(|event| (event.at.as_nanosecond(), event.kind, event.action, event.actor.id))
        .collect();
    assert_eq!(got, expected);
    assert!(got.iter().any(|(_, _, action, _)| action == "exec_create: echo a:b"), "{got:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_loses_nothing_that_the_engine_remembers_and_the_rest_is_reported() {
    let docker = testkit::Engine::private();
    let direct = connect(&docker).await;
    let proxy = Proxy::unix(docker.socket()).await;
    let engine = connect_to(&format!("unix://{}", proxy.socket().display())).await;

    // A fresh engine remembers nothing, so nobody can tell whether a cut right away has cost anything.
    let mut events = engine.events();
    assert!(!connected(&mut events).await);
    make_volumes(&direct, ["first".to_owned()].into_iter()).await;
    until_volume(&mut events, "first").await;

    // A cut without events, one with a few.
    for (round, count) in [0, 5, 200].into_iter().enumerate() {
        let names = numbered(&format!("few-{round}"), count);
        proxy.set(Mode::Refuse);
        assert!(matches!(next(&mut events).await, StreamItem::Disconnected { .. }));
        make_volumes(&direct, names.iter().cloned()).await;
        proxy.set(Mode::Forward);
        assert!(!connected(&mut events).await, "{count} events are remembered");
        let last = format!("last-{round}");
        make_volumes(&direct, [last.clone()].into_iter()).await;
        let got = until_volume(&mut events, &last).await;
        let expected: Vec<&str> = names.iter().map(String::as_str).chain([last.as_str()]).collect();
        assert_eq!(ids(&got), expected, "each once, in order");
    }
    let stats = engine.event_stats();
    assert_eq!((stats.reconnects, stats.possibly_missed, stats.unreadable), (3, 0, 0));
    assert!(stats.repeats >= 3, "every replay began with what was known: {stats:?}");

    // 400 are more than the engine remembers.
    let names = numbered("many", 400);
    proxy.set(Mode::Refuse);
    assert!(matches!(next(&mut events).await, StreamItem::Disconnected { .. }));
    make_volumes(&direct, names.iter().cloned()).await;
    proxy.set(Mode::Forward);
    assert!(connected(&mut events).await, "some must be missing");
    make_volumes(&direct, ["very-last".to_owned()].into_iter()).await;
    let got = until_volume(&mut events, "very-last").await;
    let remembered = &names[names.len() - (got.len() - 1)..];
    assert_eq!(ids(&got[..got.len() - 1]), remembered.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(got.len() > 250 && got.len() < 400, "{}", got.len());
    assert_eq!(engine.event_stats().possibly_missed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_restarts_or_crashes_is_followed_and_reported() {
    let mut docker = testkit::Engine::private();
    let engine = connect(&docker).await;
    docker.docker(&["volume", "create", "old"]);
    let mut events = engine.events();
    assert!(!connected(&mut events).await);
    for crash in [false, true] {
        tokio::task::block_in_place(|| {
            if crash {
                docker.crash();
                docker.start();
            } else {
                docker.restart();
            }
        });
        assert!(matches!(next(&mut events).await, StreamItem::Disconnected { .. }));
        assert_eq!(next(&mut events).await, StreamItem::Connected { first: false, maybe_missed: true });
        let name = format!("after-{crash}");
        docker.docker(&["volume", "create", &name]);
        let got = until_volume(&mut events, &name).await;
        assert!(!ids(&got).contains(&"old"), "{got:?}");
    }
    let stats = engine.event_stats();
    assert_eq!((stats.reconnects, stats.possibly_missed), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_opened_while_the_engine_is_away_says_that_it_began_late() {
    let docker = testkit::Engine::private();
    let proxy = Proxy::unix(docker.socket()).await;
    let engine = connect_to(&format!("unix://{}", proxy.socket().display())).await;
    proxy.set(Mode::Refuse);
    let mut events = engine.events();
    assert!(matches!(next(&mut events).await, StreamItem::Disconnected { .. }));
    proxy.set(Mode::Forward);
    assert_eq!(next(&mut events).await, StreamItem::Connected { first: true, maybe_missed: true });
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_cut_when_each_event_comes_once_or_is_reported() {
    let docker = testkit::Engine::private();
    let direct = connect(&docker).await;
    let proxy = Proxy::unix(docker.socket()).await;
    let engine = connect_to(&format!("unix://{}", proxy.socket().display())).await;
    docker.docker(&["volume", "create", "start"]);
    let mut events = engine.events();
    assert!(!connected(&mut events).await);

    let names = numbered("v", 1_000);
    let work = async {
        for (n, name) in names.iter().enumerate() {
            direct.create_volume(name, &BTreeMap::new()).await.unwrap();
            match n % 100 {
                37 => proxy.set(Mode::Refuse),
                61 => proxy.set(Mode::Forward),
                _ => {}
            }
        }
        proxy.set(Mode::Forward);
    };
    let read = async {
        let (mut seen, mut missed) = (Vec::new(), false);
        while seen.last() != names.last() {
            match next(&mut events).await {
                StreamItem::Event(event) => seen.push(event.actor.id),
                StreamItem::Connected { maybe_missed, .. } => missed |= maybe_missed,
                StreamItem::Disconnected { .. } => {}
            }
        }
        (seen, missed)
    };
    let ((), (seen, missed)) = tokio::join!(work, read);
    assert!(seen.is_sorted() && seen.windows(2).all(|pair| pair[0] != pair[1]), "in order and never twice");
    assert!(missed || seen == names, "{} of {} came, and nothing was said", seen.len(), names.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_is_read_even_while_nobody_reads_the_stream() {
    let docker = testkit::Engine::private();
    let engine = connect(&docker).await;
    docker.docker(&["volume", "create", "start"]);
    let mut events = engine.events();
    assert!(!connected(&mut events).await);
    // More than fit into the engine's own channel of 1,024 and its memory of 256.
    let names = numbered("v", 3_000);
    make_volumes(&engine, names.iter().cloned()).await;
    testkit::eventually("the queue has all", PATIENCE, || async {
        (engine.event_stats().queued >= 3_000).then_some(())
    })
    .await;
    let got = until_volume(&mut events, "v-2999").await;
    assert_eq!(ids(&got), names.iter().map(String::as_str).collect::<Vec<_>>());
    let stats = engine.event_stats();
    assert_eq!((stats.events, stats.queued, stats.reconnects), (3_000, 0, 0));
    assert!(stats.queued_peak >= 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_that_no_real_engine_makes_arrives_whole() {
    const BURST: u64 = 100_000;
    let line = |n: u64| {
        format!(
            r#"{{"Type":"container","Action":"start","Actor":{{"ID":"{n}","Attributes":{{"image":"shop","name":"c{n}"}}}},"#
        ) + &format!(r#""scope":"local","time":1714557600,"timeNano":{}}}"#, 1_714_557_600_000_000_000 + n)
    };
    let burst: String = (0..BURST).map(|n| line(n) + "\n").collect();
    // Once: the stream that ends is opened again.
    let burst = Mutex::new(Some(format!("{{no event}}\n{burst}")));
    let stand_in = StandIn::start(move |request| match request {
        "GET /version" => (200, r#"{"ApiVersion":"1.41"}"#.to_owned()),
        "GET /v1.41/info" => (200, r#"{"SystemTime":"2024-05-01T12:00:00+02:00"}"#.to_owned()),
        request if request.starts_with("GET /v1.41/events?") && !request.contains("until") => {
            (200, burst.lock().unwrap().take().unwrap_or_default())
        }
        _ => (200, String::new()),
    })
    .await;
    let engine = connect_to(&stand_in.host()).await;
    let mut events = engine.events();
    assert_eq!(next(&mut events).await, StreamItem::Connected { first: true, maybe_missed: false });
    for n in 0..BURST {
        let StreamItem::Event(event) = next(&mut events).await else { panic!("only {n} came") };
        assert_eq!(event.actor.id, n.to_string());
    }
    assert!(matches!(next(&mut events).await, StreamItem::Disconnected { .. }));
    assert_eq!((engine.event_stats().events, engine.event_stats().unreadable), (BURST, 1));
}
