//! The plan as bytes: what the library writes and the launcher reads. Compiled into both.
//!
//! ```text
//! Header | Step × (prepare + maps + child + main) | cells | bytes
//! ```
//! A step is one system call. Its arguments are numbers, places in the plan (which the launcher turns into addresses
//! once it knows where the plan lies), or slots: results of earlier steps. Both sides are the same target, so native
//! byte order and call numbers will do.

/// First word of every plan; the last two digits are the format's version.
pub(crate) const MAGIC: u32 = 0x4953_4c02;

/// Step index of a failure before the first step.
pub(crate) const BEFORE: u32 = u32::MAX;
/// Step index of a failed clone.
pub(crate) const CLONE: u32 = u32::MAX - 1;
/// Step index of a failed execution of the launcher itself.
pub(crate) const LAUNCH: u32 = u32::MAX - 2;
/// Step index of a failed clone of the program's process by its init.
pub(crate) const INIT: u32 = u32::MAX - 3;
/// Step index of a failed closing of what the init of the program's process need not have.
pub(crate) const CLOSING: u32 = u32::MAX - 4;
/// In the place of a step: what a keeper cannot do, to join its control groups and to write its state.
pub(crate) const GROUPS: u32 = u32::MAX - 5;
pub(crate) const STATE: u32 = u32::MAX - 6;

/// Results that steps may keep.
pub(crate) const SLOTS: usize = 256;
/// The slot that holds a descriptor of /proc/PID of the child while the map steps run.
pub(crate) const CHILD_SLOT: u8 = 0;
/// The first slot whose result, a descriptor, goes to the child with the go message if a map step has kept it.
pub(crate) const PASSED: usize = 16;
/// The most descriptors that go with one message (SCM_MAX_FD).
pub(crate) const MOST_PASSED: usize = 253;
/// Descriptors besides its own that the monitor keeps for the container's life.
pub(crate) const KEPT: usize = 6;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Header {
    pub magic: u32,
    pub length: u32,
    /// Eight-byte cells after the steps: an offset into the plan, or 0 for a null pointer.
    pub cells: u32,
    /// Steps that the launcher makes before the clone,
    pub prepare: u32,
    /// those that it makes between the clone and the go byte,
    pub maps: u32,
    /// those of the child, the first process of a new pid namespace,
    pub child: u32,
    /// and those of the process that executes the program: the child itself, or one that it clones and is the init of.
    pub main: u32,
    /// Whether the child stays as init, or without a program: one of the three below.
    pub init: u32,
    pub clone_flags: u64,
    /// How long the program may run after the go message, in ns; 0: as long as it likes.
    pub timeout: u64,
    /// Directory for CLONE_INTO_CGROUP, or -1.
    pub cgroup: i32,
    /// Pipe for the report; the control socket where there is none.
    pub report: i32,
    /// Socket to the caller: lifeline, pidfd, exit record.
    pub control: i32,
    /// What the caller wants to hear of the child's beginning: one of the three below.
    pub hear: u32,
    /// Whether the child stays dumpable until the go message: for who writes the id maps of a new user namespace.
    pub readable: u32,
    /// Descriptors that live as long as the monitor (locks); -1 where unused.
    pub kept: [i32; KEPT],
}

/// The child executes the program.
pub(crate) const EXECUTES: u32 = 0;
/// It clones a process that does so, and is the init of that.
pub(crate) const STAYS: u32 = 1;
/// Nobody executes anything: the steps end without OP_EXEC.
pub(crate) const IDLES: u32 = 2;

/// A STARTED.
pub(crate) const TELL: u32 = 0;
/// A STARTED, and then the child waits until the caller says go.
pub(crate) const HOLD: u32 = 1;
/// Nothing; it waits for the end. Reports are messages of the control socket.
pub(crate) const QUIET: u32 = 2;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Step {
    /// A system call's number, or one of the operations below.
    pub call: u32,
    /// Bit n: argument n is an offset into the plan.
    pub places: u8,
    /// Bit n: argument n is the number of a slot.
    pub slots: u8,
    /// One more than the slot that keeps the result; 0: none.
    pub save: u8,
    /// Times that EAGAIN is tried again (openat2 answers so when a rename interferes).
    pub retries: u8,
    /// Errors that do not matter (EEXIST for a directory that may be there).
    pub ignore: [u16; 4],
    pub args: [u64; 6],
}

/// Operations that are more than one call.
pub(crate) const OPERATIONS: u32 = 0x4000_0000;
/// args: table of paths, argv, environment. Each path in turn, as execvp(3) does; ETXTBSY is tried again for a while.
pub(crate) const OP_EXEC: u32 = OPERATIONS;
/// open_tree(2) of a descriptor; a mount that the kernel will not copy because it is detached is used itself.
pub(crate) const OP_TREE: u32 = OPERATIONS + 1;
/// Tells the caller that only the exec is left.
pub(crate) const OP_READY: u32 = OPERATIONS + 2;
/// Fails with ESRCH if the monitor has died: PR_SET_PDEATHSIG says nothing of a death before it was set.
pub(crate) const OP_ALIVE: u32 = OPERATIONS + 3;
/// args: mount, user namespace, attributes, flags, propagation. mount_setattr(2) with MOUNT_ATTR_IDMAP.
pub(crate) const OP_ID_MAP: u32 = OPERATIONS + 4;
/// args: path, descriptor of /dev/null, mount of nothing. Hides what is there: a directory by nothing, all else by the device.
pub(crate) const OP_MASK: u32 = OPERATIONS + 5;
/// args: descriptor, major, minor. Fails with ENODEV unless it is that character device.
pub(crate) const OP_DEVICE: u32 = OPERATIONS + 6;
/// args: descriptor of ptmx. Checks that it is one on devpts, unlocks the terminal, sends it to the caller; gives its other side.
pub(crate) const OP_TERMINAL: u32 = OPERATIONS + 7;
/// args: number of instructions, filter, flags. seccomp(2).
pub(crate) const OP_FILTER: u32 = OPERATIONS + 8;
/// args: capabilities to keep, as a mask. Drops all others from the bounding set.
pub(crate) const OP_BOUND: u32 = OPERATIONS + 9;
/// args: ruleset, directory or file, rights, rights of a file. landlock_add_rule(2).
pub(crate) const OP_LANDLOCK: u32 = OPERATIONS + 10;
/// Closes every descriptor but the standard ones, the report's and that to the monitor, which the exec closes.
pub(crate) const OP_CLOSE: u32 = OPERATIONS + 11;

/// What comes back on the report pipe: with errno 0 just before the exec, with another when a step failed, also after the first, or by its
/// init before it. The exec closes the pipe; a pipe that closes before either means that the child was killed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub step: u32,
    pub errno: i32,
    /// CLOCK_MONOTONIC, in ns,
    pub at: u64,
    /// and what the child has used for itself by then, in µs.
    pub user_us: u64,
    pub system_us: u64,
}

impl Report {
    pub(crate) const fn failed(step: u32, errno: i32) -> Self {
        Self { step, errno, at: 0, user_us: 0, system_us: 0 }
    }

    /// Of this one and the next, the one that counts: a failure, whichever came first.
    pub(crate) const fn and(self, next: Self) -> Self {
        if self.errno == 0 { next } else { self }
    }

    /// As it was written, from as many bytes as it has.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let half =
            |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
        let word =
            |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes);
        Self {
            step: half(0),
            errno: half(4).cast_signed(),
            at: word(8),
            user_us: word(16),
            system_us: word(24),
        }
    }
}

/// From the monitor: the child exists. Its pidfd comes along.
pub(crate) const STARTED: u32 = 1;
/// From the monitor: how it ended. The monitor's last word.
pub(crate) const ENDED: u32 = 2;
/// From the child: its terminal, which comes along.
pub(crate) const TERMINAL: u32 = 3;

/// A message of the control socket, monitor to caller; and of init to its monitor.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Message {
    pub kind: u32,
    /// STARTED: the pid. ENDED: `si_code` of waitid(2).
    pub code: i32,
    /// ENDED: exit code or signal.
    pub status: i32,
    /// ENDED: whether the monitor killed it because its time was over.
    pub timed_out: u32,
    /// ENDED: user and system time of the child and of what it waited for, in µs.
    pub user_us: u64,
    pub system_us: u64,
    /// ENDED: the largest resident set of one of them, in KiB.
    pub max_rss: u64,
    /// ENDED: CLOCK_MONOTONIC of the go message and of the end, in ns.
    pub went: u64,
    pub at: u64,
}

/// From the caller: let the child go on.
pub(crate) const GO: u8 = b'g';
/// From the caller: the lifeline is disarmed.
pub(crate) const DETACH: u8 = b'd';
