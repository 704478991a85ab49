//! The limit: the calls that make, limit, use, read and remove a group, with everything known before.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use isolate_benches::clone::clone_into;
use isolate_cgroups::Cgroup;
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};

use crate::{MEMORY, TASKS};

/// Of a group that no other run has.
pub(crate) fn name() -> String {
    format!("isolate-bench-{}", std::process::id())
}

pub(crate) struct Limit {
    name: String,
    /// The hierarchies, cgroup v2 first, and what is written in each.
    hierarchies: Vec<(OwnedFd, Vec<(&'static str, String)>)>,
}

impl Limit {
    pub(crate) fn new() -> Result<Self, Box<dyn std::error::Error>> {
        // Whatever the library uses, on either kind of machine.
        let example = Cgroup::create(name())?;
        example.apply(&crate::limits())?;
        let places: Vec<PathBuf> =
            example.paths().iter().filter_map(|path| path.parent().map(Path::to_owned)).collect();
        let has = |place: &Path, file: &str| place.join(name()).join(file).exists();
        let values = [
            ("memory.swap.max", "0".to_owned()),
            ("memory.max", MEMORY.to_string()),
            ("memory.limit_in_bytes", MEMORY.to_string()),
            ("memory.memsw.limit_in_bytes", MEMORY.to_string()),
            ("cpu.max", "100000 100000".to_owned()),
            ("cpu.cfs_quota_us", "100000".to_owned()),
            ("pids.max", TASKS.to_string()),
        ];
        let mut hierarchies = Vec::new();
        for place in places {
            let written = values.iter().filter(|(file, _)| has(&place, file)).cloned().collect();
            hierarchies.push((File::open(&place)?.into(), written));
        }
        example.remove()?;
        Ok(Self { name: format!("{}-limit", name()), hierarchies })
    }

    pub(crate) fn run(&self) -> Result<(), Box<dyn std::error::Error>> {
        let mut groups = Vec::with_capacity(self.hierarchies.len());
        for (root, values) in &self.hierarchies {
            mkdirat(root, &*self.name, Mode::from_raw_mode(0o755))?;
            let group = openat(root, &*self.name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            for (file, value) in values {
                let file = openat(&group, *file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
                rustix::io::write(&file, value.as_bytes())?;
            }
            groups.push(group);
        }
        let tasks: Vec<OwnedFd> = groups[1..]
            .iter()
            .map(|group| openat(group, "tasks", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()))
            .collect::<Result<_, _>>()?;
        child_in(&groups[0], &tasks)?;
        for (root, _) in &self.hierarchies {
            unlinkat(root, &*self.name, AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }

    /// The files of a reading, open.
    pub(crate) fn readings(&self, group: &Cgroup) -> io::Result<Readings> {
        const FILES: [&str; 20] = [
            "cpu.stat",
            "memory.current",
            "memory.peak",
            "memory.max",
            "memory.swap.current",
            "memory.events",
            "memory.stat",
            "memory.usage_in_bytes",
            "memory.max_usage_in_bytes",
            "memory.limit_in_bytes",
            "memory.memsw.usage_in_bytes",
            "memory.oom_control",
            "memory.failcnt",
            "pids.current",
            "pids.peak",
            "pids.max",
            "io.stat",
            "cpu.pressure",
            "memory.pressure",
            "io.pressure",
        ];
        let paths = group.paths();
        let paths = paths.iter().flat_map(|path| FILES.map(|file| path.join(file)));
        let files = paths.filter(|path| path.exists()).map(File::open).collect::<io::Result<_>>()?;
        Ok(Readings { files, buffer: vec![0; 8192] })
    }
}

pub(crate) struct Readings {
    files: Vec<File>,
    buffer: Vec<u8>,
}

impl Readings {
    pub(crate) fn read(&mut self) -> io::Result<()> {
        for file in &self.files {
            match file.read_at(&mut self.buffer, 0) {
                Ok(n) if n < self.buffer.len() => {}
                Ok(_) => return Err(io::Error::other("a file is longer than it was known to be")),
                // Pressure that the kernel does not count.
                Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// A process that is born in a group, joins the others by itself, and ends.
pub(crate) fn child_in(group: &impl AsFd, tasks: &[OwnedFd]) -> io::Result<()> {
    let tasks: Vec<RawFd> = tasks.iter().map(AsRawFd::as_raw_fd).chain([-1]).collect();
    let stack = [0u128; 1024];
    let flags = (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    // SAFETY: the caller is held until the child has ended; the stack and the list live as long, and the child writes to neither.
    let pid = unsafe { clone_into(flags, &stack, group.as_fd(), child, tasks.as_ptr() as *mut c_void) }?;
    let mut status = 0;
    // SAFETY: an int on this stack.
    match unsafe { libc::waitpid(pid, &raw mut status, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ if status != 0 => Err(io::Error::other("the child could not join its groups")),
        _ => Ok(()),
    }
}

/// In memory that it shares: raw calls.
/// SAFETY: `data` is a list of descriptors that ends with -1 and lives while the parent is held.
unsafe extern "C" fn child(data: *mut c_void) -> ! {
    let mut task = data as *const RawFd;
    // SAFETY: a list that ends with -1 and lives while the parent is held.
    unsafe {
        while *task >= 0 {
            if isolate_benches::raw::call(
                libc::SYS_write,
                [*task as usize, c"0".as_ptr() as usize, 1, 0, 0, 0],
            ) != 1
            {
                libc::_exit(1);
            }
            task = task.add(1);
        }
        libc::_exit(0)
    }
}
