//! The vocabulary of test results: runs, cases, the formats they arrive in, the upload format, and events.
//!
//! Every crate that produces or stores a result speaks these types, and only these cross the wire. The crate
//! parses bytes from outside (JUnit, TAP, subunit, uploads) under explicit limits. It never opens a network
//! connection, never reads the clock or the environment, and never knows a container engine or a database.

pub mod event;
pub mod labels;
pub mod run;
pub mod upload;

pub use event::{CdFilter, CloudEvent, EventId, UpstreamEvent};
pub use run::{
    Case, CaseStatus, Cause, Ending, Failure, Outcome, RunId, State, TestName, Totals, TriggerKind,
};
