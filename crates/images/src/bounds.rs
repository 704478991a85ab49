//! How much an archive may be.

/// What an archive may have at most; beyond it, unpacking ends with [`Refused`](crate::ErrorKind::Refused).
///
/// ```
/// let bounds = isolate_images::Bounds::new().bytes(1 << 30).entries(10_000);
/// # let _ = bounds;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a description does nothing by itself"]
pub struct Bounds {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    pub(crate) path: usize,
    pub(crate) ratio: u64,
}

/// No ratio is looked at below: a file of zeros is none too many.
const SMALL: u64 = 16 << 20;
/// An entry whose name is no other's takes some ten bytes, compressed as well as can be; the same one over and over takes two.
const BYTES_OF_ENTRY: u64 = 8;
/// As many may be of any size.
const FEW_ENTRIES: u64 = 16_384;

impl Bounds {
    /// 64 GiB of files, 4,000,000 entries, paths of 4,096 bytes, and 256 times as much as is compressed.
    pub const fn new() -> Self {
        Self { bytes: 64 << 30, entries: 4_000_000, path: 4096, ratio: 256 }
    }

    /// How many bytes all its files have together, holes included.
    pub const fn bytes(mut self, most: u64) -> Self {
        self.bytes = most;
        self
    }

    /// How many files, directories, links and deletions there are. Whatever is said here, they are no more than one for eight compressed
    /// bytes, once there are more than 16,384.
    pub const fn entries(mut self, most: u64) -> Self {
        self.entries = most;
        self
    }

    /// How many bytes a path has, and the target of a link. Default: 4,096, the kernel's own bound (`PATH_MAX`, counted with a NUL).
    pub const fn path(mut self, most: usize) -> Self {
        self.path = most;
        self
    }

    /// How many bytes may come of one compressed byte, once there are more than 16 MiB of them.
    pub const fn ratio(mut self, most: u64) -> Self {
        self.ratio = most;
        self
    }

    /// Whether so many entries cannot be of different files.
    pub(crate) const fn are_too_many(entries: u64, read: u64) -> bool {
        entries > FEW_ENTRIES && entries > read / BYTES_OF_ENTRY
    }

    /// Whether as many bytes may not come of so many.
    pub(crate) const fn is_bomb(&self, read: u64, made: u64) -> bool {
        made > SMALL && made > read.saturating_mul(self.ratio)
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::new()
    }
}
