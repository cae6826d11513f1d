//! The service over real HTTP, on a port of its own and a state directory of its own for each test.

mod access;
mod api;
mod events;
mod hostile;
mod intake;
mod pages;
mod served;
