//! The default profile on a thread of this machine.

use std::io;
use std::thread;

use libc::{ENOSYS, EPERM, EPROTONOSUPPORT, c_long};

use crate::seccomp::Seccomp;

/// Makes the calling thread subject to a filter, for good.
fn load(filter: &Seccomp) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap(),
        filter: filter.program().as_ptr().cast_mut().cast(),
    };
    // SAFETY: plain numbers; of this thread alone.
    let no_new_privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(no_new_privileges, 0);
    // SAFETY: `program` and the filter that it points to live until the kernel has copied them, and it reads them only.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The errno of a call with these arguments; 0 where there is none.
fn errno(number: c_long, [a, b, c]: [c_long; 3]) -> i32 {
    // SAFETY: no pointer among the arguments below but null, which the kernel refuses.
    let result = unsafe { libc::syscall(number, a, b, c, 0, 0, 0) };
    if result < 0 { io::Error::last_os_error().raw_os_error().unwrap() } else { 0 }
}

#[test]
fn the_kernel_takes_the_default_profile_and_does_what_it_says() {
    // None of them does anything, with or without a filter.
    let refused: [(c_long, [c_long; 3], i32); 7] = [
        (libc::SYS_clone3, [0, 64, 0], ENOSYS),
        (libc::SYS_unshare, [0, 0, 0], EPERM),
        (libc::SYS_kcmp, [-1, -1, 0], EPERM),
        (libc::SYS_socket, [libc::AF_VSOCK.into(), 0, 0], EPERM),
        (libc::SYS_socket, [1 << 32 | c_long::from(libc::AF_PACKET), -1, 0], EPERM),
        (
            libc::SYS_socket,
            [libc::AF_NETLINK.into(), 0, libc::NETLINK_KOBJECT_UEVENT.into()],
            EPROTONOSUPPORT,
        ),
        (libc::SYS_ioctl, [-1, 1 << 32 | 0x5412, 0], EPERM),
    ];
    let allowed = [(libc::SYS_personality, [1 << 32 | 0xffff_ffff, 0, 0]), (libc::SYS_getpid, [0, 0, 0])];
    thread::spawn(move || {
        for (number, arguments, with) in refused {
            assert_ne!(errno(number, arguments), with, "{number} {arguments:x?} without the filter");
        }
        load(&Seccomp::default_profile()).unwrap();
        for (number, arguments, with) in refused {
            assert_eq!(errno(number, arguments), with, "{number} {arguments:x?}");
        }
        for (number, arguments) in allowed {
            assert_eq!(errno(number, arguments), 0, "{number}");
        }
        assert_eq!(errno(1000, [0; 3]), ENOSYS);
    })
    .join()
    .unwrap();
}

#[test]
fn the_kernel_takes_a_filter_of_thousands_of_instructions() {
    let filter = (0..500_i64).fold(Seccomp::builder(crate::SeccompAction::Allow), |builder, number| {
        let condition = crate::SeccompCondition::equals64(5, 1 << 40 | number as u64);
        builder.rule_if(number, [condition], crate::SeccompAction::Errno(7))
    });
    let filter = filter.build().unwrap();
    thread::spawn(move || load(&filter).unwrap()).join().unwrap();
}
