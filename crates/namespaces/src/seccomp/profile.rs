//! The default profile.
//!
//! It has the shape of Docker's: a list of what a program may call, the rest is EPERM. From Docker's list are left out what
//! reaches into other processes (ptrace, process_vm_readv), around the view of files (name_to_handle_at, statmount) or
//! into seldom used corners of the kernel (memfd_secret, modify_ldt); and what Docker allows together with a capability is
//! not allowed here whatever the capabilities are: mounts, namespaces, modules, bpf, clocks, memory policies.

use libc::{
    AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, EPERM, EPROTONOSUPPORT, NETLINK_ROUTE, TIOCSETD, TIOCSTI,
};

use super::action::SeccompAction::{Allow, Errno};
use super::condition::SeccompCondition as Condition;
use super::numbers;
use super::rules::{NOT_THERE, Rules};

/// What it says, for this architecture; calls of the other one do not matter.
pub(super) fn rules() -> Rules {
    let mut rules = Rules::new(Errno(EPERM));
    let mut rule = |call: &str, conditions: &[Condition], action| {
        if let Some(number) = numbers::number(call) {
            rules.add(number, conditions, action);
        }
    };
    for call in allowed() {
        rule(call, &[], Allow);
    }

    // Its flags lie in memory, where a filter sees nothing. C libraries take ENOSYS as a word to use clone.
    rule("clone3", &[], NOT_THERE);
    // CLONE_NEWTIME is no flag of clone: the bit is of the signal's number.
    rule("clone", &[Condition::masked(0, NEW_NAMESPACES, 0)], Allow);

    // A program with libaudit opens NETLINK_AUDIT. It goes on without after this errno; after EPERM it gives up, as useradd
    // does: "Cannot open audit interface - aborting."
    let netlink = Condition::equals(0, AF_NETLINK as u32);
    rule("socket", &[netlink], Errno(EPROTONOSUPPORT));
    rule("socket", &[netlink, Condition::equals(2, NETLINK_ROUTE as u32)], Allow);
    // The last is looked at first.
    for family in [AF_INET6, AF_INET, AF_UNIX] {
        rule("socket", &[Condition::equals(0, family as u32)], Allow);
    }
    rule("socketpair", &[Condition::equals(0, AF_UNIX as u32)], Allow);

    rule("ioctl", &[], Allow);
    for request in [TIOCSTI as u32, TIOCLINUX, TIOCSETD as u32] {
        rule("ioctl", &[Condition::equals(1, request)], Errno(EPERM));
    }
    for persona in PERSONALITIES {
        rule("personality", &[Condition::equals(0, persona)], Allow);
    }
    rules
}

/// What may be called with any arguments.
pub(super) fn allowed() -> impl Iterator<Item = &'static str> {
    [FILES, TRANSFER, MEMORY, PROCESSES, IDENTITY, CLOCKS, COMMUNICATION]
        .into_iter()
        .flat_map(str::split_whitespace)
}

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (clone(2)).
const NEW_NAMESPACES: u32 = 0x7e02_0000;
/// Pastes what is selected on a virtual console into its input, among other things (ioctl_console(2)).
const TIOCLINUX: u32 = 0x541c;
/// PER_LINUX and PER_LINUX32, each with and without UNAME26; and the question which one it is (personality(2)).
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];

/// Files by name and by descriptor.
const FILES: &str = "
    access faccessat faccessat2 chdir fchdir getcwd chmod fchmod fchmodat fchmodat2 chown fchown fchownat
    lchown umask creat open openat openat2 close close_range dup dup2 dup3 fcntl flock link linkat symlink
    symlinkat readlink readlinkat rename renameat renameat2 unlink unlinkat mkdir mkdirat rmdir mknod
    mknodat getdents getdents64 stat fstat lstat newfstatat statx statfs fstatfs utime utimes futimesat
    utimensat truncate ftruncate fallocate fadvise64 readahead cachestat sync fsync fdatasync syncfs
    sync_file_range setxattr lsetxattr fsetxattr setxattrat getxattr lgetxattr fgetxattr getxattrat
    listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat
    file_getattr file_setattr fanotify_mark inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
";

/// Reading, writing and waiting.
const TRANSFER: &str = "
    read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek sendfile
    copy_file_range splice tee vmsplice pipe pipe2 io_setup io_destroy io_submit io_cancel io_getevents
    io_pgetevents select pselect6 poll ppoll epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait
    epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4 timerfd_create
    timerfd_settime timerfd_gettime
";

/// Memory, locks and random numbers.
const MEMORY: &str = "
    brk mmap munmap mremap mprotect madvise mincore msync mseal mlock mlock2 mlockall munlock munlockall
    memfd_create membarrier remap_file_pages pkey_alloc pkey_free pkey_mprotect map_shadow_stack
    process_mrelease futex futex_waitv futex_wait futex_wake futex_requeue set_robust_list get_robust_list
    rseq getrandom
";

/// Processes, threads and signals.
const PROCESSES: &str = "
    fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill pidfd_open pidfd_send_signal
    getpid getppid gettid getpgid getpgrp setpgid getsid setsid prctl arch_prctl get_thread_area
    set_thread_area set_tid_address getcpu times getrusage getrlimit setrlimit prlimit64 getpriority
    setpriority ioprio_get ioprio_set sched_yield sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam
    sched_getscheduler sched_setscheduler sched_rr_get_interval rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait sigaltstack
    restart_syscall pause alarm uname sysinfo uprobe uretprobe
";

/// Identity and restrictions of oneself.
const IDENTITY: &str = "
    getuid geteuid getresuid setuid setreuid setresuid setfsuid getgid getegid getresgid setgid setregid
    setresgid setfsgid getgroups setgroups capget capset seccomp landlock_create_ruleset landlock_add_rule
    landlock_restrict_self
";

/// Clocks and timers. Setting a clock wants a capability that a container has not got; asking by adjtimex does not.
const CLOCKS: &str = "
    time gettimeofday adjtimex clock_adjtime clock_getres clock_gettime clock_nanosleep nanosleep
    getitimer setitimer timer_create timer_delete timer_getoverrun timer_gettime timer_settime
";

/// Sockets, but for making them; and System V and POSIX IPC.
const COMMUNICATION: &str = "
    accept accept4 bind connect listen shutdown getpeername getsockname getsockopt setsockopt recvfrom
    recvmsg recvmmsg sendto sendmsg sendmmsg mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
    mq_getsetattr msgctl msgget msgrcv msgsnd semctl semget semop semtimedop shmat shmctl shmdt shmget
";
