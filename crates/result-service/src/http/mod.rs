//! What all routes share: problems, access, headers, connections. Knows no route.

pub(crate) mod access;
pub(crate) mod connections;
pub(crate) mod extract;
pub(crate) mod guard;
pub(crate) mod problem;
mod stall;
