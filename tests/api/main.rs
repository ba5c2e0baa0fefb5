//! Through the door: a service on a free port with a fresh database, and what callers send.

#![expect(
    unreachable_pub,
    reason = "one binary: `pub` says what its other modules use"
)]

mod app;
mod bad_input;
mod command_line;
mod conformance;
mod console;
mod findings;
mod idempotency;
mod operations;
mod submissions;
