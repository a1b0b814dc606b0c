//! What an ext4 says of itself: the few fields of its superblock that decide something here.
//!
//! Read from the loop device while it is mounted, from the file while it is not. The layout is that of the
//! kernel's documentation, Documentation/filesystems/ext4/super.rst. Nothing is written, and nothing of the
//! bot's is read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Where the superblock begins, in bytes.
const AT_BYTES: u64 = 1024;
/// As much of it as is read here.
const LEN_BYTES: usize = 1024;
/// `s_magic`.
const MAGIC: u32 = 0xEF53;
/// `s_log_block_size` counts from blocks of this many bytes.
const SMALLEST_BLOCK_BYTES: u64 = 1024;
/// The largest `s_log_block_size` that the kernel mounts: 64 KiB.
const LOG_BLOCK_SIZE_MAX: u32 = 6;
/// `s_state`: the kernel met something that must not be.
const STATE_ERRORS: u32 = 0x2;
/// `s_feature_incompat`: block numbers have an upper half.
const FEATURE_64BIT: u32 = 0x80;

/// What an ext4 says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// How large it is, in bytes.
    pub bytes: u64,
    /// Whether the kernel found it damaged.
    pub damaged: bool,
}

/// Reads it from a file or a device.
///
/// # Errors
/// What the operating system said; `InvalidData` where there is no ext4.
pub fn superblock(path: &Path) -> io::Result<Superblock> {
    let mut bytes = [0; LEN_BYTES];
    File::open(path)?.read_exact_at(&mut bytes, AT_BYTES)?;
    parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "there is no ext4 in it"))
}

fn parse(bytes: &[u8; LEN_BYTES]) -> Option<Superblock> {
    let byte = |at: usize| bytes.get(at).copied().map(u32::from);
    let half = |at: usize| Some(byte(at)? | byte(at + 1)? << 8);
    let word = |at: usize| Some(half(at)? | half(at + 2)? << 16);
    if half(0x38)? != MAGIC {
        return None;
    }
    let log_block_size = word(0x18).filter(|log| *log <= LOG_BLOCK_SIZE_MAX)?;
    let upper = if word(0x60)? & FEATURE_64BIT == 0 { 0 } else { word(0x150)? };
    let blocks = u64::from(upper) << 32 | u64::from(word(0x4)?);
    Some(Superblock {
        bytes: blocks.checked_mul(SMALLEST_BLOCK_BYTES << log_block_size)?,
        damaged: half(0x3A)? & STATE_ERRORS != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_damage_are_read_and_what_is_no_ext4_is_known() {
        let mut bytes = [0; LEN_BYTES];
        assert_eq!(parse(&bytes), None);
        bytes[0x38..0x3A].copy_from_slice(&[0x53, 0xEF]);
        bytes[0x4..0x8].copy_from_slice(&2_457_600_u32.to_le_bytes());
        bytes[0x18] = 2;
        bytes[0x3A] = 1;
        // Without 64-bit numbers the upper half means nothing.
        bytes[0x150] = 1;
        assert_eq!(parse(&bytes), Some(Superblock { bytes: 10_066_329_600, damaged: false }));
        bytes[0x60] = 0x80;
        bytes[0x3A] = 3;
        assert_eq!(parse(&bytes), Some(Superblock { bytes: 10_066_329_600 + (1 << 44), damaged: true }));
        bytes[0x18] = 7;
        assert_eq!(parse(&bytes), None);
    }
}
