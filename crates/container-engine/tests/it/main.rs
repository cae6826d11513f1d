//! The crate against real Docker Engines, and against stand-ins only for versions and faults that a real one
//! cannot be made to show here.

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
