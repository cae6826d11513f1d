//! Newer images of test containers: copies run on them, and old ones go when nothing uses them.

use jiff::Timestamp;
use test_results::TriggerKind;

use super::{Output, Scheduler, firing::Firing};
use crate::{
    clock::Now, image_watch::WatchedImage, run_key::RunKey, runner_event::RunnerEvent, trigger::Trigger,
};

impl Scheduler {
    /// The images to look for newer ones of: those of tests that ask for it, or of all.
    pub fn watched_images(&self, all: bool) -> Vec<WatchedImage> {
        let asks = |trigger: &Trigger| matches!(trigger, Trigger::Image);
        self.tests
            .values()
            .filter(|test| all || test.spec.triggers.iter().any(asks))
            // What is named by its content never becomes newer.
            .filter(|test| !test.image.contains("sha256:") && !test.image.is_empty())
            .filter_map(|test| {
                let current_image_id = test.newer_image.clone().or_else(|| test.image_id.clone())?;
                let name = test.spec.name.clone();
                Some(WatchedImage { test: name, reference: test.image.clone(), current_image_id })
            })
            .collect()
    }

    /// The references that this runner pulls from now on: events of these pulls trigger nothing.
    pub fn pulls(&mut self, references: impl IntoIterator<Item = String>) {
        self.traces.pulls(references);
    }

    /// A newer image was found.
    pub(super) fn on_new_image(
        &mut self,
        now: Now,
        test: &str,
        reference: &str,
        id: &str,
        at: Timestamp,
        out: &mut Vec<Output>,
    ) {
        let Some(container) = self.by_name.get(test).cloned() else { return };
        let Some(test) = self.tests.get_mut(&container) else { return };
        let current = test.newer_image.as_ref().or(test.image_id.as_ref());
        if current.is_some_and(|current| current == id) {
            return;
        }
        let old = test.newer_image.replace(id.to_owned()).or_else(|| test.image_id.clone());
        let name = test.spec.name.clone();
        if let Some(old) = old.filter(|old| self.settings.image_cleanup && !self.old_images.contains(old)) {
            self.old_images.push(old);
        }
        let (reference, id) = (reference.to_owned(), id.to_owned());
        let key = RunKey::new(at, format!("image:{container}:{id}"));
        let summary = format!("newer {reference}");
        out.push(Output::Report(RunnerEvent::NewImage { test: name, reference, id }));
        let firing = Firing { key, trigger: TriggerKind::Image, summary, at: now.wall, event: None };
        self.fire(now, &container, firing, out);
    }

    /// Tries to remove old images. The engine refuses as long as a container uses one.
    pub(super) fn remove_old_images(&mut self, out: &mut Vec<Output>) {
        let in_use = |id: &String| {
            self.tests.values().any(|test| test.newer_image.as_ref() == Some(id))
                || self.runs.values().any(|run| run.image.as_ref() == Some(id))
        };
        for id in self.old_images.iter().filter(|id| !in_use(id)) {
            self.traces.image(id);
            out.push(Output::RemoveImage { id: id.clone() });
        }
    }

    /// An old image is gone, or still in use.
    pub(super) fn on_image_removed(&mut self, id: String, gone: bool, out: &mut Vec<Output>) {
        if gone && self.old_images.contains(&id) {
            self.old_images.retain(|old| *old != id);
            out.push(Output::Report(RunnerEvent::ImageRemoved { id }));
        }
    }
}
