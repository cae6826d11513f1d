//! The crate against real Docker Engines, and against stand-ins only for versions and faults that a real one
//! cannot be made to show here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod archive;
mod console;
mod copy;
mod errors;
mod events;
mod lifecycle;
mod negotiation;
mod pull;
mod support;
mod tls;
