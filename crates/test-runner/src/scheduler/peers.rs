//! Containers that runs wait for (`tugbot.wait-for`): asked once, then followed by their events.

use container_engine::EngineEvent;

use super::{Output, Scheduler, state::PeerState};
use crate::spec::TestSpec;

impl Scheduler {
    /// Whether everything that the test waits for is ready. Asks for what is not known.
    pub(super) fn peers_ready(&mut self, spec: &TestSpec, out: &mut Vec<Output>) -> bool {
        let mut all_ready = true;
        for wait in &spec.policy.wait_for {
            let state = self.peers.entry(wait.container.clone()).or_insert_with(|| {
                out.push(Output::Probe { container: wait.container.clone() });
                PeerState::Asked
            });
            all_ready &= *state == PeerState::Ready;
        }
        all_ready
    }

    /// The answer to a probe.
    pub(super) fn on_peer(&mut self, container: String, ready: bool) {
        // An event that came while the engine was asked is newer than the answer.
        if let Some(state) = self.peers.get_mut(&container).filter(|state| **state == PeerState::Asked) {
            *state = if ready { PeerState::Ready } else { PeerState::NotReady };
        }
    }

    /// Something happened to a container that runs may wait for.
    pub(super) fn note_peer(&mut self, event: &EngineEvent) -> bool {
        let Some(name) = event.actor.attributes.get("name").filter(|name| self.peers.contains_key(*name))
        else {
            return false;
        };
        let state = match event.verb() {
            "health_status" if event.action.ends_with(" healthy") => PeerState::Ready,
            "health_status" | "die" | "destroy" | "pause" => PeerState::NotReady,
            // Whether it has a health check is not in the event: ask again.
            "start" | "unpause" | "rename" | "create" => {
                self.peers.remove(name);
                return true;
            }
            _ => return false,
        };
        self.peers.insert(name.clone(), state);
        true
    }
}
