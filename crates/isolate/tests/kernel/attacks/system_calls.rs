//! The table of system calls: what each gives in a container, and that without the filter it would get further.

use std::collections::BTreeMap;
use std::ffi::c_long;
use std::path::{Path, PathBuf};
use std::time::Duration;

use isolate::{Capabilities, Container, ContainerBuilder, Mount, UserNamespace};
use libc::{EBADF, EFAULT, EINVAL, ENOENT, ENOSYS, EPERM, EPROTONOSUPPORT};
use testkit::{Need, kernel_test};

use crate::common::OnDisk;

const NEEDS: &[Need] = &[Need::Root, Need::Overlay];
/// Set for the program inside.
const PROBE: &str = "ISOLATE_TEST_SYSTEM_CALLS";
const HIGH: u64 = 1 << 32;

/// A call with its arguments, and the errno it must give (0: any success).
struct Row {
    name: &'static str,
    number: c_long,
    arguments: [u64; 4],
    errno: i32,
    /// Without the filter it gives another.
    filtered: bool,
}

const fn refused(name: &'static str, number: c_long, arguments: [u64; 4], errno: i32) -> Row {
    Row { name, number, arguments, errno, filtered: true }
}

const fn given(name: &'static str, number: c_long, arguments: [u64; 4], errno: i32) -> Row {
    Row { name, number, arguments, errno, filtered: false }
}

const NO: u64 = u64::MAX;
const HERE: u64 = libc::AT_FDCWD as u64;
const CHILD: u64 = libc::SIGCHLD as u64;

fn text(text: &'static std::ffi::CStr) -> u64 {
    text.as_ptr().addr() as u64
}

/// No row does harm where nothing refuses it: its arguments are not what the call wants.
fn table() -> Vec<Row> {
    let mut rows = vec![
        refused("mount", libc::SYS_mount, [0, 0, 0, 0], EPERM),
        refused("umount2", libc::SYS_umount2, [0, 0, 0, 0], EPERM),
        refused("pivot_root", libc::SYS_pivot_root, [0, 0, 0, 0], EPERM),
        refused("chroot", libc::SYS_chroot, [0, 0, 0, 0], EPERM),
        refused("open_tree", libc::SYS_open_tree, [NO, 0, 0, 0], EPERM),
        refused("move_mount", libc::SYS_move_mount, [NO, 0, NO, 0], EPERM),
        refused("fsopen", libc::SYS_fsopen, [0, 0, 0, 0], EPERM),
        refused("fsconfig", libc::SYS_fsconfig, [NO, 99, 0, 0], EPERM),
        refused("fsmount", libc::SYS_fsmount, [NO, 0, 0, 0], EPERM),
        refused("fspick", libc::SYS_fspick, [NO, 0, 0, 0], EPERM),
        refused("mount_setattr", libc::SYS_mount_setattr, [NO, 0, 0, 0], EPERM),
        refused("unshare user", libc::SYS_unshare, [0x1000_0000, 0, 0, 0], EPERM),
        refused("unshare mount", libc::SYS_unshare, [0x2_0000, 0, 0, 0], EPERM),
        refused("unshare nothing", libc::SYS_unshare, [0, 0, 0, 0], EPERM),
        refused("setns", libc::SYS_setns, [NO, 0, 0, 0], EPERM),
        refused("clone3", libc::SYS_clone3, [0, 0, 0, 0], ENOSYS),
        refused("clone mount", libc::SYS_clone, [0x2_0000 | CHILD, 0, 0, 0], EPERM),
        refused("clone cgroup", libc::SYS_clone, [0x200_0000 | CHILD, 0, 0, 0], EPERM),
        refused("clone uts", libc::SYS_clone, [0x400_0000 | CHILD, 0, 0, 0], EPERM),
        refused("clone ipc", libc::SYS_clone, [0x800_0000 | CHILD, 0, 0, 0], EPERM),
        refused("clone user", libc::SYS_clone, [0x1000_0000 | CHILD, 0, 0, 0], EPERM),
        refused("clone pid", libc::SYS_clone, [0x2000_0000 | CHILD, 0, 0, 0], EPERM),
        refused("clone net", libc::SYS_clone, [0x4000_0000 | CHILD, 0, 0, 0], EPERM),
        refused("clone user, high bits", libc::SYS_clone, [HIGH | 0x1000_0000 | CHILD, 0, 0, 0], EPERM),
        refused("ptrace", libc::SYS_ptrace, [16, 0, 0, 0], EPERM),
        refused("process_vm_readv", libc::SYS_process_vm_readv, [0, 0, 0, 0], EPERM),
        refused("process_vm_writev", libc::SYS_process_vm_writev, [0, 0, 0, 0], EPERM),
        refused("kcmp", libc::SYS_kcmp, [0, 0, 99, 0], EPERM),
        refused("pidfd_getfd", libc::SYS_pidfd_getfd, [NO, 0, 1, 0], EPERM),
        refused("process_madvise", libc::SYS_process_madvise, [NO, 0, 0, 0], EPERM),
        refused("bpf", libc::SYS_bpf, [9999, 0, 0, 0], EPERM),
        refused("perf_event_open", libc::SYS_perf_event_open, [0, 0, 0, 0], EPERM),
        refused("keyctl", libc::SYS_keyctl, [9999, 0, 0, 0], EPERM),
        refused("add_key", libc::SYS_add_key, [0, 0, 0, 0], EPERM),
        refused("request_key", libc::SYS_request_key, [0, 0, 0, 0], EPERM),
        refused("init_module", libc::SYS_init_module, [0, 0, 0, 0], EPERM),
        refused("finit_module", libc::SYS_finit_module, [NO, 0, 0, 0], EPERM),
        refused("delete_module", libc::SYS_delete_module, [0, 0, 0, 0], EPERM),
        refused("kexec_load", libc::SYS_kexec_load, [0, 17, 0, 0], EPERM),
        refused("reboot", libc::SYS_reboot, [0, 0, 0, 0], EPERM),
        refused("swapon", libc::SYS_swapon, [0, 0, 0, 0], EPERM),
        refused("swapoff", libc::SYS_swapoff, [0, 0, 0, 0], EPERM),
        refused("syslog", libc::SYS_syslog, [9999, 0, 0, 0], EPERM),
        refused("quotactl", libc::SYS_quotactl, [NO, 0, 0, 0], EPERM),
        refused("acct", libc::SYS_acct, [1, 0, 0, 0], EPERM),
        refused("settimeofday", libc::SYS_settimeofday, [1, 1, 0, 0], EPERM),
        refused("clock_settime", libc::SYS_clock_settime, [99, 0, 0, 0], EPERM),
        refused("sethostname", libc::SYS_sethostname, [0, 1, 0, 0], EPERM),
        refused("setdomainname", libc::SYS_setdomainname, [0, 1, 0, 0], EPERM),
        refused("name_to_handle_at", libc::SYS_name_to_handle_at, [NO, 0, 0, 0], EPERM),
        refused("open_by_handle_at", libc::SYS_open_by_handle_at, [NO, 0, 0, 0], EPERM),
        refused("userfaultfd", libc::SYS_userfaultfd, [NO, 0, 0, 0], EPERM),
        refused("io_uring_setup", libc::SYS_io_uring_setup, [0, 0, 0, 0], EPERM),
        refused("io_uring_enter", libc::SYS_io_uring_enter, [NO, 0, 0, 0], EPERM),
        refused("io_uring_register", libc::SYS_io_uring_register, [NO, 0, 0, 0], EPERM),
        refused("memfd_secret", libc::SYS_memfd_secret, [NO, 0, 0, 0], EPERM),
        refused("fanotify_init", libc::SYS_fanotify_init, [NO, 0, 0, 0], EPERM),
        refused("personality", libc::SYS_personality, [0x4_0000, 0, 0, 0], EPERM),
        refused("socket vsock", libc::SYS_socket, [40, 1, 0, 0], EPERM),
        refused("socket vsock, high bits", libc::SYS_socket, [HIGH | 40, 1, 0, 0], EPERM),
        refused("socket alg", libc::SYS_socket, [38, 5, 0, 0], EPERM),
        refused("socket packet", libc::SYS_socket, [17, 3, 0, 0], EPERM),
        refused("socket key", libc::SYS_socket, [15, 3, 2, 0], EPERM),
        refused("socket bluetooth", libc::SYS_socket, [31, 3, 0, 0], EPERM),
        refused("netlink netfilter", libc::SYS_socket, [16, 3, 12, 0], EPROTONOSUPPORT),
        refused("ioctl TIOCSTI", libc::SYS_ioctl, [NO, 0x5412, 0, 0], EPERM),
        refused("ioctl TIOCSTI, high bits", libc::SYS_ioctl, [NO, HIGH | 0x5412, 0, 0], EPERM),
        refused("ioctl TIOCLINUX", libc::SYS_ioctl, [NO, 0x541c, 0, 0], EPERM),
        refused("ioctl TIOCSETD", libc::SYS_ioctl, [NO, 0x5423, 0, 0], EPERM),
        given("mknod disk", libc::SYS_mknodat, [HERE, text(c"/tmp/disk"), 0o60600, 0x800], EPERM),
        given("open tun", libc::SYS_openat, [HERE, text(c"/dev/net/tun"), 2, 0], ENOENT),
        given("open fuse", libc::SYS_openat, [HERE, text(c"/dev/fuse"), 2, 0], ENOENT),
        given("open kmsg", libc::SYS_openat, [HERE, text(c"/dev/kmsg"), 0, 0], ENOENT),
        given("futex", libc::SYS_futex, [0, 1, 1, 0], EFAULT),
        given("unknown", 1000, [0, 0, 0, 0], ENOSYS),
        given("unknown and negative", -1, [0, 0, 0, 0], ENOSYS),
        given("read", libc::SYS_read, [NO, 0, 0, 0], EBADF),
        given("write", libc::SYS_write, [NO, 0, 0, 0], EBADF),
        given("ioctl", libc::SYS_ioctl, [NO, 0x5401, 0, 0], EBADF),
        given("socket unix", libc::SYS_socket, [1, 1, 0, 0], 0),
        given("socket inet", libc::SYS_socket, [2, 1, 0, 0], 0),
        given("socket inet6", libc::SYS_socket, [10, 2, 0, 0], 0),
        given("netlink route", libc::SYS_socket, [16, 3, 0, 0], 0),
        given("clone", libc::SYS_clone, [CHILD, 0, 0, 0], 0),
        given("execve", libc::SYS_execve, [0, 0, 0, 0], EFAULT),
        given("epoll_create1", libc::SYS_epoll_create1, [0, 0, 0, 0], 0),
        given("eventfd2", libc::SYS_eventfd2, [0, 0, 0, 0], 0),
        given("memfd_create", libc::SYS_memfd_create, [0, 0, 0, 0], EFAULT),
        given("inotify_init1", libc::SYS_inotify_init1, [0, 0, 0, 0], 0),
        given("timerfd_create", libc::SYS_timerfd_create, [0, 0, 0, 0], 0),
        given("pidfd_open", libc::SYS_pidfd_open, [0, 0, 0, 0], EINVAL),
        given("statx", libc::SYS_statx, [NO, 0, 0, 0], EFAULT),
        given("openat2", libc::SYS_openat2, [NO, 0, 0, 0], EINVAL),
        given("close_range", libc::SYS_close_range, [3000, 3001, 0, 0], 0),
        given("membarrier", libc::SYS_membarrier, [0, 0, 0, 0], 0),
        given("seccomp", libc::SYS_seccomp, [99, 0, 0, 0], EINVAL),
        given("prctl", libc::SYS_prctl, [3, 0, 0, 0], 0),
        given("capget", libc::SYS_capget, [0, 0, 0, 0], EFAULT),
        given("setresuid", libc::SYS_setresuid, [NO, NO, NO, 0], 0),
        given("personality, asked", libc::SYS_personality, [0xffff_ffff, 0, 0, 0], 0),
    ];
    #[cfg(target_arch = "x86_64")]
    rows.extend([
        refused("modify_ldt", libc::SYS_modify_ldt, [0, 0, 0, 0], EPERM),
        refused("iopl", libc::SYS_iopl, [0, 0, 0, 0], EPERM),
        refused("ioperm", libc::SYS_ioperm, [0, 0, 0, 0], EPERM),
        refused("kexec_file_load", libc::SYS_kexec_file_load, [NO, NO, 0, 0], EPERM),
        refused("ustat", libc::SYS_ustat, [0, 0, 0, 0], EPERM),
        refused("sysfs", libc::SYS_sysfs, [99, 0, 0, 0], EPERM),
        given("getpid by x32", 0x4000_0000 | libc::SYS_getpid, [0, 0, 0, 0], ENOSYS),
    ]);
    rows
}

#[test]
fn each_of_the_table_gives_what_it_must_and_the_filter_is_why() {
    if std::env::var_os(PROBE).is_some() {
        return probe();
    }
    kernel_test(NEEDS, || {
        let rows = table();
        assert!(rows.len() >= 60);
        let confined = shown(inside());
        let as_user = shown(inside().user(isolate::User::id_and_group(1000, 1000)));
        let without = shown(
            inside()
                .seccomp_unconfined()
                .capabilities(Capabilities::all())
                .user_namespace(UserNamespace::Host),
        );
        for row in &rows {
            assert_eq!(confined.get(row.name), Some(&row.errno), "{}", row.name);
            assert_eq!(as_user.get("a thread"), Some(&0));
            if row.filtered {
                assert_eq!(as_user.get(row.name), Some(&row.errno), "{} as a user", row.name);
                assert_ne!(without.get(row.name), Some(&row.errno), "{} without the filter", row.name);
            }
        }
        #[cfg(target_arch = "x86_64")]
        {
            // A kernel without that entry ends the program instead.
            assert!(matches!(confined.get("getpid by int 0x80"), Some(&ENOSYS) | None));
            assert!(
                !matches!(without.get("getpid by int 0x80"), Some(&ENOSYS)),
                "without the filter it is there"
            );
            // A native program is filtered there, too: what is refused above is not to be had below.
            assert!(matches!(confined.get("chroot by int 0x80"), Some(&ENOSYS | &EPERM) | None));
            assert_eq!(without.get("chroot by int 0x80"), Some(&EFAULT));
        }
    });
}

/// Newcomers are seized as soon as they are seen, by who may do so.
const TRACER: &str = "ISOLATE_TEST_TRACER";

#[test]
fn a_newcomer_cannot_be_traced_before_it_has_executed_its_program() {
    if std::env::var_os(TRACER).is_some() {
        return trace();
    }
    kernel_test(&[Need::Root, Need::Overlay, Need::Program("busybox"), Need::Program("ldd")], || {
        let disk = OnDisk::root();
        let root = disk.0.join("root");
        copy_of_this_program(&root);
        std::fs::copy(root.join("bin/busybox"), root.join("busybox-last")).unwrap();
        let mut container = disk
            .sh("")
            .command([
                "/probe",
                "--exact",
                "attacks::system_calls::a_newcomer_cannot_be_traced_before_it_has_executed_its_program",
                "--nocapture",
            ])
            .env(TRACER, "1")
            .user_namespace(UserNamespace::Required)
            .capabilities(Capabilities::all())
            .seccomp_unconfined()
            .stdout(isolate::Stdio::piped())
            .start()
            .unwrap();
        for _ in 0..if crate::common::slow() { 30 } else { 2_000 } {
            // One that is seized while it ends is killed with its tracer's word, or ends by itself.
            container.exec("/bin/true").status().unwrap();
        }
        let mut last = container.exec("/busybox-last").args(["sleep", "100"]).spawn().unwrap();
        let seen = format!("/proc/{}/root/tmp/seen", container.pid());
        crate::common::until(Duration::from_secs(60), || Path::new(&seen).exists().then_some(()));
        last.kill().unwrap();
        container.exec("/bin/touch").arg("/tmp/stop").status().unwrap();
        let output = container.wait_with_output().unwrap();
        container.remove().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let traced: Vec<&str> = shown.lines().filter_map(|line| line.strip_prefix("traced ")).collect();
        assert!(traced.contains(&"/busybox-last"), "the control: what runs can be: {shown}");
        assert!(
            traced.iter().all(|program| ["/busybox-last", "/bin/busybox", ""].contains(program)),
            "{traced:?}"
        );
    });
}

/// With its libraries and its loader, where it looks for them.
fn copy_of_this_program(root: &Path) {
    let program = std::env::current_exe().unwrap();
    std::fs::copy(&program, root.join("probe")).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a tool of the machine's")]
    let output = std::process::Command::new("ldd").arg(&program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = root.join(library.trim_start_matches('/'));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(library, place).unwrap();
    }
}

/// Inside: seizes each process that was not there before, notes its program, and lets go.
fn trace() {
    println!();
    let numbers = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .collect::<std::collections::BTreeSet<_>>()
    };
    let mut known = numbers();
    while !Path::new("/tmp/stop").exists() {
        for pid in numbers() {
            if known.contains(&pid) {
                continue;
            }
            // SAFETY: a number of a process; no memory of this program is touched.
            let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
            if seized == 0 {
                let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
                println!("traced {}", program.display());
                if program == Path::new("/busybox-last") {
                    std::fs::write("/tmp/seen", "").unwrap();
                }
                // SAFETY: as above; let go by the end of this thread, or at once if it stops.
                unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid, 0, 0) };
                let mut status = 0;
                // SAFETY: an int on this stack.
                unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
                // SAFETY: as above.
                unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0) };
                known.insert(pid);
            } else if std::fs::metadata(format!("/proc/{pid}")).is_err() {
                known.insert(pid);
            }
        }
        known.retain(|pid| Path::new(&format!("/proc/{pid}")).exists());
    }
}

/// This test's own program in a container of the host's root.
fn inside() -> ContainerBuilder {
    let program = std::env::current_exe().unwrap();
    Container::builder()
        .mount(Mount::bind(&program, "/probe").read_only())
        .command([
            PathBuf::from("/probe").as_os_str(),
            "--exact".as_ref(),
            "attacks::system_calls::each_of_the_table_gives_what_it_must_and_the_filter_is_why".as_ref(),
            "--nocapture".as_ref(),
        ])
        .env(PROBE, "1")
}

fn shown(container: ContainerBuilder) -> BTreeMap<String, i32> {
    let output = container.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows = text.lines().filter_map(|line| {
        let (name, errno) = line.strip_prefix("row ")?.rsplit_once(' ')?;
        Some((name.to_owned(), errno.parse().unwrap()))
    });
    rows.collect()
}

/// Inside: each call in turn, and what it gave.
fn probe() {
    println!();
    for row in table() {
        let [a, b, c, d] = row.arguments;
        // SAFETY: no call of the table writes to this program's memory: pointers are null or nobody's. One that forks ends its child.
        let done = unsafe { libc::syscall(row.number, a, b, c, d) };
        if done == 0 && row.number == libc::SYS_clone {
            // SAFETY: ends the child without running anything of this program.
            unsafe { libc::_exit(0) };
        }
        let errno = if done < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 };
        println!("row {} {errno}", row.name);
    }
    let thread = std::thread::Builder::new().spawn(|| ());
    println!("row a thread {}", i32::from(thread.is_err()));
    #[cfg(target_arch = "x86_64")]
    {
        println!("row chroot by int 0x80 {}", by_interrupt(61));
        println!("row getpid by int 0x80 {}", by_interrupt(20));
    }
}

/// The 32-bit entry: numbers of i386.
#[cfg(target_arch = "x86_64")]
fn by_interrupt(number: i32) -> i32 {
    let result: i64;
    // SAFETY: getpid of i386 takes nothing, and what chroot reads as a path lies nowhere; neither writes to memory.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("rax") i64::from(number) => result, lateout("r8") _, lateout("r9") _,
            lateout("r10") _, lateout("r11") _);
    }
    if result < 0 { i32::try_from(-result).unwrap_or(0) } else { 0 }
}
