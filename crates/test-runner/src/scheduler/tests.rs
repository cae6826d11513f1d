//! The scheduler against a model of an engine, without waiting: single behaviours here, whole histories in
//! [`histories`].

mod behaviour;
mod histories;
mod model;
mod outside;
mod times;
