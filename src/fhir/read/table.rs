//! The rows of `marrowflag read`.
