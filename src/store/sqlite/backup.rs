//! A consistent copy of the file while it is written to.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, params};

use super::{
    open::{beside, private_file, sync_folder, write_key},
    rows::{execute, failure},
};
use crate::store::{
    IdentityKey,
    error::{Result, StoreError},
};

/// Copy the database at `from` to the new file `to`, and its key beside it.
///
/// The copy gets its name only once it is whole and on disk.
pub(super) fn copy(from: &Path, to: &Path, key: &IdentityKey) -> Result<()> {
    let key_file = beside(to, ".identity-key");
    for taken in [to, &key_file] {
        if taken.exists() {
            return Err(refused(taken, "is there already"));
        }
    }
    let partial = beside(to, ".partial");
    let copied = copy_whole(from, to, &partial, &key_file, key);
    if copied.is_err() {
        // What is not whole is nobody's backup; what cannot be removed says so by its name.
        let _ = std::fs::remove_file(&partial);
    }
    copied
}

fn copy_whole(
    from: &Path,
    to: &Path,
    partial: &PathBuf,
    key_file: &Path,
    key: &IdentityKey,
) -> Result<()> {
    let io = |error: std::io::Error| refused(to, &error.to_string());
    // Made by us and not by SQLite: nobody else may read it.
    private_file(partial).map_err(io)?;
    let name = partial
        .to_str()
        .ok_or_else(|| refused(to, "must be named in UTF-8"))?;
    let connection = Connection::open_with_flags(
        from,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(failure)?;
    execute(&connection, "VACUUM INTO ?1", params![name])?;
    drop(connection);
    File::open(partial)
        .and_then(|file| file.sync_all())
        .map_err(io)?;
    write_key(key_file, key).map_err(|error| StoreError::Refused(error.to_string()))?;
    std::fs::rename(partial, to).map_err(io)?;
    sync_folder(to).map_err(io)
}

fn refused(path: &Path, why: &str) -> StoreError {
    StoreError::Refused(format!("{}: {why}", path.display()))
}
