//! What an engine event means: a step of a copy's life, news of an original, or a trigger.

use container_engine::{ContainerId, EngineEvent, Lifecycle};
use test_results::{Ending, Outcome, labels};

use super::{Output, Scheduler, UNCLEAR_AT_MOST, UNCLEAR_FOR, Unclear, endings::Ended, state::Stage};
use crate::{
    clock::Now,
    traces::{Origin, is_anonymous},
};

impl Scheduler {
    /// Takes an engine event. Returns whether anything changed by it; most events of a busy host change nothing.
    pub(super) fn on_engine_event(&mut self, now: Now, event: EngineEvent, out: &mut Vec<Output>) -> bool {
        let origin = self.traces.origin(&event);
        let mut changed = match event.kind.as_str() {
            "container" => self.on_container_event(now, &event, out),
            "network" => self.on_network_event(&event, out),
            "volume" => self.on_volume_event(now, &event, out),
            _ => false,
        };
        match origin {
            Origin::Ours => {}
            Origin::Foreign => changed |= self.fire_docker(now, &event, None, out),
            Origin::Unclear => {
                let (since, until) = (now.tick, now.tick + UNCLEAR_FOR);
                self.unclear.push_back(Unclear { event, since, until, copies: Vec::new() });
                changed = true;
            }
        }
        changed
    }

    fn on_container_event(&mut self, now: Now, event: &EngineEvent, out: &mut Vec<Output>) -> bool {
        let (id, attributes) = (&event.actor.id, &event.actor.attributes);
        match (event.verb(), attributes.get("name")) {
            ("create" | "rename", Some(name)) => {
                self.names.insert(id.clone(), (name.clone(), now.tick));
            }
            ("destroy", _) => drop(self.names.remove(id)),
            _ => {}
        }
        let peer = self.note_peer(event);
        match labels::get(attributes, labels::CREATED_FROM) {
            Some(test) => self.on_copy_event(now, event, test, out) || peer,
            None => self.on_original_event(now, event, out) || peer,
        }
    }

    /// A step in the life of a copy, ours or another runner's.
    fn on_copy_event(&mut self, now: Now, event: &EngineEvent, test: &str, out: &mut Vec<Output>) -> bool {
        let id = ContainerId(event.actor.id.clone());
        let Some(copy) = event.actor.attributes.get("name").cloned() else { return false };
        match event.verb() {
            "create" => {
                if !self.unclear.is_empty() {
                    out.push(Output::InspectCopy { id: id.clone() });
                }
                for unclear in &mut self.unclear {
                    unclear.copies.push(id.clone());
                }
                let image = event.actor.attributes.get("image").cloned();
                self.adopt(now, &copy, &id, test, &event.actor.attributes, image, Stage::Created, out)
            }
            "start" => {
                self.adopt(now, &copy, &id, test, &event.actor.attributes, None, Stage::Created, out)
                    && self.running(now, &copy, event.at, out)
            }
            "die" => {
                self.adopt(now, &copy, &id, test, &event.actor.attributes, None, Stage::Created, out);
                let exit_code = event.actor.attributes.get("exitCode").and_then(|code| code.parse().ok());
                let started_at = self.runs.get(&copy).and_then(|run| match run.stage {
                    Stage::Running(at) => Some(at),
                    Stage::Starting | Stage::Created => None,
                });
                self.finish(now, &copy, Ended { exit_code, started_at, finished_at: event.at }, out)
            }
            "destroy" => {
                self.traces.copy_gone(&id.0);
                self.volumes_of_copy(&id, None);
                self.copy_destroyed(now, &copy, &id, event.at, out)
            }
            _ => false,
        }
    }

    /// News of a container that is no copy: it may be, or become, a test container.
    fn on_original_event(&mut self, now: Now, event: &EngineEvent, out: &mut Vec<Output>) -> bool {
        let id = ContainerId(event.actor.id.clone());
        let attributes = &event.actor.attributes;
        let name = attributes.get("name").map(String::as_str).unwrap_or_default();
        match event.verb() {
            "create" | "rename" => match self.settings.discovery.consider(name, attributes) {
                Ok(spec) => {
                    let image = attributes.get("image").cloned().unwrap_or_default();
                    self.upsert(now, &id, spec, image, event.at, Lifecycle::Created, out);
                    // Its true time of creation and its document come with the inspection.
                    out.push(Output::InspectOriginal { id });
                    return true;
                }
                Err(_) => return self.withdraw(&id, out),
            },
            "destroy" => return self.withdraw(&id, out),
            _ => {}
        }
        let Some(test) = self.tests.get_mut(&id) else { return false };
        match event.verb() {
            "start" => {
                test.touched = now.tick;
                test.lifecycle = Lifecycle::Running;
                test.started_at = Some(event.at);
            }
            "die" => {
                test.touched = now.tick;
                test.lifecycle = Lifecycle::Exited;
                let test = self.tests.get(&id).map(|test| (test.spec.name.0.clone(), test.started_at));
                if let Some((name, started_at)) = test {
                    let code = attributes.get("exitCode").and_then(|code| code.parse().ok()).unwrap_or(-1);
                    // Nobody limits a first run, so it cannot have been killed for its timeout.
                    let outcome = Outcome::judge(&Ending {
                        exit_code: code,
                        started_at,
                        finished_at: Some(event.at),
                        timeout: None,
                    });
                    let what = format!("{id}:{}", event.at.as_nanosecond());
                    self.fire_followers(now, &name, &outcome, event.at, &what, out);
                }
            }
            "update" => out.push(Output::InspectOriginal { id }),
            _ => return false,
        }
        true
    }

    /// A network of an original changed: copies made from now on should have it too.
    fn on_network_event(&mut self, event: &EngineEvent, out: &mut Vec<Output>) -> bool {
        let Some(container) = event.actor.attributes.get("container") else { return false };
        let id = ContainerId(container.clone());
        let is_change = matches!(event.verb(), "connect" | "disconnect");
        // The networks of a container that starts or ends come and go by themselves.
        let still = self.tests.get(&id).is_some_and(|test| test.lifecycle != Lifecycle::Created);
        if is_change && still {
            out.push(Output::InspectOriginal { id });
        }
        false
    }

    /// A volume is mounted: now it may be clear whose it is.
    fn on_volume_event(&mut self, now: Now, event: &EngineEvent, out: &mut Vec<Output>) -> bool {
        let Some(container) = event.actor.attributes.get("container") else { return false };
        let volume = &event.actor.id;
        if self.traces.is_copy(container) {
            let before = self.unclear.len();
            self.unclear.retain(|unclear| unclear.event.actor.id != *volume);
            return self.unclear.len() < before;
        }
        // A named volume may be mounted by this container and made for that copy.
        let same = |unclear: &Unclear| unclear.event.actor.id == *volume && is_anonymous(volume);
        let Some(unclear) = self.unclear.iter().position(same).and_then(|place| self.unclear.remove(place))
        else {
            return false;
        };
        self.fire_docker(now, &unclear.event, Some(container), out);
        true
    }

    /// The volumes of a copy are known; or never will be, for it has gone before anybody looked.
    pub(super) fn volumes_of_copy(&mut self, copy: &ContainerId, volumes: Option<&[String]>) {
        self.unclear.retain_mut(|unclear| {
            let Some(place) = unclear.copies.iter().position(|maybe| maybe == copy) else { return true };
            unclear.copies.remove(place);
            volumes.is_some_and(|volumes| !volumes.contains(&unclear.event.actor.id))
        });
    }

    /// Events whose origin has become clear, or that have waited long enough.
    pub(super) fn settle_unclear(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.unclear.is_empty() {
            return;
        }
        let traces = &self.traces;
        self.unclear.retain(|unclear| !traces.is_volume_of_copy(&unclear.event.actor.id));
        let being_made = self.runs.values().any(|run| run.stage == Stage::Starting);
        for mut unclear in std::mem::take(&mut self.unclear) {
            if unclear.until > now.tick {
                self.unclear.push_back(unclear);
            } else if being_made && now.tick < unclear.since + UNCLEAR_AT_MOST {
                unclear.until = now.tick + UNCLEAR_FOR;
                self.unclear.push_back(unclear);
            } else {
                self.fire_docker(now, &unclear.event, None, out);
            }
        }
    }
}
