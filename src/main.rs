//! The `marrowflag` command.

fn main() {}
