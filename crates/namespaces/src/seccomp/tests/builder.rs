use libc::{
    EACCES, ENOSYS, EPERM, SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_LOG, SECCOMP_RET_TRAP,
};

use super::interpreter::{Call, answer, verify};
use crate::ErrorKind;
use crate::seccomp::{Seccomp, SeccompAction, SeccompBuilder, SeccompCondition as Condition, numbers};

const I386: u32 = 0x4000_0003;
const X32: u32 = 0x4000_0000;

fn errno(errno: i32) -> u32 {
    SeccompAction::Errno(errno).word()
}

fn word(filter: &Seccomp, name: &str, arguments: [u64; 6]) -> u32 {
    answer(filter, Call::native(numbers::number(name).unwrap(), arguments)).word
}

#[test]
fn the_last_rule_that_holds_decides() {
    let filter = Seccomp::builder(SeccompAction::Kill)
        .deny("read", EPERM)
        .allow("read")
        .allow("write")
        .rule_if("write", [Condition::equals(0, 2)], SeccompAction::Log)
        .rule_if("write", [Condition::equals(0, 2), Condition::equals64(2, 0)], SeccompAction::Trap)
        .rule_if("kill", [], SeccompAction::Errno(EACCES))
        .build()
        .unwrap();
    assert_eq!(word(&filter, "read", [0; 6]), SECCOMP_RET_ALLOW);
    assert_eq!(word(&filter, "write", [1, 0, 0, 0, 0, 0]), SECCOMP_RET_ALLOW);
    assert_eq!(word(&filter, "write", [2, 0, 1 << 32, 0, 0, 0]), SECCOMP_RET_LOG);
    assert_eq!(word(&filter, "write", [2, 0, 0, 0, 0, 0]), SECCOMP_RET_TRAP);
    assert_eq!(word(&filter, "kill", [0; 6]), errno(EACCES));
    assert_eq!(word(&filter, "openat", [0; 6]), SECCOMP_RET_KILL_PROCESS);
}

#[test]
fn the_default_profile_can_be_widened_and_narrowed() {
    let filter = Seccomp::default_profile_with()
        .allow_each(["ptrace", "socket"])
        .deny("mknodat", EACCES)
        .rule_if("ioctl", [Condition::equals(1, 0x5412)], SeccompAction::Allow)
        .rule_if("clone", [Condition::masked(0, 0x1000_0000, 0x1000_0000)], SeccompAction::Kill)
        .build()
        .unwrap();
    verify(&filter);
    assert_eq!(word(&filter, "ptrace", [0; 6]), SECCOMP_RET_ALLOW);
    assert_eq!(word(&filter, "socket", [40, 0, 0, 0, 0, 0]), SECCOMP_RET_ALLOW);
    assert_eq!(word(&filter, "mknodat", [0; 6]), errno(EACCES));
    assert_eq!(word(&filter, "ioctl", [0, 0x5412, 0, 0, 0, 0]), SECCOMP_RET_ALLOW);
    assert_eq!(word(&filter, "ioctl", [0, 0x5423, 0, 0, 0, 0]), errno(EPERM));
    assert_eq!(word(&filter, "clone", [0x1000_0000, 0, 0, 0, 0, 0]), SECCOMP_RET_KILL_PROCESS);
    assert_eq!(word(&filter, "clone", [0x2000_0000, 0, 0, 0, 0, 0]), errno(EPERM));
    assert_eq!(word(&filter, "clone", [0x11, 0, 0, 0, 0, 0]), SECCOMP_RET_ALLOW);
    assert_eq!(word(&filter, "mount", [0; 6]), errno(EPERM));
}

#[test]
fn unknown_numbers_are_not_there_unless_everything_is_let_through() {
    let strict = Seccomp::builder(SeccompAction::Kill).allow(1001).build().unwrap();
    let lax = Seccomp::builder(SeccompAction::Allow).deny(1001, EPERM).build().unwrap();
    for (number, strictly, laxly) in
        [(1000, errno(ENOSYS), SECCOMP_RET_ALLOW), (1001, SECCOMP_RET_ALLOW, errno(EPERM))]
    {
        assert_eq!(answer(&strict, Call::native(number, [0; 6])).word, strictly);
        assert_eq!(answer(&lax, Call::native(number, [0; 6])).word, laxly);
    }
}

#[test]
fn no_filter_lets_another_entry_through() {
    let lax = Seccomp::builder(SeccompAction::Allow).build().unwrap();
    for number in (0..600).chain([X32 - 1, X32, X32 + 1, X32 + 512, u32::MAX]) {
        for filter in [&lax, &Seccomp::default_profile()] {
            let foreign = Call { architecture: I386, ..Call::native(number, [0; 6]) };
            assert_eq!(answer(filter, foreign).word, errno(ENOSYS), "{number}");
            assert_eq!(answer(filter, Call::native(number | X32, [0; 6])).word, errno(ENOSYS), "{number}");
        }
    }
    assert_eq!(word(&lax, "mount", [0; 6]), SECCOMP_RET_ALLOW);
}

#[test]
fn what_cannot_be_is_refused_in_a_sentence() {
    let new = || Seccomp::builder(SeccompAction::Allow);
    let when = |condition| new().rule_if("socket", [condition], SeccompAction::Kill);
    let arch = std::env::consts::ARCH;
    let cases: [(SeccompBuilder, &str); 7] = [
        (new().allow("opne"), &format!("system call opne: no such name on {arch}")),
        (new().allow(-1), "system call -1: not a number from 0 to 1073741823"),
        (new().allow(1 << 30), "system call 1073741824: not a number from 0 to 1073741823"),
        (new().deny("bpf", -EPERM), "system call bpf: errno -1: not from 0 to 4095"),
        (Seccomp::builder(SeccompAction::Errno(4096)), "system call filter: errno 4096: not from 0 to 4095"),
        (when(Condition::equals(6, 0)), "system call socket: argument 6: they are counted from 0 to 5"),
        (
            when(Condition::masked(1, 0xf, 0x10)),
            "system call socket: argument 1: 0x10 has bits outside the mask 0xf",
        ),
    ];
    for (builder, sentence) in cases {
        let error = builder.build().unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, sentence));
    }
}

/// Each call has rules of its own, so that nothing is shared and branches must reach far.
fn many(calls: u32) -> SeccompBuilder {
    (0..calls).fold(Seccomp::builder(SeccompAction::Allow), |builder, number| {
        let conditions = [Condition::equals64(5, number.into()), Condition::masked(0, 6, 2)];
        let refused = SeccompAction::Errno(number as i32 + 1);
        builder.deny(i64::from(number), 4095).rule_if(i64::from(number), conditions, refused)
    })
}

#[test]
fn a_long_filter_reaches_all_its_rules() {
    let filter = many(450).build().unwrap();
    verify(&filter);
    assert!(filter.len() > 10 * 255, "{filter:?}");
    for number in 0..450_u32 {
        let last = u64::from(number);
        let holds = Call::native(number, [u64::MAX - 5, 0, 0, 0, 0, last]);
        assert_eq!(answer(&filter, holds).word, errno(number as i32 + 1));
        for (first, last) in [(0, last), (2, last | 1 << 63), (2, last ^ 1)] {
            let fails = Call::native(number, [first, 0, 0, 0, 0, last]);
            assert_eq!(answer(&filter, fails).word, errno(4095));
        }
    }
    assert_eq!(answer(&filter, Call::native(450, [0; 6])).word, SECCOMP_RET_ALLOW);
}

#[test]
fn more_than_the_kernel_takes_is_refused() {
    let error = many(2000).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().ends_with("instructions, more than 4096"), "{error}");
}
