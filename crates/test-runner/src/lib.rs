//! Decides which test containers run when, and runs faithful copies of them.
//!
//! A container with the label `tugbot.test` is a test container; other labels say what should start it again. The
//! [`scheduler`] decides, as a pure state machine; the [`Runner`] listens to the engine, the host, the registries and
//! the result service, and carries the decisions out. Truth lives in the engine: nothing is stored here, two runners
//! need not know of each other, and a runner that starts finds everything it has to know in a listing.
//!
//! The crate never makes a test's *first* run, never collects results, and never talks to an engine but through
//! `container-engine`.

pub mod clock;
pub mod control;
pub mod cron_schedule;
pub mod discovery;
pub mod docker_filter;
pub mod event_sender;
pub mod host_watch;
pub mod image_watch;
pub mod inlet;
pub mod metrics;
pub mod overrides;
pub mod plan;
pub mod policy;
pub mod run_key;
pub mod runner;
pub mod runner_event;
pub mod scheduler;
pub mod settings;
pub mod spec;
pub mod trigger;
pub mod webhook;

mod announce;
mod delivery;
mod engine_work;
mod host_poll;
mod image_poll;
mod originals;
mod outbox;
mod sse;
mod start_copy;
mod traces;
mod trouble;

pub use outbox::Counts;
pub use overrides::{Override, OverrideError};
pub use plan::{PlanRow, PlannedTrigger};
pub use runner::{Outlet, Runner, RunnerHandle};
pub use runner_event::{KillReason, RunnerEvent, SkipReason};
pub use scheduler::{Removal, RunNowError, RunnerStatus, Ticket};
pub use settings::{ImageSettings, RunnerSettings};
