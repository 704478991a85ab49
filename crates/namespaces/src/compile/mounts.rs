//! A child's mounts.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::command::{Command, Scratch};
use crate::error::{Error, Result};
use crate::filesystem::{Entry, Filesystem, RDONLY, Value};
use crate::foreign::Foreign;
use crate::identity::{self, Maps};
use crate::mount::{Late, Mount, Traits, What};
use crate::outside::HELD;
use crate::plan::{Arg, Section};
use crate::steps::{MOUNT, ROOT, Source, Steps, TARGET, UMASK};
use crate::wire::OP_DEVICE;

/// How a mount is made.
struct Way<'a> {
    /// Below a root of one's own,
    rooted: bool,
    /// where mount points can be made,
    makes: bool,
    /// in a new user namespace,
    user: bool,
    /// with these ids.
    maps: Option<&'a Maps>,
    /// The child has a scratch file system, where relative names lead.
    scratch: bool,
}

/// Those that the launcher makes, for a child in another user namespace.
pub(super) fn outside(command: &Command, steps: &mut Steps) -> Result<()> {
    if steps.outside.is_none() {
        return Ok(());
    }
    if is_early(steps) {
        clear_umask(steps);
    }
    steps.begin_outside();
    let mut all = Vec::new();
    if let Some(What::Filesystem(filesystem)) = command.root.as_ref().map(|root| &root.what)
        && filesystem.outside
    {
        let mut writable = filesystem.clone();
        writable.attributes &= !RDONLY;
        all.push((writable, ROOT, "the root".to_owned()));
    }
    for mount in &command.mounts {
        if let What::Filesystem(filesystem) = &mount.what
            && filesystem.outside
        {
            let slot = steps.slot()?;
            steps.made.insert(mount.target.clone(), slot);
            all.push((filesystem.clone(), slot, mount.target.display().to_string()));
        }
    }
    steps.outside_filesystems(command.scratch.as_ref().filter(|scratch| is_outside(scratch)), &all)
}

/// Whether the launcher makes its mounts before the clone, and before all else.
fn is_early(steps: &Steps) -> bool {
    steps.outside.as_ref().is_some_and(|outside| outside.section == Section::Prepare)
}

/// By the launcher, which makes mounts too; the child inherits it.
fn clear_umask(steps: &mut Steps) {
    steps.call(Section::Prepare, "clear the umask", libc::SYS_umask, vec![Arg::Number(0)]).save = Some(UMASK);
}

/// A descriptor of the `/` that is there.
pub(super) fn open_root(steps: &mut Steps) {
    let flags = Arg::Number((libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64);
    let args = vec![Arg::Number(libc::AT_FDCWD as u64), Arg::Text(c"/".into()), flags];
    steps.call(Section::Child, "open /", libc::SYS_openat, args).save = Some(ROOT);
}

/// The child's mounts, from its own copy of the caller's to its root.
pub(super) fn steps(command: &Command, maps: Option<&Maps>, user: bool, steps: &mut Steps) -> Result<()> {
    let child = Section::Child;
    let private = vec![
        Arg::Number(0),
        Arg::Text(c"/".into()),
        Arg::Number(0),
        Arg::Number(libc::MS_REC | libc::MS_PRIVATE),
        Arg::Number(0),
    ];
    steps.call(child, "make every mount private", libc::SYS_mount, private);
    if !is_early(steps) {
        clear_umask(steps);
    }
    let outside = steps.outside.is_some();
    let scratch = command.scratch.as_ref().filter(|scratch| !(is_outside(scratch) && outside));
    if let Some(scratch) = scratch {
        match scratch {
            Scratch::Filesystem(filesystem) => {
                steps.filesystem(filesystem, HELD, "the scratch file system")?
            }
            Scratch::Mount(mount) => steps.scratch_mount(Section::Prepare, mount)?,
        }
        steps.enter(HELD, "scratch file system");
    }
    let makes = root(command, user, steps)?;
    let mut made = BTreeSet::new();
    for mount in &command.mounts {
        let makes = makes && !made.contains(&mount.target);
        let way = Way { rooted: command.root.is_some(), makes, user, maps, scratch: scratch.is_some() };
        one_mount(mount, &way, steps)?;
        made.retain(|path: &PathBuf| !path.starts_with(&mount.target));
        made.extend(mount.directories());
    }
    if command.root.is_some() {
        let dot = || Arg::Text(c".".into());
        steps.call(child, "pivot into the root", libc::SYS_pivot_root, vec![dot(), dot()]);
        let detach = || vec![dot(), Arg::Number(libc::MNT_DETACH as u64)];
        // The old root lies over the new one now, and what was moved over it before lies on top of that.
        if scratch.is_some() {
            steps.call(child, "unmount the scratch file system", libc::SYS_umount2, detach());
        }
        steps.call(child, "unmount the old root", libc::SYS_umount2, detach());
        steps.call(child, "enter /", libc::SYS_chdir, vec![Arg::Text(c"/".into())]);
        if let Some(What::Filesystem(filesystem)) = command.root.as_ref().map(|root| &root.what)
            && filesystem.attributes & RDONLY != 0
        {
            steps.set_attributes(child, ROOT, RDONLY, false, "set read-only on the root".into());
        }
    }
    steps.call(child, "restore the umask", libc::SYS_umask, vec![Arg::Slot(UMASK)]);
    Ok(())
}

/// Whether the launcher has it for a child with another user namespace.
fn is_outside(scratch: &Scratch) -> bool {
    match scratch {
        Scratch::Filesystem(filesystem) => filesystem.outside,
        Scratch::Mount(_) => true,
    }
}

/// Brings the root into its slot and over `/`; whether mount points can be made in it.
fn root(command: &Command, user: bool, steps: &mut Steps) -> Result<bool> {
    let Some(root) = &command.root else {
        open_root(steps);
        return Ok(false);
    };
    let mapped = mapped(root.id_mapped, steps);
    let makes = match &root.what {
        What::Filesystem(filesystem) if filesystem.outside && steps.outside.is_some() => true, // in its slot
        What::Filesystem(filesystem) => {
            let mut writable = filesystem.clone();
            writable.attributes &= !RDONLY;
            steps.filesystem(&writable, ROOT, "the root")?;
            true
        }
        What::Bind { source, attributes, .. } => {
            let (section, source_of, directory) = source_of(source, user, "root")?;
            if !directory {
                return Err(Error::os(format!("root {}", source.display()), libc::ENOTDIR));
            }
            let section = moved(section, mapped.as_ref(), steps);
            steps.tree(
                section,
                &source_of,
                Traits::of(*attributes),
                ROOT,
                &source.display().to_string(),
                mapped,
            )?;
            attributes & RDONLY == 0
        }
        What::Foreign { .. } => return Err(Error::invalid("a root of another mount namespace")),
        What::Tree { tree, attributes } => {
            let section = moved(Section::Prepare, mapped.as_ref(), steps);
            steps.tree(
                section,
                &Source::Open(tree.clone()),
                Traits::of(*attributes),
                ROOT,
                "the root",
                mapped,
            )?;
            attributes & RDONLY == 0
        }
    };
    steps.enter(ROOT, "root");
    Ok(makes)
}

fn one_mount(mount: &Mount, way: &Way<'_>, steps: &mut Steps) -> Result<()> {
    let &Way { rooted, makes, user, maps, scratch } = way;
    let mapped = mapped(mount.id_mapped, steps);
    let target = mount.target.display().to_string();
    let mut directory = true;
    let slot = match &mount.what {
        What::Filesystem(filesystem) if filesystem.outside && steps.outside.is_some() => {
            match steps.made.remove(&mount.target) {
                Some(slot) => slot,
                None => return Err(Error::invalid(format!("two file systems at {target}"))),
            }
        }
        What::Filesystem(filesystem) if rooted && mount.strict && filesystem.is_plain() => {
            if makes {
                steps.make_mount_point(&mount.target, true, true)?;
            }
            steps.mount_point(&mount.target, true)?;
            return steps.mount_there(&of_user(filesystem, maps), &target);
        }
        What::Filesystem(filesystem) if user => {
            let filesystem = without_devices(&of_user(filesystem, maps));
            in_scratch(scratch, &filesystem, &target, steps)?;
            MOUNT
        }
        What::Filesystem(filesystem) => {
            in_scratch(scratch, filesystem, &target, steps)?;
            MOUNT
        }
        What::Bind { source, attributes, late } => {
            let slot = steps.slot()?;
            let (section, source_of, is_directory) = match late {
                Some(kind) => {
                    let section = if by_child(user) { Section::Child } else { Section::Prepare };
                    (section, Source::Path(source.clone()), *kind == Late::Directory)
                }
                None => source_of(source, user, "source of a mount")?,
            };
            directory = is_directory;
            let section = moved(section, mapped.as_ref(), steps);
            steps.tree(
                section,
                &source_of,
                mount.traits(*attributes),
                slot,
                &source.display().to_string(),
                mapped,
            )?;
            slot
        }
        What::Tree { tree, attributes } => {
            let slot = steps.slot()?;
            directory =
                File::from(tree.try_clone().map_err(|e| Error::io(format!("mount at {target}"), &e))?)
                    .metadata()
                    .map_err(|e| Error::io(format!("mount at {target}"), &e))?
                    .is_dir();
            let section = moved(Section::Prepare, mapped.as_ref(), steps);
            steps.tree(
                section,
                &Source::Open(tree.clone()),
                mount.traits(*attributes),
                slot,
                &target,
                mapped,
            )?;
            slot
        }
        What::Foreign { namespace, source, attributes } => {
            let slot = steps.slot()?;
            steps.foreign.push(Foreign {
                namespace: namespace.clone(),
                source: source.clone(),
                traits: mount.traits(*attributes),
                slot,
            });
            slot
        }
    };
    if makes {
        steps.make_mount_point(&mount.target, mount.strict, directory)?;
    }
    steps.mount_point(&mount.target, mount.strict)?;
    steps.attach(slot, format!("move the mount over {target}"));
    match &mount.what {
        What::Filesystem(filesystem) if user && !(filesystem.outside && steps.outside.is_some()) => {
            devices(filesystem, &mount.target, steps)
        }
        _ => Ok(()),
    }
}

/// Who copies a source, and when: the launcher, of what is open, if it may; else the child, by path, in its own copy of
/// the mounts. And whether it is a directory.
fn source_of(path: &Path, user: bool, what: &str) -> Result<(Section, Source, bool)> {
    let named = |e: &std::io::Error| Error::io(format!("{what} {}", path.display()), e);
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
        .open(path)
        .map_err(|e| named(&e))?;
    let directory = file.metadata().map_err(|e| named(&e))?.is_dir();
    if by_child(user) {
        let path = std::path::absolute(path).map_err(|e| named(&e))?;
        return Ok((Section::Child, Source::Path(path), directory));
    }
    let file = crate::kernel::above_standard(OwnedFd::from(file)).map_err(|e| named(&e))?;
    Ok((Section::Prepare, Source::Open(Arc::new(file)), directory))
}

/// Without privilege only the owner of a new user namespace, the child, may copy mounts.
fn by_child(user: bool) -> bool {
    user && !identity::is_privileged()
}

/// A file system whose relative names lead into the scratch file system, which is the current directory meanwhile.
fn in_scratch(scratch: bool, filesystem: &Filesystem, target: &str, steps: &mut Steps) -> Result<()> {
    let enter = |slot, words: &'static str, steps: &mut Steps| {
        steps.call(Section::Child, words, libc::SYS_fchdir, vec![Arg::Slot(slot)]);
    };
    if !scratch || filesystem.kind != "overlay" {
        return steps.filesystem(filesystem, MOUNT, target);
    }
    enter(HELD, "enter the scratch file system", steps);
    steps.filesystem(filesystem, MOUNT, target)?;
    enter(ROOT, "return to the root", steps);
    Ok(())
}

/// The user namespace whose ids a mount is to have, if it is to be mapped and there is another than the caller's.
fn mapped(wanted: bool, steps: &Steps) -> Option<Arg> {
    steps.outside.as_ref().filter(|_| wanted).map(crate::outside::Outside::user)
}

/// Who copies what is id-mapped is who may do so: the launcher, when the user namespace is there.
fn moved(section: Section, mapped: Option<&Arg>, steps: &Steps) -> Section {
    match (&steps.outside, mapped) {
        (Some(outside), Some(_)) => outside.section,
        _ => section,
    }
}

/// A terminal belongs to group 5, tty, where there is one of that number.
fn of_user(filesystem: &Filesystem, maps: Option<&Maps>) -> Filesystem {
    const TTY: u32 = 5;
    let mut filesystem = filesystem.clone();
    if filesystem.kind == "devpts" && maps.is_none_or(|maps| maps.gids.has(TTY)) {
        filesystem.parameters.push(("gid".into(), Value::Text(TTY.to_string().into())));
    }
    filesystem
}

/// Devices as empty files: no user namespace but the first may make them.
fn without_devices(filesystem: &Filesystem) -> Filesystem {
    let mut filesystem = filesystem.clone();
    for entry in &mut filesystem.entries {
        if let Entry::Device { path, .. } = entry {
            *entry = Entry::File { path: path.clone() };
        }
    }
    filesystem
}

/// The caller's devices over those files, if they are what their names say.
fn devices(filesystem: &Filesystem, target: &Path, steps: &mut Steps) -> Result<()> {
    for entry in &filesystem.entries {
        let Entry::Device { path, major, minor } = entry else { continue };
        let source = Path::new("/dev").join(path);
        let shown = source.display().to_string();
        steps.copy(Section::Child, &Source::Path(source), 0, MOUNT, &shown)?;
        let is = vec![Arg::Slot(MOUNT), Arg::Number((*major).into()), Arg::Number((*minor).into())];
        steps.operation(Section::Child, format!("see that {shown} is device {major}:{minor}"), OP_DEVICE, is);
        steps.open_in_root(&target.join(path), true, TARGET, format!("open the place for {shown}"))?;
        steps.attach(MOUNT, format!("move {shown} over its place"));
    }
    Ok(())
}
