//! Where events come from and go to: the host, images, webhooks, the result service.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

mod event_sender;
mod host_watch;
mod image_watch;
mod inlet;
mod log;
mod receiver;
mod registry;
mod webhook;

use test_results::{CloudEvent, EventId};

/// An event that can be told from others by its number.
fn event(number: usize) -> CloudEvent {
    let mut event =
        CloudEvent::new(EventId(number.to_string()), "/test", "dev.cdeventsx.docker-container.create.0.1.0");
    event.time = Some("2026-05-01T10:00:00Z".parse().unwrap());
    event.data = serde_json::json!({"number": number, "padding": "x".repeat(2000)});
    event
}
