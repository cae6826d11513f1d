//! The only crate that knows a container engine: connection, a gapless event stream, faithful copies, archives,
//! logs, images, networks, volumes.
//!
//! It exposes its own small types; the Docker client behind them is private. It never decides *when* something
//! runs and knows nothing of tests or results: labels are just strings here. It never reads the environment: the
//! caller passes [`ConnectSettings`].

mod api;
mod archive;
pub mod connect;
mod console;
pub mod container;
mod docker_config;
mod endpoint;
pub mod engine;
pub mod error;
pub mod events;
pub mod faithful_copy;
pub mod image;
mod json_lines;
mod pull;
mod registry_auth;
mod tls;
mod transport;
mod version;

pub use api::ByteStream;
pub use connect::{ConnectError, ConnectSettings, PemSource, TlsMode};
pub use console::{LogChunk, LogSource, LogStream};
pub use container::{Container, ContainerId, ContainerSummary, Health, Labels, Lifecycle, Mount};
pub use docker_config::ConfigError;
pub use engine::{Engine, EngineInfo, ListFilter};
pub use error::EngineError;
pub use events::{Actor, EngineEvent, EventStats, EventStream, StreamItem};
pub use faithful_copy::{CopyPlan, CopyRequest};
pub use image::{Image, ImageId, ImageSummary};
pub use pull::{PullProgress, PullStream};
pub use registry_auth::CredentialsError;
pub use version::{ApiVersion, BadVersion, NegotiationError};
