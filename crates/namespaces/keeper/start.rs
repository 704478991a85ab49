//! The launcher once more: for a restart, for a check.

use crate::call;
use crate::config::{Again, Config, List};
use crate::text::Short;

/// A launcher that works: its pidfd, our end of its control socket, and that of its report.
pub(crate) struct Started {
    pub pidfd: i32,
    pub control: i32,
    /// -1 where reports are messages.
    pub report: i32,
}

/// Carries a plan out once more. The errno where not even the launcher is cloned.
pub(crate) fn start(config: &Config, again: &Again, with_report: bool) -> Result<Started, isize> {
    let [ours, theirs] = call::socket_pair()?;
    let [read, write] = match if with_report { call::pipe() } else { Ok([-1, -1]) } {
        Ok(pair) => pair,
        Err(errno) => {
            call::close(ours);
            call::close(theirs);
            return Err(errno);
        }
    };
    let mut pidfd = -1;
    let pid = call::fork(&mut pidfd);
    if pid == 0 {
        launch(config, again, theirs, write);
    }
    call::close(theirs);
    call::close(write);
    if pid < 0 {
        call::close(ours);
        call::close(read);
        return Err(-pid);
    }
    Ok(Started { pidfd, control: ours, report: read })
}

/// In the child. Whatever is not in the plan's list closes with the exec.
fn launch(config: &Config, again: &Again, control: i32, report: i32) -> ! {
    call::duplicate(control, config.control_number, true);
    let mut number = config.control_number;
    if report >= 0 {
        call::duplicate(report, config.report_number, true);
        number = config.report_number;
    }
    each(config, again.keep, call::inherit);
    call::inherit(again.plan);
    call::rewind(again.plan);
    let [mut plan, mut length, mut to] = [const { Short::new() }; 3];
    plan.number(again.plan as u64);
    length.number(again.length.into());
    to.number(number as u64);
    call::execute(config.launcher, c"isolate-launcher", [plan.name(), length.name(), to.name()]);
    call::exit(127)
}

/// The descriptors of a list, one after the other: they are read where they are needed.
pub(crate) fn each(config: &Config, list: List, mut with: impl FnMut(i32)) {
    let mut n = 0;
    while n < list.count {
        let mut fd = [0u8; 4];
        if call::read_at(config.own, &mut fd, list.at as usize + 4 * n as usize) != 4 {
            return;
        }
        with(i32::from_ne_bytes(fd));
        n += 1;
    }
}

const NAME: &[u8] = b"oom_kill ";

/// `oom_kill N` of memory.events (cgroup v2) or memory.oom_control (v1); `None` where it cannot be read.
pub(crate) fn oom_kills(file: i32) -> Option<u64> {
    let mut room = [0u8; 512];
    let got = if file < 0 { -1 } else { call::read_at(file, &mut room, 0) };
    let text = room.get(..got.max(0) as usize)?;
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, digits) = line.split_at_checked(NAME.len())?;
        let same = name.iter().zip(NAME).all(|(one, other)| one == other);
        same.then(|| {
            digits.iter().fold(0u64, |value, digit| {
                value.wrapping_mul(10).wrapping_add(digit.wrapping_sub(b'0').into())
            })
        })
    })
}
