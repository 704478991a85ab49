//! An empty ext4, as little as the kernel and e2fsck(8) take for one: Documentation/filesystems/ext4. No journal: it goes with whoever it
//! is made for. What is zero need not be written, and a new file is: a terabyte takes some hundred kilobytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BLOCK: u64 = 4096;
/// Blocks of a group: as many as a bitmap of one block has bits.
const GROUP: u64 = 8 * BLOCK;
/// Blocks for one inode, which has this size.
const BLOCKS_OF_INODE: u64 = 2;
const INODE: u64 = 256;
const FEWEST: u64 = 512;
/// Those that have meanings of their own; the root is the second.
const RESERVED: u64 = 10;
const DESCRIPTOR: u64 = 32;
/// All without that matters: 16 TiB would want descriptors of 64 bytes.
const LARGEST: u64 = 8 << 40;
/// Metadata of a first group, and something to write.
const SMALLEST: u64 = 1 << 20;

/// `EXT4_BG_INODE_UNINIT`, `EXT4_BG_BLOCK_UNINIT`, `EXT4_BG_INODE_ZEROED`.
const NO_INODES: u16 = 1;
const NO_BITMAP: u16 = 2;
const ZEROED: u16 = 4;

/// Where everything is.
struct Layout {
    blocks: u64,
    groups: u64,
    /// Blocks of group descriptors, which are in the first group alone.
    table: u64,
    /// Inodes of a group.
    inodes: u64,
    uuid: [u8; 16],
}

/// Makes the file one, which is empty and as long as that.
pub(crate) fn make(file: &File, size: u64, uuid: [u8; 16]) -> io::Result<()> {
    if !(SMALLEST..=LARGEST).contains(&size) {
        let what = format!("a file system of {size} bytes: wanted {SMALLEST} to {LARGEST}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let layout = Layout::of(size, uuid);
    file.set_len(layout.blocks * BLOCK)?;
    let at = |block: u64| block * BLOCK;
    file.write_all_at(&layout.descriptors(), at(1))?;
    for group in [0, layout.groups - 1] {
        file.write_all_at(&layout.block_bitmap(group), at(layout.metadata(group)))?;
    }
    file.write_all_at(&bitmap(|bit| bit < RESERVED || bit >= layout.inodes), at(layout.metadata(0) + 1))?;
    let root = layout.metadata(0) + 2;
    file.write_all_at(&layout.root_inode(), at(root) + INODE)?;
    file.write_all_at(&root_directory(), at(layout.root_block()))?;
    file.write_all_at(&layout.superblock(), 1024)
}

impl Layout {
    fn of(size: u64, uuid: [u8; 16]) -> Self {
        let mut blocks = size / BLOCK;
        // A last group that has no room for more than its own metadata is none.
        let rest = blocks % GROUP;
        // Whole blocks of them.
        let inodes = (GROUP.min(blocks) / BLOCKS_OF_INODE).max(FEWEST).next_multiple_of(BLOCK / INODE);
        if blocks > GROUP && rest > 0 && rest < inodes * INODE / BLOCK + 64 {
            blocks -= rest;
        }
        let groups = blocks.div_ceil(GROUP);
        Self { blocks, groups, table: (groups * DESCRIPTOR).div_ceil(BLOCK), inodes, uuid }
    }

    /// The first block of a group's bitmaps and inodes.
    fn metadata(&self, group: u64) -> u64 {
        if group == 0 { 1 + self.table } else { group * GROUP }
    }

    /// The first block behind them.
    fn data(&self, group: u64) -> u64 {
        self.metadata(group) + 2 + self.inodes * INODE / BLOCK
    }

    fn root_block(&self) -> u64 {
        self.data(0)
    }

    /// How many blocks of a group are in use.
    fn used(&self, group: u64) -> u64 {
        self.data(group) - group * GROUP + u64::from(group == 0)
    }

    fn length(&self, group: u64) -> u64 {
        GROUP.min(self.blocks - group * GROUP)
    }

    fn block_bitmap(&self, group: u64) -> Vec<u8> {
        bitmap(|bit| bit < self.used(group) || bit >= self.length(group))
    }

    fn free(&self) -> u64 {
        (0..self.groups).map(|group| self.length(group) - self.used(group)).sum()
    }

    fn descriptors(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for group in 0..self.groups {
            let mut one = Fields(vec![0; 32]);
            let first = self.metadata(group);
            let used = if group == 0 { RESERVED } else { 0 };
            // The kernel makes bitmaps of groups in which nothing is; e2fsck wants that of the last one.
            let flags = match group {
                0 => ZEROED,
                last if last == self.groups - 1 => NO_INODES | ZEROED,
                _ => NO_INODES | NO_BITMAP | ZEROED,
            };
            one.u32(0x00, first).u32(0x04, first + 1).u32(0x08, first + 2);
            one.u16(0x0c, self.length(group) - self.used(group)).u16(0x0e, self.inodes - used);
            one.u16(0x10, u64::from(group == 0)).u16(0x12, flags.into()).u16(0x1c, self.inodes - used);
            let number = u32::try_from(group).unwrap_or(u32::MAX).to_le_bytes();
            let body = one.0.get(..0x1e).unwrap_or_default();
            let sum = [&self.uuid[..], &number[..], body].concat().iter().fold(0xffff, crc16);
            one.u16(0x1e, sum.into());
            all.extend(one.0);
        }
        all
    }

    fn superblock(&self) -> Vec<u8> {
        let mut sb = Fields(vec![0; 1024]);
        sb.u32(0x00, self.groups * self.inodes).u32(0x04, self.blocks).u32(0x0c, self.free());
        sb.u32(0x10, self.groups * self.inodes - RESERVED);
        sb.u32(0x18, 2).u32(0x1c, 2); // blocks of 4 KiB, and clusters
        sb.u32(0x20, GROUP).u32(0x24, GROUP).u32(0x28, self.inodes);
        sb.u16(0x36, 0xffff).u16(0x38, 0xef53).u16(0x3a, 1); // never checked by count; magic; clean
        sb.u16(0x3c, 2); // after an error, as of a full disk below it, nothing more is written
        sb.u32(0x4c, 1).u32(0x54, RESERVED + 1).u16(0x58, INODE);
        sb.u32(0x5c, 0x8 | 0x20 | 0x200); // ext_attr, dir_index, sparse_super2
        sb.u32(0x60, 0x2 | 0x40); // filetype, extent
        sb.u32(0x64, 0x2 | 0x8 | 0x10 | 0x20 | 0x40); // large_file, huge_file, uninit_bg, dir_nlink, extra_isize
        sb.bytes(0x68, &self.uuid);
        sb.bytes(0xec, &self.uuid); // the seed of directories' hashes
        sb.bytes(0xfc, &[1]); // half MD4
        sb.u32(0x100, 0x4 | 0x8); // user_xattr, acl
        sb.u16(0x15c, 32).u16(0x15e, 32).u32(0x160, 0x2); // extra room of inodes; hashes of unsigned letters
        sb.0
    }

    fn root_inode(&self) -> Vec<u8> {
        let mut inode = Fields(vec![0; 256]);
        inode.u16(0x00, 0o040_755).u32(0x04, BLOCK).u16(0x1a, 2).u32(0x1c, BLOCK / 512);
        inode.u32(0x20, 0x8_0000); // extents
        inode.u16(0x28, 0xf30a).u16(0x2a, 1).u16(0x2c, 4); // their header: one of four
        inode.u16(0x38, 1).u32(0x3c, self.root_block()); // one block from block 0 on
        inode.u16(0x80, 32);
        inode.0
    }
}

fn root_directory() -> Vec<u8> {
    let mut block = Fields(vec![0; BLOCK as usize]);
    block.u32(0, 2).u16(4, 12).bytes(6, &[1, 2]).bytes(8, b".");
    block.u32(12, 2).u16(16, BLOCK - 12).bytes(18, &[2, 2]).bytes(20, b"..");
    block.0
}

/// A block of bits.
fn bitmap(is_set: impl Fn(u64) -> bool) -> Vec<u8> {
    let byte = |n: u64| (0..8).fold(0, |byte, bit| byte | (u8::from(is_set(n * 8 + bit)) << bit));
    (0..BLOCK).map(byte).collect()
}

/// CRC-16 of the polynomial 0x8005, lowest bit first.
fn crc16(sum: u16, byte: &u8) -> u16 {
    (0..8).fold(sum ^ u16::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xa001 } else { 0 })
}

/// Numbers at their offsets, in the order of bytes that ext4 has everywhere.
struct Fields(Vec<u8>);

impl Fields {
    fn bytes(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self
    }

    fn u16(&mut self, at: usize, value: u64) -> &mut Self {
        self.bytes(at, &u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes())
    }

    fn u32(&mut self, at: usize, value: u64) -> &mut Self {
        self.bytes(at, &u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes())
    }
}
