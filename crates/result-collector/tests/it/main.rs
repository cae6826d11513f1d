//! The collector against real containers, real directories, and a service that misbehaves on request.

mod containers;
mod deliveries;
mod directories;
mod harness;
mod hostile_results;
mod sink;
