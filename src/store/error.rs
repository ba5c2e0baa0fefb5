//! What can go wrong in a store, by what the caller has to do about it.

use std::path::PathBuf;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process serves this database.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// Not our database, a newer one, or damaged. Nothing was changed.
    #[error("{}: {what}; {remedy}", path.display())]
    Unusable {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What an operator does.
        remedy: &'static str,
    },
    /// The identity key is not the one that the ids in this database were made with.
    #[error(
        "the identity key in {} is not the one this database was made with; restore the key that belongs to it",
        path.display()
    )]
    WrongIdentityKey {
        /// The key file.
        path: PathBuf,
    },
    /// The identity key file cannot be used.
    #[error("{}: {what}", path.display())]
    IdentityKey {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file system failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// The database server is not set up as it must be.
    #[error("{database}: {what}; {remedy}")]
    Settings {
        /// The database.
        database: String,
        /// What is wrong with it.
        what: String,
        /// What an operator does.
        remedy: &'static str,
    },
    /// The database on a server is not ours, or a newer one. Nothing was changed.
    #[error("{database}: {what}; {remedy}")]
    Foreign {
        /// The database.
        database: String,
        /// What is wrong with it.
        what: String,
        /// What an operator does.
        remedy: &'static str,
    },
    /// The database server cannot be used now.
    #[error("{database}: {what}")]
    Server {
        /// The database.
        database: String,
        /// What it said.
        what: String,
    },
    /// The database failed in another way.
    #[error("{}: {what}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What it said.
        what: String,
    },
}

/// Why something was not done. No text here names a patient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The queue is full; nothing was taken on.
    #[error("the queue of the store is full")]
    Busy,
    /// It waited in the queue longer than it may.
    #[error("the deadline passed while it waited for the store")]
    Deadline,
    /// The store cannot keep anything now: disk full, read-only. It recovers by itself.
    #[error("the store cannot write: {0}")]
    NoStore(&'static str),
    /// The same submission is being worked on; a repeat is answered once that is done.
    #[error("the same submission is being worked on")]
    Twin,
    /// Cannot be done now; the same again may work.
    #[error("the store is busy: {0}")]
    Transient(&'static str),
    /// The store failed for good: the process has to end.
    #[error("the store failed: {0}")]
    Fatal(Fatal),
    /// The model panicked on this submission; the others are not touched.
    #[error("the model panicked")]
    ModelPanicked,
    /// Something we made does not hold what we promise; nothing of it was kept.
    #[error("our own output is wrong: {0}")]
    Defect(String),
    /// A row does not hold what it must.
    #[error("a stored row cannot be read: {0}")]
    Unreadable(&'static str),
    /// A statement failed in a way that nobody foresaw.
    #[error("the database refused: {0}")]
    Unforeseen(String),
    /// Something was asked for that cannot be; the text says what, and names no patient.
    #[error("{0}")]
    Refused(String),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// A failure after which nothing more may be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fatal {
    /// Reading or writing the file failed; what the page cache holds cannot be trusted.
    #[error("input/output error")]
    Io,
    /// The file is damaged or was replaced.
    #[error("the database is damaged")]
    Corrupt,
}

/// Result of a store's work.
pub type Result<T> = std::result::Result<T, StoreError>;
