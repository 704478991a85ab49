use std::collections::BTreeSet;

use libc::{ENOSYS, EPERM, EPROTONOSUPPORT, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO};

use super::interpreter::{Call, answer, verify};
use crate::seccomp::{Seccomp, numbers, profile};

/// Bits that the kernel does not look at in an `int`.
const HIGH: u64 = 0xdead_beef << 32;

fn word(number: u32, arguments: [u64; 6]) -> u32 {
    answer(&Seccomp::default_profile(), Call::native(number, arguments)).word
}

/// The errno of a call: 0 for one that is made.
fn errno(name: &str, arguments: [u64; 3]) -> i32 {
    let [a, b, c] = arguments;
    match word(numbers::number(name).unwrap(), [a, b, c, 0, 0, 0]) {
        SECCOMP_RET_ALLOW => 0,
        word => (word ^ SECCOMP_RET_ERRNO) as i32,
    }
}

/// As [`errno`], and the same whatever the high halves are.
fn errno_of_ints(name: &str, arguments: [u32; 3]) -> i32 {
    let arguments = arguments.map(u64::from);
    let errno_low = errno(name, arguments);
    assert_eq!(errno(name, arguments.map(|argument| argument | HIGH)), errno_low, "{name} {arguments:?}");
    assert_eq!(errno(name, arguments.map(|argument| argument | 1 << 32)), errno_low, "{name} {arguments:?}");
    errno_low
}

#[test]
fn every_call_has_the_action_that_the_profile_says() {
    let here: BTreeSet<_> = profile::allowed().filter_map(numbers::number).collect();
    let by_argument = ["clone", "socket", "socketpair", "ioctl", "personality", "clone3"];
    let by_argument = by_argument.map(|name| numbers::number(name).unwrap());
    for number in numbers::known().filter(|number| !by_argument.contains(number)) {
        let expected =
            if here.contains(&number) { SECCOMP_RET_ALLOW } else { SECCOMP_RET_ERRNO | EPERM as u32 };
        for arguments in [[0; 6], [u64::MAX; 6]] {
            assert_eq!(word(number, arguments), expected, "{number}");
        }
    }
}

#[test]
fn what_reaches_out_of_a_container_is_refused() {
    for name in "acct add_key bpf chroot clock_settime delete_module fanotify_init finit_module fsconfig fsmount fsopen \
        fspick get_mempolicy init_module io_uring_enter io_uring_register io_uring_setup kcmp kexec_file_load kexec_load \
        keyctl listmount lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr mbind memfd_secret \
        migrate_pages mount mount_setattr move_mount move_pages name_to_handle_at open_by_handle_at open_tree \
        open_tree_attr perf_event_open pidfd_getfd pivot_root process_madvise process_vm_readv process_vm_writev ptrace \
        quotactl quotactl_fd reboot request_key set_mempolicy set_mempolicy_home_node setdomainname sethostname setns \
        settimeofday statmount swapoff swapon syslog umount2 unshare userfaultfd vhangup"
        .split_whitespace()
    {
        assert_eq!(errno(name, [0; 3]), EPERM, "{name}");
    }
}

#[test]
fn what_programs_and_the_start_of_one_need_is_allowed() {
    for name in "brk cachestat capget capset close_range execve execveat exit exit_group faccessat2 fchmodat2 \
        file_getattr futex futex_requeue futex_wait futex_waitv futex_wake landlock_add_rule landlock_create_ruleset \
        landlock_restrict_self map_shadow_stack membarrier memfd_create mmap mseal nanosleep openat2 pidfd_open \
        pidfd_send_signal prctl rseq rt_sigprocmask rt_sigreturn seccomp setgroups setresgid setresuid setuid setxattrat \
        statx wait4 write"
        .split_whitespace()
    {
        assert_eq!(errno(name, [0; 3]), 0, "{name}");
    }
}

/// x86_64 has all the calls that aarch64 has.
#[cfg(target_arch = "x86_64")]
#[test]
fn no_name_of_the_profile_is_misspelt() {
    let mut names = BTreeSet::new();
    for name in profile::allowed() {
        assert!(numbers::number(name).is_some(), "{name}");
        assert!(names.insert(name), "{name} twice");
    }
}

#[test]
fn a_number_has_one_name() {
    let numbers: BTreeSet<_> = numbers::known().collect();
    assert_eq!(numbers.len(), numbers::known().count());
    assert_eq!(numbers::number("mseal"), Some(462));
    assert_eq!(numbers.last(), numbers::number("file_setattr").as_ref());
}

#[test]
fn what_the_kernel_may_get_one_day_is_not_there() {
    let known: BTreeSet<_> = numbers::known().collect();
    for number in (0..1000).filter(|number| !known.contains(number)).chain([0x3fff_ffff, u32::MAX]) {
        assert_eq!(word(number, [0; 6]), SECCOMP_RET_ERRNO | ENOSYS as u32, "{number}");
    }
    assert_eq!(errno("clone3", [0; 3]), ENOSYS);
}

#[test]
fn sockets_are_of_few_families() {
    let families = 0..64;
    for family in families.chain([u32::MAX, 0x8000_0001]) {
        let expected = match family {
            1 | 2 | 10 | 16 => 0,
            _ => EPERM,
        };
        assert_eq!(errno_of_ints("socket", [family, 1, 0]), expected, "{family}");
        assert_eq!(
            errno_of_ints("socketpair", [family, 1, 0]),
            if family == 1 { 0 } else { EPERM },
            "{family}"
        );
    }
    for protocol in 1..32 {
        assert_eq!(errno_of_ints("socket", [16, 3, protocol]), EPROTONOSUPPORT, "netlink {protocol}");
        assert_eq!(errno_of_ints("socket", [2, 3, protocol]), 0, "inet {protocol}");
    }
}

#[test]
fn clone_makes_threads_and_processes_and_no_namespaces() {
    let fork = 0x0120_0011;
    let thread = 0x003d_0f00;
    for flags in [0, 0x11, fork, thread, 0x4111] {
        assert_eq!(errno_of_ints("clone", [flags, 0, 0]), 0, "{flags:#x}");
    }
    for namespace in [0x2_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
    {
        for flags in [0, 0x11, fork, thread] {
            assert_eq!(errno_of_ints("clone", [flags | namespace, 0, 0]), EPERM, "{namespace:#x}");
        }
    }
}

#[test]
fn a_terminal_is_not_typed_into() {
    for request in [0x5412, 0x541c, 0x5423] {
        assert_eq!(errno_of_ints("ioctl", [0, request, 0]), EPERM, "{request:#x}");
    }
    for request in [0x5401, 0x5411, 0x5413, 0x541b, 0x541d, 0x5422, 0x5424, 0x5421, 0] {
        assert_eq!(errno_of_ints("ioctl", [0, request, 0]), 0, "{request:#x}");
    }
}

#[test]
fn personalities_are_those_of_linux() {
    for persona in [0, 8, 0x2_0000, 0x2_0008, u32::MAX] {
        assert_eq!(errno_of_ints("personality", [persona, 0, 0]), 0, "{persona:#x}");
    }
    for persona in [1, 6, 9, 0x4_0000, 0x40_0000, 0x2_0001, u32::MAX - 1] {
        assert_eq!(errno_of_ints("personality", [persona, 0, 0]), EPERM, "{persona:#x}");
    }
}

#[test]
fn it_is_short_and_soon_done() {
    let filter = Seccomp::default_profile();
    verify(&filter);
    assert!(filter.len() < 600, "{filter:?}");
    let comparisons = |number| answer(&filter, Call::native(number, [0; 6])).comparisons;
    let plain = profile::allowed().filter_map(numbers::number).map(comparisons).max();
    assert!(plain.is_some_and(|most| most <= 9), "{plain:?} comparisons");
    let any = numbers::known().chain([1000]).map(comparisons).max();
    assert!(any.is_some_and(|most| most <= 13), "{any:?} comparisons");
}
