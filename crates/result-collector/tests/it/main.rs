//! The collector against real containers, real directories, and a service that misbehaves on request.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

mod containers;
mod deliveries;
mod directories;
mod harness;
mod hostile_results;
mod sink;
