//! A consistent copy of the file while it is written to.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use rusqlite::{Connection, OpenFlags, params};

use super::{
    open::{beside, private_file, sync_folder, write_key},
    rows::{execute, failure},
};
use crate::{
    fault::{crash_point, crash_point_meanwhile},
    store::{
        IdentityKey,
        error::{Result, StoreError},
    },
};

/// Copy the database at `from` to the new file `to`, and its key beside it.
///
/// The copy gets its name only once it is whole and on disk. What a copy that was cut short left
/// under this name is done anew.
pub(super) fn copy(from: &Path, to: &Path, key: &IdentityKey) -> Result<()> {
    let partial = beside(to, ".partial");
    let file = begin(&partial)?;
    let copied = copy_whole(from, to, &partial, &file, key);
    if copied.is_err() {
        // What is not whole is nobody's backup; what cannot be removed says so by its name.
        let _ = std::fs::remove_file(&partial);
    }
    copied
}

/// An empty file, ours alone for as long as what is returned lives. Made by us and not by SQLite:
/// nobody else may read it.
fn begin(partial: &Path) -> Result<File> {
    let io = |error: std::io::Error| refused(partial, &error.to_string());
    let file = private_file(partial).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(refused(partial, "is being written")),
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    file.set_len(0).map_err(io)?;
    Ok(file)
}

fn copy_whole(
    from: &Path,
    to: &Path,
    partial: &Path,
    file: &File,
    key: &IdentityKey,
) -> Result<()> {
    let key_file = beside(to, ".identity-key");
    let has_key = IdentityKey::read(&key_file).is_ok_and(|held| held.as_bytes() == key.as_bytes());
    for (path, taken) in [
        (to, to.exists()),
        (&key_file, key_file.exists() && !has_key),
    ] {
        if taken {
            return Err(refused(path, "is there already"));
        }
    }
    let io = |error: std::io::Error| refused(to, &error.to_string());
    let name = partial
        .to_str()
        .ok_or_else(|| refused(to, "must be named in UTF-8"))?;
    let connection = Connection::open_with_flags(
        from,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(failure)?;
    crash_point_meanwhile!("backup.copying");
    execute(&connection, "VACUUM INTO ?1", params![name])?;
    drop(connection);
    crash_point!("backup.copying");
    file.sync_all().map_err(io)?;
    if !has_key {
        write_key(&key_file, key).map_err(|error| StoreError::Refused(error.to_string()))?;
    }
    crash_point!("backup.copying");
    std::fs::rename(partial, to).map_err(io)?;
    crash_point!("backup.copying");
    sync_folder(to).map_err(io)
}

fn refused(path: &Path, why: &str) -> StoreError {
    StoreError::Refused(format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(result: Result<()>) -> String {
        result.expect_err("it was copied").to_string()
    }

    #[test]
    fn what_a_copy_that_was_cut_short_left_is_done_anew() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let (from, to) = (at("m.db"), at("copy.db"));
        let made = Connection::open(&from).unwrap();
        made.execute_batch("CREATE TABLE kept (id INTEGER); INSERT INTO kept VALUES (7)")
            .unwrap();
        let key = IdentityKey::new([1; 32]);
        let key_file = at("copy.db.identity-key");

        write_key(&key_file, &IdentityKey::new([2; 32])).unwrap();
        assert!(why(copy(&from, &to, &key)).ends_with("copy.db.identity-key: is there already"));
        std::fs::remove_file(&key_file).unwrap();
        let other = begin(&at("copy.db.partial")).unwrap();
        assert!(why(copy(&from, &to, &key)).ends_with("copy.db.partial: is being written"));
        drop(other);
        assert!(!to.exists());

        std::fs::write(at("copy.db.partial"), "half of one").unwrap();
        write_key(&key_file, &key).unwrap();
        copy(&from, &to, &key).unwrap();
        let kept: i64 = Connection::open(&to)
            .unwrap()
            .query_row("SELECT id FROM kept", [], |row| row.get(0))
            .unwrap();
        assert_eq!((kept, at("copy.db.partial").exists()), (7, false));
        assert!(why(copy(&from, &to, &key)).ends_with("copy.db: is there already"));
        assert!(!at("copy.db.partial").exists());
    }
}
