//! All integration tests of the crate, in one binary.

mod label_reference;
mod sources;
mod rig;
mod runs;
