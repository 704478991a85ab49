//! The vocabulary of a plan: each function adds the calls for one thing, with the words for them.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::filesystem::{Entry, Filesystem, RDONLY, Value};
use crate::foreign::Foreign;
use crate::mount::{Propagation, Traits};
use crate::outside::Outside;
use crate::plan::{Arg, Section, Step, Words};
use crate::wire;

pub(crate) const HERE: u64 = libc::AT_FDCWD as u64;
pub(crate) const EMPTY_PATH: u64 = 0x1000;
pub(crate) const RECURSIVE: u64 = 0x8000;
pub(crate) const CLOEXEC: u64 = libc::O_CLOEXEC as u64;
pub(crate) const O_PATH: u64 = libc::O_PATH as u64;
pub(crate) const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
pub(crate) const RESOLVE_NO_SYMLINKS: u64 = 0x04;
pub(crate) const RESOLVE_IN_ROOT: u64 = 0x10;

/// The slots that have a fixed meaning; binds and trees take those from `FREE` on. What the launcher keeps in those from `ROOT` on goes to
/// the child.
pub(crate) const TARGET: u8 = 2;
const PARENT: u8 = 3;
pub(crate) const CONTEXT: u8 = 4;
pub(crate) const MOUNT: u8 = 5;
pub(crate) const UMASK: u8 = 6;
pub(crate) const ROOT: u8 = wire::PASSED as u8;
const FREE: u8 = ROOT + 1;

/// Steps as they are collected.
#[derive(Default)]
pub(crate) struct Steps {
    pub list: Vec<Step>,
    next_slot: u8,
    /// Where mounts are made for a child whose user namespace is another than the launcher's.
    pub outside: Option<Outside>,
    /// File systems that the launcher has made, by their targets.
    pub made: BTreeMap<PathBuf, u8>,
    /// What it is to fetch out of other mount namespaces.
    pub foreign: Vec<Foreign>,
}

impl Steps {
    /// A slot of one's own.
    pub(crate) fn slot(&mut self) -> Result<u8> {
        self.next_slot =
            self.next_slot.checked_add(1).ok_or_else(|| Error::invalid("more than 230 mounts"))?;
        FREE.checked_add(self.next_slot)
            .filter(|&s| s < 250)
            .ok_or_else(|| Error::invalid("more than 230 mounts"))
    }

    pub(crate) fn call(
        &mut self,
        section: Section,
        words: impl Into<Words>,
        nr: i64,
        args: Vec<Arg>,
    ) -> &mut Step {
        self.operation(section, words, nr as u32, args)
    }

    pub(crate) fn operation(
        &mut self,
        section: Section,
        words: impl Into<Words>,
        call: u32,
        args: Vec<Arg>,
    ) -> &mut Step {
        let words = words.into();
        self.list.push(Step { section, words, call, args, save: None, retries: 0, ignore: [0; 4] });
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// Follows no link out of the root: a descriptor of `path` below it, in `TARGET`.
    pub(crate) fn open_in_root(&mut self, path: &Path, strict: bool, slot: u8, words: String) -> Result<()> {
        let mut resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
        if strict {
            resolve |= RESOLVE_NO_SYMLINKS;
        }
        let how = how(O_PATH | CLOEXEC, 0, resolve);
        let args = vec![Arg::Slot(ROOT), text(path)?, how, Arg::Number(24)];
        let step = self.call(Section::Child, words, libc::SYS_openat2, args);
        step.save = Some(slot);
        step.retries = 100;
        Ok(())
    }

    /// A mount point below the root: every missing directory is made, and the last part as a file if the source is one.
    pub(crate) fn make_mount_point(&mut self, target: &Path, strict: bool, directory: bool) -> Result<()> {
        let parts = parts(target)?;
        let shown = target.display();
        let mut so_far = PathBuf::new();
        for (n, part) in parts.iter().enumerate() {
            let words = format!("make the mount point {shown}");
            let parent = if n == 0 {
                ROOT
            } else {
                self.open_in_root(&so_far, strict, PARENT, words.clone())?;
                PARENT
            };
            if n + 1 < parts.len() || directory {
                let args = vec![Arg::Slot(parent), text(Path::new(part))?, Arg::Number(0o755)];
                self.call(Section::Child, words, libc::SYS_mkdirat, args).ignore =
                    [libc::EEXIST as u16, 0, 0, 0];
            } else {
                // Not to be written: a mount with such a file open cannot become read-only.
                let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDONLY | libc::O_CLOEXEC;
                let args = vec![
                    Arg::Slot(parent),
                    text(Path::new(part))?,
                    Arg::Number(flags as u64),
                    Arg::Number(0o644),
                ];
                self.call(Section::Child, words, libc::SYS_openat, args).ignore =
                    [libc::EEXIST as u16, 0, 0, 0];
            }
            so_far.push(part);
        }
        Ok(())
    }

    /// Opens a mount point below the root, into `TARGET`.
    pub(crate) fn mount_point(&mut self, target: &Path, strict: bool) -> Result<()> {
        parts(target)?;
        self.open_in_root(target, strict, TARGET, format!("open the mount point {}", target.display()))
    }

    /// Puts the mount in `slot` over `TARGET`.
    pub(crate) fn attach(&mut self, slot: u8, words: String) {
        let empty = || Arg::Text(CString::default());
        const BOTH_EMPTY: u64 = 0x4 | 0x40; // MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH
        let args = vec![Arg::Slot(slot), empty(), Arg::Slot(TARGET), empty(), Arg::Number(BOTH_EMPTY)];
        self.call(Section::Child, words, libc::SYS_move_mount, args);
    }

    /// A file system of our own over `TARGET`, by the one call that costs half of what fsopen(2) and its sisters do. The values are
    /// ours: no comma is in them.
    pub(crate) fn mount_there(&mut self, filesystem: &Filesystem, shown: &str) -> Result<()> {
        let kind = Path::new(&filesystem.kind);
        let words = format!("mount {} on {shown}", filesystem.kind);
        let mut options = OsString::new();
        for (key, value) in &filesystem.parameters {
            if !options.is_empty() {
                options.push(",");
            }
            options.push(key);
            if let Value::Text(value) = value {
                options.push("=");
                options.push(value);
            }
        }
        // The attributes of fsmount(2) have the numbers of mount(2)'s flags.
        let flags = Arg::Number(filesystem.attributes);
        let args =
            vec![text(kind)?, Arg::Text(c".".into()), text(kind)?, flags, c_string(&options).map(Arg::Text)?];
        self.call(
            Section::Child,
            format!("enter the mount point {shown}"),
            libc::SYS_fchdir,
            vec![Arg::Slot(TARGET)],
        );
        self.call(Section::Child, words, libc::SYS_mount, args);
        self.call(Section::Child, "return to the root", libc::SYS_fchdir, vec![Arg::Slot(ROOT)]);
        Ok(())
    }

    /// Puts the mount in `slot` over `/` and goes there. `/` itself still means the old root.
    pub(crate) fn enter(&mut self, slot: u8, what: &str) {
        self.enter_in(Section::Child, slot, what);
    }

    pub(crate) fn enter_in(&mut self, section: Section, slot: u8, what: &str) {
        let args = vec![
            Arg::Slot(slot),
            Arg::Text(CString::default()),
            Arg::Number(HERE),
            Arg::Text(c"/".into()),
            Arg::Number(4),
        ];
        self.call(section, format!("move the {what} over /"), libc::SYS_move_mount, args);
        self.call(section, format!("enter the {what}"), libc::SYS_fchdir, vec![Arg::Slot(slot)]);
    }

    /// A copy of a mount, or of the part below a directory, with its attributes set before anybody sees it: id-mapped, if a user
    /// namespace is named.
    pub(crate) fn tree(
        &mut self,
        section: Section,
        from: &Source,
        traits: Traits,
        slot: u8,
        shown: &str,
        mapped: Option<Arg>,
    ) -> Result<()> {
        let below = if traits.recursive { RECURSIVE } else { 0 };
        self.copy(section, from, below, slot, shown)?;
        let attributes = traits.attributes;
        let set = match (attributes, traits.propagation) {
            (0, Propagation::Private) => "private".to_owned(),
            (_, Propagation::Private) => names(attributes),
            (_, other) => format!("{} {other:?}", names(attributes)).to_lowercase(),
        };
        if let Some(namespace) = mapped {
            self.id_map(section, slot, namespace, traits, below, format!("id-map {shown}, {set}"));
        } else {
            // Private unless something else is said: what is mounted on a copy that shares with the caller's tree would appear there.
            self.set(section, slot, traits, format!("set {set} on {shown}"));
        }
        Ok(())
    }

    /// open_tree(2).
    pub(crate) fn copy(
        &mut self,
        section: Section,
        from: &Source,
        below: u64,
        slot: u8,
        shown: &str,
    ) -> Result<()> {
        let flags = 1 /* OPEN_TREE_CLONE */ | CLOEXEC | below;
        let (args, call) = match from {
            Source::Open(fd) => (
                vec![
                    Arg::Descriptor(fd.clone()),
                    Arg::Text(CString::default()),
                    Arg::Number(flags | EMPTY_PATH),
                ],
                wire::OP_TREE,
            ),
            Source::Path(path) => {
                (vec![Arg::Number(HERE), text(path)?, Arg::Number(flags)], libc::SYS_open_tree as u32)
            }
        };
        self.operation(section, format!("copy the mount at {shown}"), call, args).save = Some(slot);
        Ok(())
    }

    /// mount_setattr(2), MOUNT_ATTR_IDMAP.
    pub(crate) fn id_map(
        &mut self,
        section: Section,
        slot: u8,
        namespace: Arg,
        traits: Traits,
        below: u64,
        words: String,
    ) {
        let propagation = Arg::Number(traits.propagation_flag());
        let args =
            vec![Arg::Slot(slot), namespace, Arg::Number(traits.attributes), Arg::Number(below), propagation];
        self.operation(section, words, wire::OP_ID_MAP, args);
    }

    /// mount_setattr(2), Linux 5.12.
    pub(crate) fn set_attributes(
        &mut self,
        section: Section,
        slot: u8,
        set: u64,
        recursive: bool,
        words: String,
    ) {
        self.set(section, slot, Traits { recursive, ..Traits::of(set) }, words);
    }

    fn set(&mut self, section: Section, slot: u8, traits: Traits, words: String) {
        let mut attr = Vec::with_capacity(32);
        for word in [traits.attributes, 0, traits.propagation_flag(), 0] {
            attr.extend(word.to_ne_bytes());
        }
        let flags = EMPTY_PATH | if traits.recursive { RECURSIVE } else { 0 };
        let args = vec![
            Arg::Slot(slot),
            Arg::Text(CString::default()),
            Arg::Number(flags),
            Arg::Bytes(attr),
            Arg::Number(32),
        ];
        self.call(section, words, libc::SYS_mount_setattr, args);
    }

    /// netdevice(7): SIOCSIFFLAGS on the loopback device.
    pub(crate) fn loopback_up(&mut self) {
        const SIOCSIFFLAGS: u64 = 0x8914;
        let socket = [libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0].map(|n| Arg::Number(n as u64));
        let words = "bring the loopback device up";
        self.call(Section::Child, words, libc::SYS_socket, socket.into()).save = Some(CONTEXT);
        let mut request = vec![0; 40]; // struct ifreq: name, flags
        request[..2].copy_from_slice(b"lo");
        request[16..18].copy_from_slice(&((libc::IFF_UP | libc::IFF_RUNNING) as u16).to_ne_bytes());
        let args = vec![Arg::Slot(CONTEXT), Arg::Number(SIOCSIFFLAGS), Arg::Bytes(request)];
        self.call(Section::Child, words, libc::SYS_ioctl, args);
    }

    /// fsopen(2), its parameters, fsmount(2), and what is made in it; by the child.
    pub(crate) fn filesystem(&mut self, filesystem: &Filesystem, slot: u8, shown: &str) -> Result<()> {
        let section = Section::Child;
        self.open_filesystem(section, filesystem, shown)?;
        for (key, value) in &filesystem.parameters {
            let value = match value {
                Value::Flag => None,
                Value::Text(value) => Some(value.as_os_str()),
                Value::Layer(layer) => Some(layer.as_os_str()),
            };
            self.configure(section, filesystem, shown, key, value)?;
        }
        self.make_filesystem(section, filesystem, slot, shown, None)
    }

    pub(crate) fn open_filesystem(
        &mut self,
        section: Section,
        filesystem: &Filesystem,
        shown: &str,
    ) -> Result<()> {
        let kind = &filesystem.kind;
        let args = vec![text(Path::new(kind))?, Arg::Number(1 /* FSOPEN_CLOEXEC */)];
        self.call(section, format!("open {kind} for {shown}"), libc::SYS_fsopen, args).save = Some(CONTEXT);
        Ok(())
    }

    /// One parameter, of the file system that is being made.
    pub(crate) fn configure(
        &mut self,
        section: Section,
        filesystem: &Filesystem,
        shown: &str,
        key: &str,
        value: Option<&OsStr>,
    ) -> Result<()> {
        let words = format!("configure {} for {shown}: {key}", filesystem.kind);
        let (command, value, words) = match value {
            Some(value) => {
                (1, c_string(value).map(Arg::Text)?, format!("{words}={}", Path::new(value).display()))
            }
            None => (0, Arg::Number(0), words),
        };
        let args =
            vec![Arg::Slot(CONTEXT), Arg::Number(command), text(Path::new(key))?, value, Arg::Number(0)];
        self.call(section, words, libc::SYS_fsconfig, args);
        Ok(())
    }

    /// The rest, from its creation on. What is made in it belongs to `owner`.
    pub(crate) fn make_filesystem(
        &mut self,
        section: Section,
        filesystem: &Filesystem,
        slot: u8,
        shown: &str,
        owner: Option<[u32; 2]>,
    ) -> Result<()> {
        let kind = &filesystem.kind;
        let create = vec![
            Arg::Slot(CONTEXT),
            Arg::Number(6 /* FSCONFIG_CMD_CREATE */),
            Arg::Number(0),
            Arg::Number(0),
            Arg::Number(0),
        ];
        self.call(section, format!("create {kind} for {shown}"), libc::SYS_fsconfig, create);
        // What is to be filled first becomes read-only last.
        let late = if filesystem.entries.is_empty() { 0 } else { filesystem.attributes & RDONLY };
        let attributes = Arg::Number(filesystem.attributes & !late);
        let mount = vec![Arg::Slot(CONTEXT), Arg::Number(1 /* FSMOUNT_CLOEXEC */), attributes];
        self.call(section, format!("mount {kind} for {shown}"), libc::SYS_fsmount, mount).save = Some(slot);
        for entry in &filesystem.entries {
            let path = self.entry(section, entry, slot, shown)?;
            if let Some([uid, gid]) = owner {
                let words = format!("give {} in {shown} to {uid}:{gid}", path.display());
                let ids = [Arg::Number(uid.into()), Arg::Number(gid.into())];
                let flags = Arg::Number(libc::AT_SYMLINK_NOFOLLOW as u64);
                let args = [Arg::Slot(slot), text(path)?].into_iter().chain(ids).chain([flags]).collect();
                self.call(section, words, libc::SYS_fchownat, args);
            }
        }
        if late != 0 {
            self.set_attributes(section, slot, late, false, format!("set read-only on {shown}"));
        }
        Ok(())
    }

    fn entry<'e>(&mut self, section: Section, entry: &'e Entry, slot: u8, shown: &str) -> Result<&'e Path> {
        match entry {
            Entry::Directory { path, mode } => {
                let args = vec![Arg::Slot(slot), text(path)?, Arg::Number((*mode).into())];
                let words = format!("make directory {} in {shown}", path.display());
                self.call(section, words, libc::SYS_mkdirat, args);
                Ok(path)
            }
            Entry::Symlink { path, to } => {
                let words = format!("link {} to {} in {shown}", path.display(), to.display());
                self.call(section, words, libc::SYS_symlinkat, vec![text(to)?, Arg::Slot(slot), text(path)?]);
                Ok(path)
            }
            Entry::Device { path, major, minor } => {
                let words = format!("make device {} {major}:{minor} in {shown}", path.display());
                let device = Arg::Number(libc::makedev(*major, *minor));
                self.node(section, slot, path, libc::S_IFCHR | 0o666, device, words)?;
                Ok(path)
            }
            Entry::File { path } => {
                let words = format!("make file {} in {shown}", path.display());
                self.node(section, slot, path, libc::S_IFREG | 0o644, Arg::Number(0), words)?;
                Ok(path)
            }
        }
    }

    pub(crate) fn node(
        &mut self,
        section: Section,
        slot: u8,
        path: &Path,
        mode: u32,
        device: Arg,
        words: String,
    ) -> Result<()> {
        let args = vec![Arg::Slot(slot), text(path)?, Arg::Number(mode.into()), device];
        self.call(section, words, libc::SYS_mknodat, args);
        Ok(())
    }
}

/// Where a tree to copy is: open, or to be looked up by the child in its copy of the caller's mounts.
pub(crate) enum Source {
    Open(Arc<OwnedFd>),
    Path(PathBuf),
}

/// The parts of a target path; it must be absolute, without `..`, and not `/` itself.
fn parts(target: &Path) -> Result<Vec<&OsStr>> {
    let bad = |why: &str| Error::invalid(format!("mount target {}: {why}", target.display()));
    let mut parts = Vec::new();
    if !target.is_absolute() {
        return Err(bad("not an absolute path"));
    }
    for component in target.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => return Err(bad("`..` leads elsewhere")),
            _ => {}
        }
    }
    if parts.is_empty() { Err(bad("the root is set by `root`")) } else { Ok(parts) }
}

pub(crate) fn how(flags: u64, mode: u64, resolve: u64) -> Arg {
    Arg::Bytes([flags, mode, resolve].iter().flat_map(|w| w.to_ne_bytes()).collect())
}

/// A path or other text of the caller's; a NUL in it is an error that names it.
pub(crate) fn text(value: &Path) -> Result<Arg> {
    c_string(value.as_os_str()).map(Arg::Text)
}

pub(crate) fn c_string(value: &OsStr) -> Result<CString> {
    CString::new(value.as_bytes()).map_err(|_| Error::invalid(format!("a NUL byte in {value:?}")))
}

fn names(attributes: u64) -> String {
    let all = [(1, "read-only"), (2, "nosuid"), (4, "nodev"), (8, "noexec")];
    all.iter().filter(|(bit, _)| attributes & bit != 0).map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}
