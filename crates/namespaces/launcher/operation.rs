//! Steps that are more than one system call.

use crate::run::Run;
use crate::sys::{EACCES, EBADMSG, EINVAL, ENODEV, ENOENT, ENOTDIR, ESRCH, ETXTBSY, call, new, nr};
use crate::wire::{
    Message, OP_ALIVE, OP_BOUND, OP_CLOSE, OP_DEVICE, OP_EXEC, OP_FILTER, OP_ID_MAP, OP_LANDLOCK, OP_MASK,
    OP_READY, OP_TERMINAL, OP_TREE, Report, TERMINAL,
};

const EMPTY_PATH: usize = 0x1000;
const O_CLOEXEC: usize = 0o2000000;
const MOVE_BETWEEN_DESCRIPTORS: usize = 0x4 | 0x40; // MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH
const COPY: usize = 1 | EMPTY_PATH | O_CLOEXEC; // OPEN_TREE_CLONE

/// An empty path.
fn empty() -> usize {
    c"".as_ptr() as usize
}

/// # Safety
/// Places in the plan were checked; that numbers and structures mean what they should is the library's promise.
pub(crate) unsafe fn perform(operation: u32, args: [usize; 6], run: &mut Run) -> isize {
    let [a, b, c, d, ..] = args;
    // SAFETY: the caller's promise.
    unsafe {
        match operation {
            OP_EXEC => exec(a as *const usize, b, c),
            OP_TREE => tree(args),
            OP_READY => ready(run),
            OP_ALIVE => alive(run.monitor),
            OP_ID_MAP => id_map(a, b, c as u64, d, args[4] as u64),
            OP_MASK => mask(a, b, c, &mut run.hidden),
            OP_DEVICE => device(a, b as u32, c as u32),
            OP_TERMINAL => terminal(a, run.header.control),
            OP_FILTER => {
                let program = [a, b]; // struct sock_fprog: the number fills the padding with zeroes
                call(nr::SECCOMP, [1 /* SECCOMP_SET_MODE_FILTER */, c, program.as_ptr() as usize, 0, 0, 0])
            }
            OP_BOUND => bound(a as u64),
            OP_CLOSE => close(run),
            OP_LANDLOCK => landlock(a, b, c as u64, d as u64),
            _ => -(EBADMSG as isize),
        }
    }
}

/// How often and how long a file that somebody still holds open for writing is tried again: 100 × 2 ms.
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: [u64; 2] = [0, 2_000_000];

/// Returns only with the error that counts: EACCES if any path gave it, else the last.
/// SAFETY: as of [`perform`]: three arrays of strings, each ended by a NULL.
unsafe fn exec(mut paths: *const usize, argv: usize, envp: usize) -> isize {
    let (mut worst, mut busy) = (-ENOENT, 0);
    // SAFETY: tables of the plan, each ended by a null cell.
    unsafe {
        while *paths != 0 {
            let failed = call(nr::EXECVE, [*paths, argv, envp, 0, 0, 0]);
            if failed == -ETXTBSY && busy < BUSY_TRIES {
                busy += 1;
                call(nr::NANOSLEEP, [BUSY_PAUSE.as_ptr() as usize, 0, 0, 0, 0, 0]);
                continue;
            }
            match -failed {
                ENOENT | ENOTDIR => {}
                EACCES => worst = failed,
                _ => return failed,
            }
            paths = paths.add(1);
        }
    }
    worst
}

/// args as of open_tree(2). Before Linux 6.15 a detached mount cannot be copied: EINVAL.
/// SAFETY: as of [`perform`].
unsafe fn tree(args: [usize; 6]) -> isize {
    // SAFETY: descriptors and a string of the plan.
    unsafe {
        match call(new::OPEN_TREE, args) {
            failed if failed == -EINVAL => call(nr::FCNTL, [args[0], 1030 /* F_DUPFD_CLOEXEC */, 3, 0, 0, 0]),
            other => other,
        }
    }
}

/// SAFETY: as of [`perform`].
unsafe fn ready(run: &Run) -> isize {
    let used = used();
    let report = Report {
        step: 0,
        errno: 0,
        at: now(),
        user_us: used[0] + run.used[0],
        system_us: used[1] + run.used[1],
    };
    // SAFETY: a report on this stack.
    unsafe {
        call(
            nr::WRITE,
            [run.header.report as usize, &raw const report as usize, size_of::<Report>(), 0, 0, 0],
        )
    }
}

/// User and system time of this process, in µs.
pub(crate) fn used() -> [u64; 2] {
    let mut usage = [0u64; 18]; // struct rusage: ru_utime, ru_stime, …
    // SAFETY: as long as the kernel's structure.
    unsafe {
        call(nr::GETRUSAGE, [0 /* RUSAGE_SELF */, usage.as_mut_ptr() as usize, 0, 0, 0, 0])
    };
    [usage[0] * 1_000_000 + usage[1], usage[2] * 1_000_000 + usage[3]]
}

/// CLOCK_MONOTONIC, in ns.
pub(crate) fn now() -> u64 {
    let mut time = [0u64; 2];
    // SAFETY: a timespec on this stack.
    unsafe { call(nr::CLOCK_GETTIME, [1, time.as_mut_ptr() as usize, 0, 0, 0, 0]) };
    time[0] * 1_000_000_000 + time[1]
}

/// SAFETY: `monitor` is a pidfd of this process's.
unsafe fn alive(monitor: i32) -> isize {
    let mut poll = [monitor as u32 as u64, 0]; // struct pollfd: fd, events, revents; errors are always reported
    let now = [0u64; 2];
    // SAFETY: one pollfd and one timespec on this stack.
    let found = unsafe { call(nr::PPOLL, [poll.as_mut_ptr() as usize, 1, now.as_ptr() as usize, 0, 8, 0]) };
    if found > 0 { -ESRCH } else { found }
}

/// SAFETY: as of [`perform`].
unsafe fn id_map(mount: usize, namespace: usize, attributes: u64, flags: usize, propagation: u64) -> isize {
    // struct mount_attr: attr_set with MOUNT_ATTR_IDMAP, attr_clr, propagation, userns_fd
    let attr = [attributes | 0x10_0000, 0, propagation, namespace as u64];
    // SAFETY: a structure on this stack.
    unsafe { call(new::MOUNT_SETATTR, [mount, empty(), flags | EMPTY_PATH, attr.as_ptr() as usize, 32, 0]) }
}

/// Of struct statx, which is the same everywhere: mode, and the device that a node stands for.
/// SAFETY: `fd` is this process's.
unsafe fn node(fd: usize) -> Result<(u16, [u32; 2]), isize> {
    let mut found = [0u32; 64];
    // SAFETY: 256 bytes, as the kernel writes.
    let done = unsafe { call(nr::STATX, [fd, empty(), EMPTY_PATH, 3, found.as_mut_ptr() as usize, 0]) };
    if done < 0 { Err(done) } else { Ok((found[7] as u16, [found[32], found[33]])) }
}

const KIND: u16 = 0o170000;
const DIRECTORY: u16 = 0o040000;
const CHARACTER: u16 = 0o020000;

/// SAFETY: `fd` is this process's.
unsafe fn device(fd: usize, major: u32, minor: u32) -> isize {
    // SAFETY: a descriptor.
    match unsafe { node(fd) } {
        Ok((mode, number)) if mode & KIND == CHARACTER && number == [major, minor] => 0,
        Ok(_) => -ENODEV,
        Err(failed) => failed,
    }
}

/// What is not there need not be hidden.
/// SAFETY: as of [`perform`].
unsafe fn mask(path: usize, null: usize, nothing: usize, attached: &mut bool) -> isize {
    // SAFETY: a string of the plan, descriptors, and literals.
    unsafe {
        let flags = 0o10000000 | 0o400000 | O_CLOEXEC; // O_PATH, O_NOFOLLOW
        let place = call(nr::OPENAT, [usize::MAX - 99, path, flags, 0, 0, 0]);
        if place < 0 {
            return if place == -ENOENT || place == -ENOTDIR { 0 } else { place };
        }
        let done = match node(place as usize) {
            // The first one has the mount itself: attached it can be copied, which it cannot before (Linux 6.15), and to close it does
            // not end it, which waits for every processor.
            Ok((mode, _)) if mode & KIND == DIRECTORY && !*attached => {
                let moved = move_over(nothing, place as usize);
                *attached = moved >= 0;
                // Over a place that shares with others it does, too, and its copies would.
                if moved < 0 { moved } else { set_private(nothing) }
            }
            Ok((mode, _)) if mode & KIND == DIRECTORY => cover(place as usize, nothing),
            Ok(_) => cover(place as usize, null),
            Err(failed) => failed,
        };
        call(nr::CLOSE, [place as usize, 0, 0, 0, 0, 0]);
        done
    }
}

/// SAFETY: as of [`perform`].
unsafe fn set_private(mount: usize) -> isize {
    let attr = [0u64, 0, 1 << 18 /* MS_PRIVATE */, 0]; // struct mount_attr: set, clear, propagation, user namespace
    // SAFETY: a descriptor, a literal, and a structure on this stack.
    unsafe {
        call(new::MOUNT_SETATTR, [mount, empty(), EMPTY_PATH, attr.as_ptr() as usize, size_of_val(&attr), 0])
    }
}

/// A copy of a mount over an open place.
/// SAFETY: as of [`perform`].
unsafe fn cover(place: usize, with: usize) -> isize {
    // SAFETY: descriptors and strings.
    unsafe {
        let copy = call(new::OPEN_TREE, [with, empty(), COPY, 0, 0, 0]);
        if copy < 0 {
            return copy;
        }
        let moved = move_over(copy as usize, place);
        call(nr::CLOSE, [copy as usize, 0, 0, 0, 0, 0]);
        moved
    }
}

/// SAFETY: as of [`perform`].
unsafe fn move_over(mount: usize, place: usize) -> isize {
    // SAFETY: descriptors and literals.
    unsafe { call(new::MOVE_MOUNT, [mount, empty(), place, empty(), MOVE_BETWEEN_DESCRIPTORS, 0]) }
}

/// ioctl_tty(2). The multiplexer of a devpts is character device 5:2 on that file system (Documentation/filesystems/devpts.rst):
/// a device of that number elsewhere leads to a devpts next to it, which need not be the container's.
/// SAFETY: both descriptors are this process's.
unsafe fn terminal(multiplexer: usize, control: i32) -> isize {
    const DEVPTS: u64 = 0x1cd1;
    const TIOCSPTLCK: usize = 0x4004_5431;
    const TIOCGPTPEER: usize = 0x5441;
    // SAFETY: structures on this stack, longer than the kernel's.
    unsafe {
        let mut system = [0u64; 16]; // struct statfs: f_type first
        let found = call(nr::FSTATFS, [multiplexer, system.as_mut_ptr() as usize, 0, 0, 0, 0]);
        if found < 0 || system[0] != DEVPTS {
            return -ENODEV;
        }
        let found = device(multiplexer, 5, 2);
        if found < 0 {
            return found;
        }
        let open = 0i32;
        let unlocked = call(nr::IOCTL, [multiplexer, TIOCSPTLCK, &raw const open as usize, 0, 0, 0]);
        if unlocked < 0 {
            return unlocked;
        }
        let other = call(nr::IOCTL, [multiplexer, TIOCGPTPEER, 0o400 | O_CLOEXEC | 2, 0, 0, 0]);
        if other < 0 {
            return other;
        }
        let message = Message { kind: TERMINAL, ..crate::channel::EMPTY };
        crate::channel::send(control, &message, multiplexer as i32);
        call(nr::CLOSE, [multiplexer, 0, 0, 0, 0, 0]);
        other
    }
}

/// What is left is no directory, and goes with the exec.
/// SAFETY: of these descriptors only those that the plan keeps are used again.
unsafe fn close(run: &Run) -> isize {
    let report = run.header.report;
    // SAFETY: numbers only.
    unsafe {
        let closed = close_all_but(&[0, 1, 2, report, run.monitor]);
        if closed < 0 {
            return closed;
        }
        call(nr::FCNTL, [report as usize, 2 /* F_SETFD */, 1 /* FD_CLOEXEC */, 0, 0, 0])
    }
}

/// capabilities(7): those that this kernel does not know answer EINVAL.
/// SAFETY: numbers alone.
unsafe fn bound(keep: u64) -> isize {
    const PR_CAPBSET_DROP: usize = 24;
    let mut capability = 0;
    while capability < 64 {
        if keep >> capability & 1 == 0 {
            // SAFETY: numbers only.
            let dropped = unsafe { call(nr::PRCTL, [PR_CAPBSET_DROP, capability, 0, 0, 0, 0]) };
            if dropped == -EINVAL {
                break;
            }
            if dropped < 0 {
                return dropped;
            }
        }
        capability += 1;
    }
    0
}

/// SAFETY: as of [`perform`].
unsafe fn landlock(ruleset: usize, place: usize, rights: u64, of_a_file: u64) -> isize {
    // SAFETY: descriptors; struct landlock_path_beneath_attr is packed: rights, descriptor.
    unsafe {
        let allowed = match node(place) {
            Ok((mode, _)) if mode & KIND == DIRECTORY => rights,
            Ok(_) => of_a_file,
            Err(failed) => return failed,
        };
        let attr = [allowed, place as u64];
        call(
            new::LANDLOCK_ADD_RULE,
            [ruleset, 1 /* LANDLOCK_RULE_PATH_BENEATH */, attr.as_ptr() as usize, 0, 0, 0],
        )
    }
}

/// Closes every descriptor but those in `keep` and below 0: the gaps between them, from the lowest on. Written without an
/// index that could be out of bounds: a panic has no room here. What could not be closed is an error: a filter of the caller's may
/// refuse the call.
/// SAFETY: of this process's descriptors only those in `keep` are used again.
pub(crate) unsafe fn close_all_but(keep: &[i32]) -> isize {
    let mut from = 0i64;
    loop {
        let mut next = u32::MAX as i64 + 1;
        for &fd in keep {
            if (fd as i64) >= from && (fd as i64) < next {
                next = fd as i64;
            }
        }
        if next > from {
            // SAFETY: numbers only.
            let closed = unsafe { call(new::CLOSE_RANGE, [from as usize, (next - 1) as usize, 0, 0, 0, 0]) };
            if closed < 0 {
                return closed;
            }
        }
        if next > u32::MAX as i64 {
            return 0;
        }
        from = next + 1;
    }
}
