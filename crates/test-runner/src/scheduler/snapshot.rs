//! Compares what is known with what the engine lists and inspects, and brings the two together.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use container_engine::{ContainerId, ContainerSummary, Lifecycle};
use jiff::Timestamp;
use test_results::{Cause, TriggerKind, labels};

use super::{
    ABANDONED_AFTER, CopyFacts, OriginalFacts, Output, REMEMBERED_COPIES, Scheduler,
    endings::Ended,
    state::{Run, Stage, Test},
};
use crate::{
    clock::{Now, Tick},
    runner_event::RunnerEvent,
    spec::TestSpec,
};

impl Scheduler {
    /// Takes a listing of all containers. Whatever became known after it was begun is newer and stays.
    pub(super) fn on_listing(
        &mut self,
        now: Now,
        begun: Tick,
        mut containers: Vec<ContainerSummary>,
        out: &mut Vec<Output>,
    ) {
        containers.sort_by(|a, b| a.created_at.cmp(&b.created_at).then_with(|| a.name.cmp(&b.name)));
        let listed: HashMap<&str, &ContainerSummary> =
            containers.iter().map(|c| (c.id.0.as_str(), c)).collect();
        self.names.retain(|id, (_, known)| listed.contains_key(id.as_str()) || *known >= begun);
        for container in &containers {
            self.names.insert(container.id.0.clone(), (container.name.clone(), begun));
        }
        self.traces.retain_copies(|id| listed.contains_key(id));
        self.peers.clear();
        // Copies first: timers go on from the last of them.
        for container in &containers {
            if let Some(test) = labels::get(&container.labels, labels::CREATED_FROM) {
                self.traces.copy(&container.id.0);
                self.list_copy(now, container, test, out);
            }
        }
        for container in &containers {
            if !labels::is_copy(&container.labels) {
                self.list_original(now, begun, container, out);
            }
        }
        self.miss_originals(begun, &listed, out);
        self.miss_copies(now, begun, &listed, out);
        self.synced = true;
        if !std::mem::replace(&mut self.ever_synced, true) {
            for name in &self.settings.discovery.names {
                if !self.names.values().any(|(known, _)| known == name) {
                    out.push(Output::Report(RunnerEvent::NoSuchContainer { name: name.clone() }));
                }
            }
        }
    }

    fn list_copy(&mut self, now: Now, container: &ContainerSummary, test: &str, out: &mut Vec<Output>) {
        let newest = &mut self.history.entry(test.to_owned()).or_default().newest_image;
        if newest.as_ref().is_none_or(|(_, at)| *at <= container.created_at) {
            *newest = Some((container.image_id.clone(), container.created_at));
        }
        if let Some(cause) = cause_of(&container.labels) {
            self.note_timer_copy(test, &cause);
        }
        let image = Some(container.image_id.clone());
        match container.lifecycle {
            Lifecycle::Gone => return,
            Lifecycle::Exited if self.is_known_finished(test, &container.id) => return,
            Lifecycle::Exited if !self.runs.contains_key(&container.name) => {
                // Ended before this runner looked: only what is left of it matters.
                if self.settings.discovery.is_named(test) {
                    self.past_copies.insert(container.name.clone(), REMEMBERED_COPIES);
                    self.remember_finished(now, test, &container.name, &container.id);
                    out.push(Output::InspectCopy { id: container.id.clone() });
                }
                return;
            }
            Lifecycle::Created | Lifecycle::Running | Lifecycle::Exited => {
                let stage = Stage::Created;
                self.adopt(now, &container.name, &container.id, test, &container.labels, image, stage, out);
            }
        }
        // When it started or ended is known to an inspection only; its volumes too.
        if let Some(run) = self.runs.get_mut(&container.name) {
            // Whoever made it may be gone.
            run.ours = true;
            out.push(Output::InspectCopy { id: container.id.clone() });
        }
    }

    fn list_original(&mut self, now: Now, begun: Tick, container: &ContainerSummary, out: &mut Vec<Output>) {
        match self.settings.discovery.consider(&container.name, &container.labels) {
            Ok(spec) => {
                let id = &container.id;
                let new = !self.tests.contains_key(id);
                let (image, created_at) = (container.image.clone(), container.created_at);
                self.upsert(now, id, spec, image, created_at, container.lifecycle, out);
                let Some(test) = self.tests.get_mut(id) else { return };
                test.image_id = Some(container.image_id.clone());
                if test.touched < begun {
                    test.lifecycle = container.lifecycle;
                }
                if new {
                    self.continue_on_newer_image(id);
                    self.arm(now, id);
                }
                // Its document may have changed while nobody listened.
                out.push(Output::InspectOriginal { id: id.clone() });
            }
            Err(_) => {
                self.withdraw(&container.id, out);
            }
        }
    }

    /// Originals that are not there any more.
    fn miss_originals(
        &mut self,
        begun: Tick,
        listed: &HashMap<&str, &ContainerSummary>,
        out: &mut Vec<Output>,
    ) {
        let gone: Vec<ContainerId> = self
            .tests
            .values()
            .filter(|test| test.touched < begun && !listed.contains_key(test.id.0.as_str()))
            .map(|test| test.id.clone())
            .collect();
        for id in gone {
            self.withdraw(&id, out);
        }
    }

    /// Copies that are not there any more.
    fn miss_copies(
        &mut self,
        now: Now,
        begun: Tick,
        listed: &HashMap<&str, &ContainerSummary>,
        out: &mut Vec<Output>,
    ) {
        for history in self.history.values_mut() {
            history.finished.retain(|finished| listed.contains_key(finished.id.0.as_str()));
        }
        let is_gone = |run: &Run| {
            run.since < begun && run.id.as_ref().is_some_and(|id| !listed.contains_key(id.0.as_str()))
        };
        let gone: Vec<String> =
            self.runs.iter().filter(|(_, run)| is_gone(run)).map(|(copy, _)| copy.clone()).collect();
        for copy in gone {
            self.lose(
                now,
                &copy,
                "the copy was removed while the engine could not be watched",
                now.wall,
                out,
            );
        }
    }

    /// Takes note of a test container, new or known.
    #[expect(clippy::too_many_arguments, reason = "the columns of a listing")]
    pub(super) fn upsert(
        &mut self,
        now: Now,
        id: &ContainerId,
        spec: TestSpec,
        image: String,
        created_at: Timestamp,
        lifecycle: Lifecycle,
        out: &mut Vec<Output>,
    ) {
        let name = spec.name.0.clone();
        if let Some(known) = self.tests.get_mut(id) {
            if known.spec.name == spec.name {
                return;
            }
            // Renamed: the policies that its new name brings apply from now on.
            if self.by_name.get(&known.spec.name.0) == Some(id) {
                self.by_name.remove(&known.spec.name.0);
            }
            known.touched = now.tick;
            known.spec = Arc::new(spec);
        } else {
            let test = Test {
                id: id.clone(),
                spec: Arc::new(spec),
                lifecycle,
                started_at: None,
                touched: now.tick,
                created_at,
                image,
                image_id: None,
                newer_image: None,
                pending: Default::default(),
                timer: None,
                slot: None,
            };
            self.tests.insert(id.clone(), test);
        }
        self.by_name.insert(name, id.clone());
        let spec = &self.tests[id].spec;
        out.push(Output::Report(RunnerEvent::Discovered {
            test: spec.name.clone(),
            triggers: spec.triggers.iter().map(ToString::to_string).collect(),
            problems: spec.problems.clone(),
        }));
    }

    /// A container is no test container of this runner (any more).
    pub(super) fn withdraw(&mut self, id: &ContainerId, out: &mut Vec<Output>) -> bool {
        self.drop_pending(id, out);
        let Some(test) = self.tests.remove(id) else { return false };
        if self.by_name.get(&test.spec.name.0) == Some(id) {
            self.by_name.remove(&test.spec.name.0);
        }
        out.push(Output::Report(RunnerEvent::Withdrawn { test: test.spec.name.clone() }));
        out.push(Output::ForgetOriginal { id: id.clone() });
        self.forget_history(&test.spec.name.0);
        self.remove_old_images(out);
        true
    }

    /// An original was inspected.
    pub(super) fn on_original(&mut self, now: Now, facts: OriginalFacts, _out: &mut Vec<Output>) {
        let Some(test) = self.tests.get_mut(&facts.id) else { return };
        test.image = facts.image;
        test.image_id = Some(facts.image_id);
        test.created_at = facts.created_at;
        if test.touched <= facts.begun {
            test.lifecycle = facts.lifecycle;
            test.started_at = facts.started_at;
        }
        // Found by its event: only now is it known for certain when it was made.
        if test.timer.is_none() && test.slot.is_none() {
            self.arm(now, &facts.id);
        }
    }

    /// Copies have run on a newer image before this runner came.
    fn continue_on_newer_image(&mut self, id: &ContainerId) {
        let Some(test) = self.tests.get_mut(id) else { return };
        let newest = self.history.get(&test.spec.name.0).and_then(|history| history.newest_image.as_ref());
        let newest =
            newest.filter(|(image, at)| *at > test.created_at && Some(image) != test.image_id.as_ref());
        test.newer_image = newest.map(|(image, _)| image.clone());
    }

    /// Follows a copy that exists, whoever made it. Returns whether it is followed.
    #[expect(clippy::too_many_arguments, reason = "what an event or a listing tells about a copy")]
    pub(super) fn adopt(
        &mut self,
        now: Now,
        copy: &str,
        id: &ContainerId,
        test: &str,
        given: &BTreeMap<String, String>,
        image: Option<String>,
        stage: Stage,
        out: &mut Vec<Output>,
    ) -> bool {
        if self.runs.contains_key(copy) {
            self.created(now, copy, id, out);
            return true;
        }
        if self.past_copies.contains(copy) || !self.settings.discovery.is_named(test) {
            return false;
        }
        let original = self.by_name.get(test).cloned();
        if let Some(test) = original.as_ref().and_then(|id| self.tests.get_mut(id)) {
            // Another runner was faster.
            let name = test.spec.name.0.clone();
            test.pending.retain(|pending| pending.key.copy_name(&name) != copy);
        }
        let spec = original.as_ref().and_then(|id| self.tests.get(id)).map(|test| test.spec.clone());
        // An orphan's own labels still tell how it should run.
        let spec = spec.unwrap_or_else(|| Arc::new(TestSpec::read(test, given)));
        let cause = cause_of(given).unwrap_or_else(|| unknown_cause(now));
        self.note_timer_copy(test, &cause);
        let run = Run {
            test: test.to_owned(),
            spec,
            original,
            id: Some(id.clone()),
            cause,
            image,
            ours: false,
            answered: true,
            stage,
            since: now.tick,
            deadline: Some(now.tick + ABANDONED_AFTER),
            killed: None,
        };
        out.push(Output::Report(RunnerEvent::Adopted { test: run.spec.name.clone(), copy: copy.to_owned() }));
        self.runs.insert(copy.to_owned(), run);
        true
    }

    /// A copy was inspected.
    pub(super) fn on_copy_facts(&mut self, now: Now, facts: CopyFacts, out: &mut Vec<Output>) {
        for volume in &facts.volumes {
            self.traces.volume(volume);
        }
        self.traces.copy(&facts.id.0);
        self.volumes_of_copy(&facts.id, Some(&facts.volumes));
        if !self.runs.contains_key(&facts.name) {
            return;
        }
        match facts.lifecycle {
            Lifecycle::Created => {}
            Lifecycle::Running => {
                self.running(now, &facts.name, facts.started_at.unwrap_or(now.wall), out);
            }
            Lifecycle::Exited => {
                if let Some(at) = facts.started_at {
                    self.running(now, &facts.name, at, out);
                }
                let finished_at = facts.finished_at.unwrap_or(now.wall);
                let ended = Ended { exit_code: facts.exit_code, started_at: facts.started_at, finished_at };
                self.finish(now, &facts.name, ended, out);
            }
            Lifecycle::Gone => self.lose(now, &facts.name, "the engine is removing the copy", now.wall, out),
        }
    }

    /// A copy that should be inspected does not exist.
    pub(super) fn on_copy_gone(&mut self, now: Now, id: &ContainerId, out: &mut Vec<Output>) {
        self.traces.copy_gone(&id.0);
        self.volumes_of_copy(id, None);
        let of_id = |run: &Run| run.id.as_ref() == Some(id);
        let copy = self.runs.iter().find(|(_, run)| of_id(run)).map(|(copy, _)| copy.clone());
        if let Some(copy) = copy {
            self.copy_destroyed(now, &copy, id, now.wall, out);
        }
    }

    /// The past of a test that has neither an original nor a copy is of no use.
    pub(super) fn forget_history(&mut self, test: &str) {
        let is_empty = self.history.get(test).is_some_and(|history| history.finished.is_empty());
        if is_empty && !self.by_name.contains_key(test) && !self.runs.values().any(|run| run.test == test) {
            self.history.remove(test);
        }
    }

    fn is_known_finished(&self, test: &str, id: &ContainerId) -> bool {
        self.history.get(test).is_some_and(|history| history.finished.iter().any(|f| f.id == *id))
    }
}

/// What the label of a copy says about its cause.
fn cause_of(given: &BTreeMap<String, String>) -> Option<Cause> {
    labels::get(given, labels::CAUSE).and_then(|json| serde_json::from_str(json).ok())
}

/// For a copy made by a runner that wrote no cause.
fn unknown_cause(now: Now) -> Cause {
    Cause {
        trigger: TriggerKind::Manual,
        summary: "unknown".to_owned(),
        at: now.wall,
        event: None,
        attempt: 1,
    }
}
