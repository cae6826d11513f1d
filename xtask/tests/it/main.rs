//! The project's tasks against a real engine.

mod demo;
mod image;
