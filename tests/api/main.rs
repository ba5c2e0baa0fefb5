//! Through the door: a service on a free port with a fresh database, and what callers send.

mod app;
mod bad_input;
mod command_line;
mod conformance;
mod console;
mod findings;
mod idempotency;
mod operations;
mod submissions;
