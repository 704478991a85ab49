//! The smallest program there is: a static ELF file that ends at once, or that sleeps.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const HEADERS: usize = 64 + 56;
const ADDRESS: u64 = 0x40_0000;

#[cfg(target_arch = "x86_64")]
mod code {
    pub(super) const MACHINE: u16 = 62;
    /// exit_group(0)
    pub(super) const TRUE: &[u8] = &[0x31, 0xff, 0xb8, 231, 0, 0, 0, 0x0f, 0x05];
    /// pause(), for ever
    pub(super) const PAUSE: &[u8] = &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];
}
#[cfg(target_arch = "aarch64")]
mod code {
    pub(super) const MACHINE: u16 = 183;
    /// mov x0, 0; mov x8, 94; svc 0
    pub(super) const TRUE: &[u8] = &[0x00, 0x00, 0x80, 0xd2, 0xc8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4];
    /// ppoll(0, 0, 0, 0, 0), for ever
    pub(super) const PAUSE: &[u8] = &[
        0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x00, 0x80, 0xd2, 0x04,
        0x00, 0x80, 0xd2, 0x28, 0x09, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xf9, 0xff, 0xff, 0x17,
    ];
}

/// A root file system in a new directory: `/true`, `/pause`, and mount points.
///
/// # Errors
/// Where the directory cannot be made.
pub fn root(name: &str) -> io::Result<PathBuf> {
    let root = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    for directory in ["proc", "sys", "dev", "etc"] {
        fs::create_dir_all(root.join(directory))?;
    }
    write(&root.join("true"), code::TRUE)?;
    write(&root.join("pause"), code::PAUSE)?;
    Ok(root)
}

fn write(path: &Path, code: &[u8]) -> io::Result<()> {
    fs::write(path, elf(code))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// One loadable segment, headers included (elf(5)).
fn elf(code: &[u8]) -> Vec<u8> {
    let length = (HEADERS + code.len()) as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(2u16.to_le_bytes()); // EXEC
    file.extend(code::MACHINE.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    for word in [ADDRESS + HEADERS as u64, 64, 0] {
        file.extend(word.to_le_bytes()); // entry, program headers, no section headers
    }
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes()); // LOAD
    file.extend(5u32.to_le_bytes()); // read, execute
    for word in [0, ADDRESS, ADDRESS, length, length, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}
