//! The only crate that knows a container engine: connection, a gapless event stream, faithful copies, archives,
//! logs, images, networks, volumes.
//!
//! It exposes its own small types; the Docker client behind them is private. It never decides *when* something
//! runs and knows nothing of tests or results: labels are just strings here. It never reads the environment: the
//! caller passes [`ConnectSettings`].

pub mod connect;
pub mod container;
pub mod engine;
pub mod error;
pub mod events;
pub mod faithful_copy;
pub mod image;

pub use connect::{ConnectError, ConnectSettings, PemSource, TlsMode};
pub use container::{Container, ContainerId, ContainerSummary, Health, Lifecycle, Mount};
pub use engine::{Engine, EngineInfo};
pub use error::EngineError;
pub use events::{Actor, EngineEvent, EventStream, StreamItem};
pub use faithful_copy::{CopyPlan, CopyRequest};
pub use image::{Image, ImageId, ImageSummary};
