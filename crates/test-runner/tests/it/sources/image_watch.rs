//! Newer images, with a real engine and a real registry.

use std::cell::RefCell;

use container_engine::{ConnectSettings, Engine};
use test_results::TestName;
use test_runner::image_watch::{Cleanup, ImageWatch, NewerImage, WatchedImage};
use testkit::unique;

use super::registry::Registry;

/// The machine's engine, from which everything made here is removed in the end.
struct Machine {
    docker: testkit::Engine,
    made: RefCell<Vec<[String; 2]>>,
}

impl Machine {
    fn new() -> Self {
        Self { docker: testkit::Engine::shared(), made: RefCell::default() }
    }

    async fn engine(&self) -> Engine {
        let settings = ConnectSettings { host: Some(self.docker.host()), ..ConnectSettings::default() };
        Engine::connect(&settings).await.unwrap()
    }

    /// Makes an image that differs from all others, and returns its id.
    fn make(&self, reference: &str) -> String {
        let label = format!("LABEL version={}", unique("v"));
        self.docker.import(reference, &[0; 1024], &[&label, "CMD [\"/none\"]"]);
        let id = self.docker.docker(&["image", "inspect", "--format", "{{.Id}}", reference]);
        let mut made = self.made.borrow_mut();
        made.push(["image".into(), reference.into()]);
        made.push(["image".into(), id.clone()]);
        id
    }

    fn tag(&self, image: &str, reference: &str) {
        self.docker.docker(&["tag", image, reference]);
        self.made.borrow_mut().push(["image".into(), reference.into()]);
    }

    fn container(&self, image: &str) -> String {
        let id = self.docker.docker(&["create", "--name", &unique("ty-image-watch"), image]);
        self.made.borrow_mut().push(["container".into(), id.clone()]);
        id
    }

    fn exists(&self, image: &str) -> bool {
        self.docker.try_docker(&["image", "inspect", image]).is_ok()
    }

    /// Publishes two versions under one reference and leaves the first one here, as on a host that has not
    /// pulled since. Returns both ids.
    fn published_twice(&self, reference: &str) -> (String, String) {
        let old = self.make(reference);
        self.docker.docker(&["push", "--quiet", reference]);
        let keep = unique("ty-keep");
        self.tag(&old, &keep);
        let new = self.make(reference);
        self.docker.docker(&["push", "--quiet", reference]);
        self.docker.docker(&["tag", &keep, reference]);
        self.docker.docker(&["image", "rm", &keep]);
        self.docker.docker(&["image", "rm", &new]);
        (old, new)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for [kind, name] in self.made.borrow().iter().rev() {
            let _ = self.docker.try_docker(&[kind, "rm", "--force", name]);
        }
    }
}

fn watched(test: &str, reference: &str, id: &str) -> WatchedImage {
    WatchedImage { test: TestName::from(test), reference: reference.into(), current_image_id: id.into() }
}

fn newer(test: &str, reference: &str, old: &str, new: &str) -> NewerImage {
    NewerImage {
        test: TestName::from(test),
        reference: reference.into(),
        old_id: old.into(),
        new_id: new.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_version_of_a_tag_is_pulled_and_told_to_each_test_that_uses_it() {
    let (machine, registry) = (Machine::new(), Registry::start().await);
    let reference = registry.reference(&unique("app"), "stable");
    let (old, new) = machine.published_twice(&reference);
    let mut watch = ImageWatch::new(machine.engine().await, true);
    let both = [watched("a", &reference, &old), watched("b", &reference, &old)];
    // As a runner does: in a task of its own.
    let polling = tokio::spawn(async move { (watch.poll(&both).await, watch) });
    let (found, mut watch) = polling.await.unwrap();
    assert_eq!(found, [newer("a", &reference, &old, &new), newer("b", &reference, &old, &new)]);
    assert!(watch.poll(&[watched("a", &reference, &new)]).await.is_empty(), "told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tag_is_pulled_once_however_many_tests_use_it_and_ids_and_digests_never() {
    let (machine, registry) = (Machine::new(), Registry::start().await);
    let reference = registry.reference(&unique("app"), "stable");
    let id = machine.make(&reference);
    machine.docker.docker(&["push", "--quiet", &reference]);
    let digest =
        machine.docker.docker(&["image", "inspect", "--format", "{{index .RepoDigests 0}}", &reference]);
    let mut watch = ImageWatch::new(machine.engine().await, true);
    let before = registry.asked("stable");
    watch.poll(&[watched("a", &reference, &id)]).await;
    let one = registry.asked("stable") - before;
    assert!(one > 0);
    watch.poll(&["a", "b", "c"].map(|test| watched(test, &reference, &id))).await;
    assert_eq!(registry.asked("stable") - before, 2 * one);
    let short = &id["sha256:".len()..][..12];
    let fixed = [watched("d", &digest, &id), watched("e", &id, &id), watched("f", short, &id)];
    assert!(watch.poll(&fixed).await.is_empty());
    assert_eq!(registry.asked("stable") - before, 2 * one);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_pull_only_the_engines_own_images_count() {
    let (machine, registry) = (Machine::new(), Registry::start().await);
    let reference = registry.reference(&unique("app"), "stable");
    let (old, _) = machine.published_twice(&reference);
    let before = registry.asked("stable");
    let mut watch = ImageWatch::new(machine.engine().await, false);
    assert!(watch.poll(&[watched("a", &reference, &old)]).await.is_empty());
    assert_eq!(registry.asked("stable"), before);
    let built = machine.make(&reference);
    assert_eq!(watch.poll(&[watched("a", &reference, &old)]).await, [newer("a", &reference, &old, &built)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_gone_stops_neither_the_others_nor_a_look_at_local_images() {
    let (machine, registry) = (Machine::new(), Registry::start().await);
    let good = registry.reference(&unique("app"), "stable");
    let (old, new) = machine.published_twice(&good);
    let gone = format!("127.0.0.1:1/{}:1", unique("gone"));
    let (first, second) = (machine.make(&gone), machine.make(&gone));
    let mut watch = ImageWatch::new(machine.engine().await, true);
    let both = [watched("gone", &gone, &first), watched("good", &good, &old)];
    let found = watch.poll(&both).await;
    assert_eq!(found, [newer("gone", &gone, &first, &second), newer("good", &good, &old, &new)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_image_is_removed_as_soon_as_nobody_needs_it() {
    let machine = Machine::new();
    let reference = unique("ty-cleanup") + ":1";
    let old = machine.make(&reference);
    let container = machine.container(&old);
    machine.make(&reference);
    let mut watch = ImageWatch::new(machine.engine().await, false);
    assert_eq!(watch.cleanup(&old).await, Cleanup::Kept, "a container needs it");
    watch.poll(&[]).await;
    assert!(machine.exists(&old));
    machine.docker.docker(&["rm", &container]);
    watch.poll(&[]).await;
    assert!(!machine.exists(&old), "remembered and tried again");
    assert_eq!(watch.cleanup(&old).await, Cleanup::Removed, "gone is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_image_that_somebody_tagged_is_kept_with_its_tag() {
    let machine = Machine::new();
    let (reference, backup) = (unique("ty-cleanup") + ":1", unique("ty-backup") + ":1");
    let old = machine.make(&reference);
    machine.tag(&old, &backup);
    machine.make(&reference);
    let mut watch = ImageWatch::new(machine.engine().await, false);
    assert_eq!(watch.cleanup(&old).await, Cleanup::Kept);
    assert!(machine.exists(&backup));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_image_from_a_registry_is_removed_after_the_new_one_was_pulled() {
    let (machine, registry) = (Machine::new(), Registry::start().await);
    let reference = registry.reference(&unique("app"), "stable");
    let (old, new) = machine.published_twice(&reference);
    let mut watch = ImageWatch::new(machine.engine().await, true);
    watch.poll(&[watched("a", &reference, &old)]).await;
    assert_eq!(watch.cleanup(&old).await, Cleanup::Removed);
    assert!(!machine.exists(&old) && machine.exists(&new));
}
