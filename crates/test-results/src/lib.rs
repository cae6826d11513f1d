//! The vocabulary of test results: runs, cases, the formats they arrive in, the upload format, and events.
//!
//! Every crate that produces or stores a result speaks these types, and only these cross the wire. The crate
//! parses bytes from outside (JUnit, TAP, subunit, uploads) under explicit limits. It never opens a network
//! connection, never reads the clock or the environment, and never knows a container engine or a database.

mod bounded;
mod bounded_xml;
pub mod event;
pub mod junit;
pub mod labels;
pub mod recognise;
pub mod run;
pub mod subunit;
pub mod tap;
pub mod upload;

pub use bounded::{CUT_MARK, Limits, Sink};
pub use bounded_xml::XmlFault;
pub use event::{CdFilter, CloudEvent, EventId, UpstreamEvent};
pub use recognise::{Format, ParseError};
pub use run::{
    Case, CaseStatus, Cause, Ending, Failure, Outcome, RunId, State, TestName, Totals, TriggerKind,
};
