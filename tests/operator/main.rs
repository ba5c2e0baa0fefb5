//! What an operator relies on, asked of the program itself: bad disks and bad files, a patient
//! who is to be deleted, a copy that is to be restored. Each experiment prints one line.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that fails here has found something, and each says its figures"
)]

#[expect(dead_code, reason = "nobody asks for tokens here")]
#[path = "../peers/authority.rs"]
mod authority;
mod disks;
mod files;
#[expect(dead_code, reason = "here it behaves")]
#[path = "../peers/misbehaving.rs"]
mod misbehaving;
#[path = "../postgres_server/mod.rs"]
mod postgres_server;
#[path = "../process/mod.rs"]
mod process;
mod removal;
mod restore;
mod senders;

/// A figure of an experiment: small here, and as large as promised by `just prove`.
#[expect(
    clippy::disallowed_methods,
    reason = "it says how long the test is to take"
)]
fn figure(name: &str, ordinary: usize) -> usize {
    std::env::var(name).map_or(ordinary, |text| text.parse().unwrap())
}
