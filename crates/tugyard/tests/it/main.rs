//! The real binary against a real engine and a real service.

mod asked_for;
mod burst;
mod command_line;
mod delivery;
mod support;
mod test_loop;
mod up;
