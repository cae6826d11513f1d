//! What comes from outside the engine: changes of the host, events of the service, requests.

use test_results::{CloudEvent, EventId, Outcome, TriggerKind, event};

use super::{super::Input, behaviour::model, model::start_of_time};
use crate::{
    host_watch::{HostChange, HostChangeKind},
    run_key::RunKey,
};

#[test]
fn changes_of_the_host_reach_the_tests_that_asked() {
    let mut model = model();
    model.test("p", &[("tugbot.event.host", "package")]);
    model.test("c", &[("tugbot.event.host", "config:/etc/app/*.conf")]);
    let change = |kind, path: &str| HostChange {
        kind,
        detail: "changed".to_owned(),
        path: Some(path.into()),
        at: start_of_time(),
    };
    for (kind, path) in [
        (HostChangeKind::Package, "/var/lib/dpkg/status"),
        (HostChangeKind::Config, "/etc/app/x.conf"),
        (HostChangeKind::Config, "/etc/other.conf"),
        (HostChangeKind::Kernel, "/boot/vmlinuz"),
    ] {
        let key = RunKey::new(start_of_time(), format!("host:{path}"));
        model.feed(0, Input::Host { change: change(kind, path), key });
        model.settle();
    }
    assert_eq!((model.made_of("p"), model.made_of("c")), (1, 1));
}

fn cloud(kind: &str, source: &str, id: &str) -> CloudEvent {
    let mut event = CloudEvent::new(EventId(id.to_owned()), source, kind);
    event.time = Some(start_of_time());
    event
}

#[test]
fn events_from_outside_reach_the_tests_that_asked_once() {
    let mut model = model();
    model.test("t", &[("tugbot.event.cd", "dev.cdevents.artifact.published.*"), ("tugbot.overlap", "allow")]);
    let published = cloud("dev.cdevents.artifact.published.0.2.0", "/builder", "1");
    for event in [published.clone(), published, cloud("dev.cdevents.build.queued.0.2.0", "/builder", "2")] {
        model.feed(0, Input::Cloud(Box::new(event)));
        model.settle();
    }
    assert_eq!(model.made_of("t"), 1);
}

#[test]
fn what_the_runners_announce_themselves_triggers_nothing() {
    let mut model = model();
    model.test("t", &[("tugbot.event.cd", "*")]);
    let test = "t".into();
    let suite = event::SuiteRun {
        id: "run-1",
        test: &test,
        environment: "elsewhere",
        cause: None,
        image: None,
        links: &[],
    };
    let stamp = |source: &str| event::Stamp {
        id: EventId("1".to_owned()),
        source: source.to_owned(),
        at: start_of_time(),
    };
    let own = cloud("dev.cdeventsx.docker-image.tag.0.1.0", "/tugyard/run/h", "1");
    let of_own_test = event::run_finished(stamp("/tugyard/serve"), &suite, &Outcome::Passed, None);
    for event in [own, of_own_test] {
        model.feed(0, Input::Cloud(Box::new(event)));
        model.settle();
    }
    assert_eq!(model.made_of("t"), 0);
    let foreign = cloud("dev.cdeventsx.docker-image.tag.0.1.0", "/tugyard/run/other", "1");
    model.feed(0, Input::Cloud(Box::new(foreign)));
    model.settle();
    assert_eq!(model.made_of("t"), 1);
}

#[test]
fn a_run_can_be_requested_over_the_service() {
    let mut model = model();
    model.test("t", &[]);
    let stamp = event::Stamp {
        id: EventId("7".to_owned()),
        source: "/tugyard/serve".to_owned(),
        at: start_of_time(),
    };
    let request = event::run_requested(stamp, &"t".into(), Some("ann"));
    for _ in 0..2 {
        model.feed(0, Input::Cloud(Box::new(request.clone())));
        model.settle();
    }
    assert_eq!(model.made_of("t"), 1);
    assert_eq!(model.made[0].cause.summary, "by hand, ann");
    assert_eq!(model.made[0].cause.trigger, TriggerKind::Manual);
}
