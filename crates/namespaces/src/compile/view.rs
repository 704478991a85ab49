//! What is set once all mounts are made: kernel parameters, hidden and read-only paths, the terminal.

use std::path::Path;

use super::program::TERMINAL;
use crate::command::Command;
use crate::error::{Error, Result};
use crate::filesystem::Filesystem;
use crate::identity::FILE;
use crate::plan::{Arg, Section};
use crate::steps::{
    CLOEXEC, EMPTY_PATH, HERE, O_PATH, RECURSIVE, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS, ROOT, Steps, TARGET, how, text,
};
use crate::wire::{OP_DEVICE, OP_MASK, OP_TERMINAL};

const CHILD: Section = Section::Child;
const NULL: u8 = 14;
const NOTHING: u8 = 15;
/// NUL device: major and minor number.
const NULL_DEVICE: [u64; 2] = [1, 3];

pub(super) fn steps(command: &Command, steps: &mut Steps) -> Result<()> {
    for (name, value) in &command.view.sysctls {
        sysctl(name, value, steps)?;
    }
    masks(command, steps)?;
    for path in &command.view.read_only {
        read_only(path, steps)?;
    }
    for path in &command.view.read_only_mounts {
        let words = format!("set read-only on the mount {}", path.display());
        steps.call(CHILD, words, libc::SYS_mount_setattr, read_only_flag(path, 0)?);
    }
    if command.terminal.is_some() {
        terminal(command, steps)?;
    }
    Ok(())
}

/// Below the child's own /proc, through no link: what a name leads to is what is written.
fn sysctl(name: &str, value: &str, steps: &mut Steps) -> Result<()> {
    let bad = |why: &str| Error::invalid(format!("kernel parameter {name:?}: {why}"));
    // As sysctl(8): a dot separates, and `/` is a dot in a name.
    let path: String = name
        .chars()
        .map(|c| {
            if c == '.' {
                '/'
            } else if c == '/' {
                '.'
            } else {
                c
            }
        })
        .collect();
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(bad("an empty part, or one that leads elsewhere"));
    }
    let words = format!("set {name} to {value}");
    let flags = libc::O_WRONLY as u64 | CLOEXEC;
    let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    let path = Path::new("/proc/sys").join(path);
    let open = vec![Arg::Slot(ROOT), text(&path)?, how(flags, 0, resolve), Arg::Number(24)];
    steps.call(CHILD, words.clone(), libc::SYS_openat2, open).save = Some(FILE);
    let length = Arg::Number(value.len() as u64);
    let write = vec![Arg::Slot(FILE), Arg::Bytes(value.as_bytes().to_vec()), length];
    steps.call(CHILD, words, libc::SYS_write, write);
    Ok(())
}

fn masks(command: &Command, steps: &mut Steps) -> Result<()> {
    if command.view.masked.is_empty() {
        return Ok(());
    }
    let null = vec![
        Arg::Number(HERE),
        Arg::Text(c"/dev/null".into()),
        Arg::Number(O_PATH | CLOEXEC | libc::O_NOFOLLOW as u64),
    ];
    steps.call(CHILD, "open the null device", libc::SYS_openat, null).save = Some(NULL);
    let [major, minor] = NULL_DEVICE.map(Arg::Number);
    steps.operation(CHILD, "see that it is the null device", OP_DEVICE, vec![Arg::Slot(NULL), major, minor]);
    let nothing = Filesystem::tmpfs()
        .set("size", "4k")
        .set("nr_inodes", "2")
        .set("mode", "555")
        .read_only()
        .nosuid()
        .nodev()
        .noexec();
    steps.filesystem(&nothing, NOTHING, "hidden directories")?;
    for path in &command.view.masked {
        let args = vec![absolute(path)?, Arg::Slot(NULL), Arg::Slot(NOTHING)];
        steps.operation(CHILD, format!("hide {}", path.display()), OP_MASK, args);
    }
    Ok(())
}

fn read_only(path: &Path, steps: &mut Steps) -> Result<()> {
    const GONE: [u16; 4] = [libc::ENOENT as u16, libc::ENOTDIR as u16, 0, 0];
    let shown = path.display();
    let flags = Arg::Number(libc::MS_BIND | libc::MS_REC);
    let again = vec![absolute(path)?, absolute(path)?, Arg::Number(0), flags, Arg::Number(0)];
    steps.call(CHILD, format!("bind {shown} to itself"), libc::SYS_mount, again).ignore = GONE;
    let set = read_only_flag(path, RECURSIVE)?;
    steps.call(CHILD, format!("set read-only on {shown}"), libc::SYS_mount_setattr, set).ignore = GONE;
    Ok(())
}

fn read_only_flag(path: &Path, flags: u64) -> Result<Vec<Arg>> {
    let attr = [1u64 /* MOUNT_ATTR_RDONLY */, 0, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
    Ok(vec![Arg::Number(HERE), absolute(path)?, Arg::Number(flags), Arg::Bytes(attr), Arg::Number(32)])
}

fn absolute(path: &Path) -> Result<Arg> {
    if path.is_absolute() {
        return text(path);
    }
    Err(Error::invalid(format!("path {}: not an absolute one", path.display())))
}

/// From the devpts at /dev/pts, and no other: an image could have a device of its multiplexer's number elsewhere.
fn terminal(command: &Command, steps: &mut Steps) -> Result<()> {
    let Some(size) = command.terminal else { return Ok(()) };
    let flags = (libc::O_RDWR | libc::O_NOCTTY) as u64 | CLOEXEC;
    let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    let path = Path::new("/dev/pts/ptmx");
    let open = vec![Arg::Slot(ROOT), text(path)?, how(flags, 0, resolve), Arg::Number(24)];
    steps.call(CHILD, "open a terminal on /dev/pts", libc::SYS_openat2, open).save = Some(FILE);
    steps
        .operation(CHILD, "unlock the terminal and send it to the caller", OP_TERMINAL, vec![Arg::Slot(FILE)])
        .save = Some(TERMINAL);
    let window = [size.rows, size.columns, 0, 0].iter().flat_map(|n| n.to_ne_bytes()).collect();
    let args = vec![Arg::Slot(TERMINAL), Arg::Number(libc::TIOCSWINSZ), Arg::Bytes(window)];
    steps.call(CHILD, "set the size of the terminal", libc::SYS_ioctl, args);
    if let Some(user) = command.rights.user.filter(|user| *user != 0) {
        let args = vec![Arg::Slot(TERMINAL), Arg::Number(user.into()), Arg::Number(u32::MAX.into())];
        steps.call(CHILD, format!("give the terminal to user {user}"), libc::SYS_fchown, args);
    }
    if command.view.console {
        let words = "make the terminal the console";
        steps.open_in_root(Path::new("/dev/console"), true, TARGET, words.into())?;
        let flags = 1 /* OPEN_TREE_CLONE */ | CLOEXEC | EMPTY_PATH;
        let copy = vec![Arg::Slot(TERMINAL), Arg::Text(c"".into()), Arg::Number(flags)];
        steps.call(CHILD, words, libc::SYS_open_tree, copy).save = Some(FILE);
        steps.attach(FILE, words.into());
    }
    Ok(())
}
