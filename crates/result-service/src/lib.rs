//! Receives test results and events over HTTP, keeps them, and shows them: the API, the pages, the store.
//!
//! The crate is handed a bound listener, its settings and a stop token. It never reads the environment or a
//! configuration file, never prints, and never knows a container engine: what a run was is told by its upload.

mod api;
mod app;
mod blobs;
mod http;
mod intake;
mod metrics;
mod pages;
mod service;
mod settings;
mod store;
mod views;

pub use api::openapi_json;
pub use service::{Service, ServiceError};
pub use settings::{Access, Limits, ServiceSettings};
pub use store::{NewKey, OpenError, OpenFile, Presented, PublishedEvents, Store, StoreError};
pub use views::{
    CaseFilter, CaseRow, Cursor, EventFilter, EventRow, FileKind, FileRow, KeyRow, NotAScope, Page,
    PageRequest, RunDetail, RunDot, RunFilter, RunSummary, Scope, TestFilter, TestOverview,
};
