//! Triggers, runs and their ends on a real engine. (The name puts these tests into the group that limits engines.)
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

mod discovery;
mod faults;
mod images;
mod outside;
mod policies;
mod self_trigger;
mod two_runners;
