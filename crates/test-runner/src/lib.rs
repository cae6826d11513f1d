//! Decides which test containers run when, and runs faithful copies of them.

pub mod host_watch;
