//! Mounts that the launcher makes, with the caller's rights, for a child whose user namespace is another: id-mapped copies, and file
//! systems that a user namespace may not mount, or not as well.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use crate::command::Scratch;
use crate::error::{Error, Result};
use crate::filesystem::{Filesystem, Value};
use crate::mount::Traits;
use crate::plan::{Arg, Section};
use crate::steps::{CLOEXEC, CONTEXT, HERE, O_PATH, Source, Steps, text};
use crate::wire::CHILD_SLOT;

/// Where such mounts are made, and for whom.
pub(crate) struct Outside {
    /// After the clone for a new user namespace, before it for one that is there.
    pub section: Section,
    /// `None`: the child's new one.
    pub namespace: Option<Arc<OwnedFd>>,
    /// What root inside is outside, where that is known.
    pub root: Option<[u32; 2]>,
    /// Whether an overlay takes detached mounts as layers (Linux 6.15).
    pub detached: bool,
    /// The file system for upper layers, made here.
    scratch: Option<u8>,
}

const FROM_CHILD: u8 = 8;
pub(crate) const OWN_MOUNTS: u8 = 9;
const CHILD_MOUNTS: u8 = 10;
/// The file system for upper layers.
pub(crate) const HELD: u8 = 11;
const FSCONFIG_SET_FD: u64 = 5;
/// The longest value that fsconfig(2) takes.
const LONGEST: usize = 255;

impl Outside {
    pub(crate) fn new(namespace: Option<Arc<OwnedFd>>, root: Option<[u32; 2]>) -> Self {
        let section = if namespace.is_some() { Section::Prepare } else { Section::Maps };
        Self { section, namespace, root, detached: release() >= (6, 15), scratch: None }
    }

    /// The user namespace, as an argument.
    pub(crate) fn user(&self) -> Arg {
        self.namespace.as_ref().map_or(Arg::Slot(FROM_CHILD), |fd| Arg::Descriptor(fd.clone()))
    }
}

/// The kernel's version.
pub(crate) fn release() -> (u32, u32) {
    let uname = rustix::system::uname();
    let text = uname.release().to_string_lossy().into_owned();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

impl Steps {
    /// Before anything is made there: the child's user namespace, by a descriptor.
    pub(crate) fn begin_outside(&mut self) {
        if self.outside.as_ref().is_some_and(|outside| outside.namespace.is_none()) {
            self.open_of_child("ns/user", FROM_CHILD, "open the child's user namespace");
        }
    }

    fn open_of_child(&mut self, name: &str, slot: u8, words: &'static str) {
        let name = Arg::Bytes([name.as_bytes(), b"\0"].concat());
        let args = vec![Arg::Slot(CHILD_SLOT), name, Arg::Number(CLOEXEC)];
        self.call(Section::Maps, words, libc::SYS_openat, args).save = Some(slot);
    }

    /// File systems of the launcher's, each into its slot: overlays, and the scratch file system for their upper layers.
    pub(crate) fn outside_filesystems(
        &mut self,
        scratch: Option<&Scratch>,
        filesystems: &[(Filesystem, u8, String)],
    ) -> Result<()> {
        let Some(outside) = &self.outside else { return Ok(()) };
        let (section, user, detached) = (outside.section, outside.user(), outside.detached);
        let mut layers = Vec::new();
        for (filesystem, _, shown) in filesystems {
            for layer in filesystem.layers() {
                let slot = self.slot()?;
                let name = layer.display().to_string();
                let absolute =
                    std::path::absolute(layer).map_err(|e| Error::io(format!("layer {name}"), &e))?;
                self.copy(section, &Source::Path(absolute), 0, slot, &name)?;
                self.id_map(
                    section,
                    slot,
                    user.clone(),
                    Traits::of(0),
                    0,
                    format!("id-map {name} for {shown}"),
                );
                layers.push((slot, layers.len()));
            }
        }
        if let Some(scratch) = scratch {
            match scratch {
                Scratch::Filesystem(filesystem) => {
                    self.outside_filesystem(filesystem, HELD, "the scratch file system", &mut [].iter())?;
                }
                Scratch::Mount(mount) => self.scratch_mount(section, mount)?,
            }
            if let Some(outside) = &mut self.outside {
                outside.scratch = Some(HELD);
            }
        }
        let attached = !detached && !layers.is_empty();
        if attached {
            self.attach_layers(scratch.is_some(), &layers)?;
        }
        let mut layers = layers.iter();
        for (filesystem, slot, shown) in filesystems {
            self.outside_filesystem(filesystem, *slot, shown, &mut layers)?;
        }
        if attached {
            let dot = vec![Arg::Text(c".".into()), Arg::Number(libc::MNT_DETACH as u64)];
            self.call(section, "unmount the layers", libc::SYS_umount2, dot);
            let back = vec![Arg::Slot(OWN_MOUNTS), Arg::Number(libc::CLONE_NEWNS as u64)];
            self.call(section, "return to the mount namespace of the caller", libc::SYS_setns, back);
        }
        Ok(())
    }

    /// The mount for upper layers, in its slot.
    pub(crate) fn scratch_mount(&mut self, section: Section, mount: &Arc<OwnedFd>) -> Result<()> {
        self.copy(section, &Source::Open(mount.clone()), 0, HELD, "the scratch file system")
    }

    /// Below Linux 6.15 layers must be attached somewhere while the overlay is made: in the child's mount namespace, which nobody
    /// else sees, or one of the launcher's while there is no child, on a file system over its `/`. By names, since one value of fsconfig(2) is short.
    fn attach_layers(&mut self, scratch: bool, layers: &[(u8, usize)]) -> Result<()> {
        let section = self.outside.as_ref().map_or(Section::Maps, |outside| outside.section);
        let own = vec![Arg::Number(HERE), Arg::Text(c"/proc/self/ns/mnt".into()), Arg::Number(CLOEXEC)];
        self.call(section, "open the mount namespace of the caller", libc::SYS_openat, own).save =
            Some(OWN_MOUNTS);
        let kind = Arg::Number(libc::CLONE_NEWNS as u64);
        if section == Section::Maps {
            self.open_of_child("ns/mnt", CHILD_MOUNTS, "open the child's mount namespace");
            let enter = vec![Arg::Slot(CHILD_MOUNTS), kind];
            self.call(section, "enter the child's mount namespace", libc::SYS_setns, enter);
        } else {
            self.call(section, "make a mount namespace for the layers", libc::SYS_unshare, vec![kind]);
        }
        // As for the child: what is mounted here must not appear outside.
        let private = [Arg::Number(0), Arg::Text(c"/".into()), Arg::Number(0)];
        let private =
            private.into_iter().chain([Arg::Number(libc::MS_REC | libc::MS_PRIVATE), Arg::Number(0)]);
        self.call(section, "make every mount private", libc::SYS_mount, private.collect());
        if !scratch {
            let holder = Filesystem::tmpfs().set("size", "1m").set("mode", "700");
            self.outside_filesystem(&holder, HELD, "the layers", &mut [].iter())?;
        }
        self.enter_in(section, HELD, "place for the layers");
        for (slot, n) in layers {
            let name = Path::new(&n.to_string()).to_owned();
            let words = format!("attach layer {n}");
            let make = vec![Arg::Slot(HELD), text(&name)?, Arg::Number(0o700)];
            self.call(section, words.clone(), libc::SYS_mkdirat, make);
            let from = [Arg::Slot(*slot), Arg::Text(c"".into())];
            let to = [Arg::Slot(HELD), text(&name)?, Arg::Number(4 /* MOVE_MOUNT_F_EMPTY_PATH */)];
            self.call(section, words, libc::SYS_move_mount, from.into_iter().chain(to).collect());
        }
        Ok(())
    }

    /// As [`Steps::filesystem`], for a file system of the launcher's, whose layers lie in the slots that `layers` yields.
    pub(crate) fn outside_filesystem(
        &mut self,
        filesystem: &Filesystem,
        slot: u8,
        shown: &str,
        layers: &mut std::slice::Iter<'_, (u8, usize)>,
    ) -> Result<()> {
        let Some(outside) = &self.outside else { return self.filesystem(filesystem, slot, shown) };
        let (section, root, detached, scratch) =
            (outside.section, outside.root, outside.detached, outside.scratch);
        self.open_filesystem(section, filesystem, shown)?;
        if filesystem.kind == "tmpfs"
            && let Some(ids) = root
        {
            for (key, id) in ["uid", "gid"].into_iter().zip(ids) {
                self.configure(section, filesystem, shown, key, Some(id.to_string().as_ref()))?;
            }
        }
        // As they are attached: those of all file systems have one sequence of names.
        let mut names = Vec::new();
        for (key, value) in &filesystem.parameters {
            match value {
                Value::Layer(path) => {
                    let Some(layer) = layers.next() else { continue };
                    let (slot, name) = layer;
                    if detached {
                        self.configure_by(section, key, Arg::Slot(*slot), shown, path)?;
                    } else {
                        names.push(name.to_string());
                    }
                }
                Value::Text(value) if detached && is_inside(scratch, key, Path::new(value)) => {
                    let path = Path::new(value);
                    let open = vec![Arg::Slot(HELD), text(path)?, Arg::Number(O_PATH | CLOEXEC)];
                    let words = format!("open {} for {shown}", path.display());
                    self.call(section, words, libc::SYS_openat, open).save = Some(FILE);
                    self.configure_by(section, key, Arg::Slot(FILE), shown, path)?;
                }
                Value::Text(value) => self.configure(section, filesystem, shown, key, Some(value))?,
                Value::Flag => self.configure(section, filesystem, shown, key, None)?,
            }
        }
        if !names.is_empty() {
            let joined = names.join(":");
            if joined.len() > LONGEST {
                let why = format!("{} id-mapped layers want Linux 6.15", names.len());
                return Err(Error::os(why, libc::EOPNOTSUPP));
            }
            self.configure(section, filesystem, shown, "lowerdir", Some(joined.as_ref()))?;
        }
        self.make_filesystem(section, filesystem, slot, shown, root)
    }

    /// FSCONFIG_SET_FD: since Linux 6.13 overlays take them.
    fn configure_by(&mut self, section: Section, key: &str, fd: Arg, shown: &str, path: &Path) -> Result<()> {
        let words = format!("configure overlay for {shown}: {key}={}", path.display());
        let args =
            vec![Arg::Slot(CONTEXT), Arg::Number(FSCONFIG_SET_FD), text(Path::new(key))?, Arg::Number(0), fd];
        self.call(section, words, libc::SYS_fsconfig, args);
        Ok(())
    }
}

const FILE: u8 = crate::identity::FILE;

/// Whether a path is one in the scratch file system, which is attached nowhere.
fn is_inside(scratch: Option<u8>, key: &str, path: &Path) -> bool {
    scratch.is_some() && matches!(key, "upperdir" | "workdir") && path.is_relative()
}
