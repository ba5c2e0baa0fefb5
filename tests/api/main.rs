//! Through the door: a service on a free port with a fresh database, and what callers send.

#![expect(
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test panics when something is not as it says; `pub` is for the other modules here"
)]

mod app;
mod bad_input;
mod command_line;
mod conformance;
mod console;
mod findings;
mod idempotency;
mod on_postgres;
mod operations;
#[path = "../postgres_server/mod.rs"]
mod postgres_server;
#[path = "../process/mod.rs"]
mod process;
mod submissions;
