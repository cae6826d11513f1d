//! Real servers for tests: Docker Engine, browser, and the faults that real networks have.
//!
//! Only ever a dev-dependency. A server that cannot be started makes the test panic with the reason and the
//! command that installs it: nothing here skips. All traffic stays on loopback, on Unix sockets, or inside a
//! network namespace that was made for the test; only processes started here are ended.

pub mod browser;
pub mod engine;
pub mod proxy;
mod wait;

pub use engine::Engine;
pub use wait::{eventually, unique};

/// An HTTP client as the binary builds it: rustls with ring.
pub fn http_client() -> reqwest::Client {
    // Another test of this process may have installed the same provider: that is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().expect("a client with default settings can be built")
}
