//! A start with everything that contains a program by default, against one clone that makes the same system calls.

use std::error::Error;
use std::ffi::{CStr, CString, c_char, c_long, c_void};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use isolate_benches::clone::clone_into;
use isolate_benches::figure::{self, Times, head};
use isolate_benches::must;
use isolate_benches::raw::fail;
use isolate_benches::rights::Rights;
use isolate_cgroups::Cgroup;
use isolate_namespaces::{
    Capabilities, Command, Filesystem, IdMap, Mount, Namespace, Resource, ResourceLimit, Seccomp,
};

/// What `isolate` hides, and lets nobody write to.
const MASKED: [&CStr; 25] = [
    c"/proc/acpi",
    c"/proc/asound",
    c"/proc/interrupts",
    c"/proc/kallsyms",
    c"/proc/kcore",
    c"/proc/keys",
    c"/proc/kpagecgroup",
    c"/proc/kpagecount",
    c"/proc/kpageflags",
    c"/proc/latency_stats",
    c"/proc/modules",
    c"/proc/sched_debug",
    c"/proc/scsi",
    c"/proc/slabinfo",
    c"/proc/timer_list",
    c"/proc/timer_stats",
    c"/proc/vmallocinfo",
    c"/sys/devices/virtual/powercap",
    c"/sys/firmware",
    c"/sys/fs/bpf",
    c"/sys/fs/pstore",
    c"/sys/kernel/debug",
    c"/sys/kernel/security",
    c"/sys/kernel/tracing",
    c"/sys/power",
];
const READ_ONLY: [&CStr; 5] = [c"/proc/bus", c"/proc/fs", c"/proc/irq", c"/proc/sys", c"/proc/sysrq-trigger"];
const BASE: u32 = 0x7000_0000;
const IDS: u32 = 65_536;

/// Both kinds of start against the limit, in turns.
pub(crate) fn measure(root: &Path, group: &Cgroup) -> Result<(), Box<dyn Error>> {
    let limit = Limit::new(root, group)?;
    let (with, without) = (command(root, group, true)?.plan()?, command(root, group, false)?.plan()?);
    for (title, pause, rounds) in [("spaced", super::SPACE, 150), ("looped", Duration::ZERO, 300)] {
        let (mut inits, mut starts, mut limits) = (Times::default(), Times::default(), Times::default());
        for _ in 0..rounds {
            assert!(inits.take(|| with.status())?.success());
            std::thread::sleep(pause);
            assert!(starts.take(|| without.status())?.success());
            std::thread::sleep(pause);
            limits.take(|| limit.run())?;
            std::thread::sleep(pause);
        }
        head(&format!("contained, {title}: user namespace, id-mapped overlay, masks, rights, filter"));
        limits.print("limit: one clone, the same calls");
        inits.print("start, as by default, with an init");
        starts.print("start, without an init");
        let end = if title == "spaced" { "" } else { "-looped" };
        let median =
            |times: &Times| times.percentile(0.5).as_secs_f64() / limits.percentile(0.5).as_secs_f64();
        figure::print(&format!("contained-start/limit{end}"), inits.ratio(&limits), "x");
        figure::print(&format!("contained-start/limit{end}-median"), median(&inits), "x");
        figure::print(&format!("contained-start-no-init/limit{end}"), starts.ratio(&limits), "x");
    }
    Ok(())
}

fn command(root: &Path, group: &Cgroup, init: bool) -> Result<Command, Box<dyn Error>> {
    let scratch = Filesystem::tmpfs().set("mode", "700").directory("upper", 0o755).directory("work", 0o700);
    let overlay = Filesystem::new("overlay")
        .layer(root)
        .set("upperdir", "upper")
        .set("workdir", "work")
        .flag("volatile")
        .nosuid()
        .nodev();
    let mut command = Command::new("/true");
    command
        .env_clear()
        .unshare(Namespace::CONTAINER)
        .uid_map(IdMap::range(0, BASE, IDS))
        .gid_map(IdMap::range(0, BASE, IDS))
        .scratch(scratch.outside())
        .root(overlay.outside())
        .hostname("bench")
        .new_session()
        .umask(0o022)
        .loopback_up()
        .cgroup(group.try_clone_fd()?)
        .uid(0)
        .gid(0)
        .groups([])
        .capabilities(Capabilities::DEFAULT)
        .no_new_privileges()
        .seccomp(&Seccomp::default_profile())
        .new_keyring()
        .limit(Resource::Core, ResourceLimit::new(0, 0))
        .limit(Resource::Memlock, ResourceLimit::new(65_536, 65_536))
        .init(init);
    for mount in [
        Mount::proc(),
        Mount::dev().outside(),
        Mount::devpts(),
        Mount::shm(super::SHM),
        Mount::mqueue(),
        Mount::sysfs(),
    ] {
        command.mount(mount);
    }
    for path in MASKED {
        command.mask(std::str::from_utf8(path.to_bytes())?);
    }
    for path in READ_ONLY {
        command.read_only_path(std::str::from_utf8(path.to_bytes())?);
    }
    Ok(command)
}

/// Everything prepared. The child shares memory and descriptors with this process until it executes; both sides write only what is
/// their own.
pub(crate) struct Limit<'a> {
    root: CString,
    group: BorrowedFd<'a>,
    rights: Rights,
    stack: Vec<u128>,
    go: [i32; 2],
    /// The mounts that the parent has made: the root, /dev.
    made: [AtomicI32; 2],
}

const STACK: usize = 64 << 10;

const NONE: *const c_char = std::ptr::null();
const EMPTY: &CStr = c"";
const AT: i32 = libc::AT_FDCWD;

impl<'a> Limit<'a> {
    fn new(root: &Path, group: &'a Cgroup) -> Result<Self, Box<dyn Error>> {
        let mut go = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe2(go.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        Ok(Self {
            root: CString::new(root.as_os_str().as_bytes())?,
            group: std::os::fd::AsFd::as_fd(group),
            rights: Rights::default(),
            stack: vec![0; STACK / 16],
            go,
            made: [const { AtomicI32::new(-1) }; 2],
        })
    }

    /// One start to exit.
    pub(crate) fn run(&self) -> std::io::Result<()> {
        let kinds = libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWUSER;
        let flags = (libc::CLONE_VM | libc::CLONE_FILES | kinds) as u64;
        // SAFETY: the child has the stack to itself, and this object until it has been waited for.
        let pid = unsafe {
            clone_into(flags, &self.stack, self.group, child, std::ptr::from_ref(self) as *mut c_void)
        }?;
        self.prepare(pid);
        must!(libc::SYS_write, self.go[1], c"g".as_ptr(), 1);
        let mut status = 0;
        // SAFETY: an int on this stack.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        for made in &self.made {
            // SAFETY: descriptors of this process, made above.
            unsafe { libc::close(made.load(Ordering::Relaxed)) };
        }
        match status {
            0 => Ok(()),
            _ => {
                Err(std::io::Error::other(format!("the limit's child failed: {}", libc::WEXITSTATUS(status))))
            }
        }
    }

    /// Id maps, an id-mapped layer, an overlay over it, a /dev with its nodes.
    fn prepare(&self, pid: i32) {
        let process = format!("/proc/{pid}\0");
        let process = must!(libc::SYS_openat, AT, process.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) as i32;
        let map = format!("0 {BASE} {IDS}\n");
        for name in [c"uid_map", c"gid_map"] {
            let file = must!(libc::SYS_openat, process, name.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            must!(libc::SYS_write, file, map.as_ptr(), map.len());
            must!(libc::SYS_close, file);
        }
        let user = must!(libc::SYS_openat, process, c"ns/user".as_ptr(), libc::O_CLOEXEC);
        let layer = must!(libc::SYS_open_tree, AT, self.root.as_ptr(), 1 | libc::O_CLOEXEC);
        let attr = [0x10_0000u64, 0, 1 << 18, user as u64];
        must!(libc::SYS_mount_setattr, layer, EMPTY.as_ptr(), libc::AT_EMPTY_PATH, attr.as_ptr(), 32);

        let scratch = tmpfs(&[(c"mode", c"700")], 0);
        for (name, mode) in [(c"upper", 0o755), (c"work", 0o700)] {
            must!(libc::SYS_mkdirat, scratch, name.as_ptr(), mode);
            give(scratch, name);
        }
        let overlay = must!(libc::SYS_fsopen, c"overlay".as_ptr(), 1);
        must!(libc::SYS_fsconfig, overlay, 5, c"lowerdir+".as_ptr(), NONE, layer);
        let mut places = [0; 2];
        for ((key, name), place) in
            [(c"upperdir", c"upper"), (c"workdir", c"work")].into_iter().zip(&mut places)
        {
            *place = must!(libc::SYS_openat, scratch, name.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
            must!(libc::SYS_fsconfig, overlay, 5, key.as_ptr(), NONE, *place);
        }
        must!(libc::SYS_fsconfig, overlay, 0, c"volatile".as_ptr(), NONE, 0);
        must!(libc::SYS_fsconfig, overlay, 6, NONE, NONE, 0);
        let root = must!(libc::SYS_fsmount, overlay, 1, 2 | 4);

        let dev = tmpfs(&[(c"mode", c"755"), (c"size", c"64k")], 2 | 8);
        let nodes = [
            (c"null", 1, 3),
            (c"zero", 1, 5),
            (c"full", 1, 7),
            (c"random", 1, 8),
            (c"urandom", 1, 9),
            (c"tty", 5, 0),
        ];
        for (name, major, minor) in nodes {
            let device = libc::makedev(major, minor);
            must!(libc::SYS_mknodat, dev, name.as_ptr(), libc::S_IFCHR | 0o666, device);
            give(dev, name);
        }
        must!(libc::SYS_mknodat, dev, c"console".as_ptr(), libc::S_IFREG | 0o644, 0);
        give(dev, c"console");
        for name in [c"pts", c"shm", c"mqueue"] {
            must!(libc::SYS_mkdirat, dev, name.as_ptr(), 0o755);
            give(dev, name);
        }
        let links = [
            (c"/proc/self/fd", c"fd"),
            (c"/proc/self/fd/0", c"stdin"),
            (c"/proc/self/fd/1", c"stdout"),
            (c"/proc/self/fd/2", c"stderr"),
            (c"pts/ptmx", c"ptmx"),
        ];
        for (to, name) in links {
            must!(libc::SYS_symlinkat, to.as_ptr(), dev, name.as_ptr());
            give(dev, name);
        }
        for fd in [process as c_long, user, layer, scratch, overlay, places[0], places[1]] {
            must!(libc::SYS_close, fd);
        }
        self.made[0].store(root as i32, Ordering::Relaxed);
        self.made[1].store(dev as i32, Ordering::Release);
    }
}

/// A detached one that belongs to the range.
fn tmpfs(options: &[(&CStr, &CStr)], attributes: u32) -> c_long {
    let context = must!(libc::SYS_fsopen, c"tmpfs".as_ptr(), 1);
    let base = c"1879048192";
    for (key, value) in
        [(c"uid", base), (c"gid", base)].iter().map(|(k, v)| (*k, *v)).chain(options.iter().copied())
    {
        must!(libc::SYS_fsconfig, context, 1, key.as_ptr(), value.as_ptr(), 0);
    }
    must!(libc::SYS_fsconfig, context, 6, NONE, NONE, 0);
    let mount = must!(libc::SYS_fsmount, context, 1, attributes);
    must!(libc::SYS_close, context);
    mount
}

fn give(directory: c_long, name: &CStr) {
    must!(libc::SYS_fchownat, directory, name.as_ptr(), BASE, BASE, libc::AT_SYMLINK_NOFOLLOW);
}

/// In memory and descriptors that it shares: raw calls, and nothing of the parent's is written to.
/// SAFETY: `data` is what `run` passed, and lives while the parent is held.
unsafe extern "C" fn child(data: *mut c_void) -> ! {
    // SAFETY: lives until the parent has waited for this process.
    let limit = unsafe { &*(data as *const Limit<'_>) };
    let mut word = 0u8;
    must!(libc::SYS_read, limit.go[0], &raw mut word, 1);
    let dev = limit.made[1].load(Ordering::Acquire);
    let root = limit.made[0].load(Ordering::Relaxed);
    must!(libc::SYS_setresgid, 0, 0, 0);
    must!(libc::SYS_setresuid, 0, 0, 0);
    must!(libc::SYS_unshare, libc::CLONE_FILES);
    loopback();
    must!(libc::SYS_unshare, libc::CLONE_NEWCGROUP);
    must!(libc::SYS_sethostname, c"bench".as_ptr(), 5);
    must!(libc::SYS_mount, NONE, c"/".as_ptr(), NONE, libc::MS_REC | libc::MS_PRIVATE, NONE);
    must!(libc::SYS_umask, 0);
    must!(libc::SYS_move_mount, root, EMPTY.as_ptr(), AT, c"/".as_ptr(), 4);
    must!(libc::SYS_fchdir, root);
    let safe = libc::MS_NOSUID | libc::MS_NOEXEC;
    mount(c"proc", c"proc", safe | libc::MS_NODEV, EMPTY);
    must!(libc::SYS_move_mount, dev, EMPTY.as_ptr(), AT, c"dev".as_ptr(), 4);
    mount(c"devpts", c"dev/pts", safe, c"ptmxmode=0666,mode=0620,gid=5");
    mount(c"tmpfs", c"dev/shm", safe | libc::MS_NODEV, c"mode=1777,size=67108864");
    mount(c"mqueue", c"dev/mqueue", safe | libc::MS_NODEV, EMPTY);
    mount(c"sysfs", c"sys", safe | libc::MS_NODEV | libc::MS_RDONLY, EMPTY);
    must!(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr());
    must!(libc::SYS_umount2, c".".as_ptr(), libc::MNT_DETACH);
    must!(libc::SYS_chdir, c"/".as_ptr());
    hide();
    for path in READ_ONLY {
        // SAFETY: strings; what is not there is left alone.
        unsafe {
            libc::syscall(
                libc::SYS_mount,
                path.as_ptr(),
                path.as_ptr(),
                NONE,
                libc::MS_BIND | libc::MS_REC,
                NONE,
            );
            let attr = [1u64, 0, 0, 0];
            libc::syscall(libc::SYS_mount_setattr, AT, path.as_ptr(), 0x8000, attr.as_ptr(), 32);
        }
    }
    limit.rights.give_up();
    let empty = [NONE];
    let argv = [c"/true".as_ptr(), NONE];
    must!(libc::SYS_execve, c"/true".as_ptr(), argv.as_ptr(), empty.as_ptr());
    fail(line!())
}

fn loopback() {
    let socket = must!(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&((libc::IFF_UP | libc::IFF_RUNNING) as u16).to_ne_bytes());
    must!(libc::SYS_ioctl, socket, libc::SIOCSIFFLAGS, request.as_ptr());
}

fn mount(kind: &CStr, at: &CStr, flags: libc::c_ulong, options: &CStr) {
    must!(libc::SYS_mount, kind.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, options.as_ptr());
}

fn hide() {
    let null = must!(libc::SYS_openat, AT, c"/dev/null".as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
    let context = must!(libc::SYS_fsopen, c"tmpfs".as_ptr(), 1);
    for (key, value) in [(c"size", c"4k"), (c"nr_inodes", c"2"), (c"mode", c"555")] {
        must!(libc::SYS_fsconfig, context, 1, key.as_ptr(), value.as_ptr(), 0);
    }
    must!(libc::SYS_fsconfig, context, 6, NONE, NONE, 0);
    let nothing = must!(libc::SYS_fsmount, context, 1, 1 | 2 | 4 | 8);
    for path in MASKED {
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // SAFETY: a string.
        let place = unsafe { libc::syscall(libc::SYS_openat, AT, path.as_ptr(), flags) };
        if place < 0 {
            continue;
        }
        let mut found = [0u32; 64];
        must!(libc::SYS_statx, place, EMPTY.as_ptr(), libc::AT_EMPTY_PATH, 3, found.as_mut_ptr());
        let with = if found[7] as u16 & 0o170000 == 0o040000 { nothing } else { null };
        let copy =
            must!(libc::SYS_open_tree, with, EMPTY.as_ptr(), 1 | libc::AT_EMPTY_PATH | libc::O_CLOEXEC);
        must!(libc::SYS_move_mount, copy, EMPTY.as_ptr(), place, EMPTY.as_ptr(), 4 | 0x40);
        must!(libc::SYS_close, copy);
        must!(libc::SYS_close, place);
    }
}
