//! The disk that the file is on: kinds that SQLite cannot trust, and how much room is left.

use std::path::Path;

/// Room that is kept for what is under way, so that it can still be settled when nothing more is
/// taken on.
const RESERVE: u64 = 128 << 20;
/// Of a small disk this part.
const SHARE: u64 = 16;

/// Whether too little room is left to take anything more on. What is not known is enough.
pub(super) fn is_low(folder: &Path) -> bool {
    room(folder).is_some_and(|(free, size)| free < reserve(size))
}

/// Bytes that we may still write, where that can be asked.
pub(super) fn free(folder: &Path) -> Option<u64> {
    room(folder).map(|(free, _)| free)
}

fn reserve(size: u64) -> u64 {
    RESERVE.min(size / SHARE)
}

/// Bytes that we may still write, and of the whole disk.
#[cfg(unix)]
fn room(folder: &Path) -> Option<(u64, u64)> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Some((bytes(disk.f_bavail), bytes(disk.f_blocks)))
}

#[cfg(not(unix))]
fn room(_: &Path) -> Option<(u64, u64)> {
    None
}

/// The name of the file share that a folder is on, if it is on one: their locks cannot be trusted,
/// nor what they say is written.
#[cfg(target_os = "linux")]
pub(super) fn share(folder: &Path) -> Option<&'static str> {
    let disk = rustix::fs::statfs(folder).ok()?;
    // The kinds are numbers of 32 bits, in a field that some machines extend by their sign.
    share_of(u64::try_from(i128::from(disk.f_type) & 0xffff_ffff).ok()?)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn share(_: &Path) -> Option<&'static str> {
    None
}

/// By the numbers of Linux (`statfs(2)`).
#[cfg(target_os = "linux")]
fn share_of(kind: u64) -> Option<&'static str> {
    match kind {
        0x6969 => Some("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some("SMB"),
        0x0102_1997 => Some("9p"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_part_of_a_small_disk() {
        assert_eq!(reserve(48 << 20), 3 << 20);
        assert_eq!(reserve(100 << 30), 128 << 20);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn file_shares_are_known_by_their_numbers() {
        assert_eq!(share_of(0x6969), Some("NFS"));
        assert_eq!(share_of(0xff53_4d42), Some("SMB"));
        // ext4, tmpfs, overlay.
        for disk in [0xef53, 0x0102_1994, 0x794c_7630] {
            assert_eq!(share_of(disk), None);
        }
        assert_eq!(share(Path::new("/proc")), None);
    }
}
