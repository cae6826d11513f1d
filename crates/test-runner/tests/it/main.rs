//! All integration tests of the crate, in one binary.

mod label_reference;
mod rig;
mod runs_on_engine;
mod sources;
