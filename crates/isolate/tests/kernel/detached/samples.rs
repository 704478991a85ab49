//! What a container uses, told again and again.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use isolate::{ErrorKind, Restart, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use testkit::kernel_test;

use super::{GRACE, created, patience};
use crate::common::{NEEDS, OnDisk, sh, until};

const OFTEN: Duration = Duration::from_millis(20);

#[test]
fn there_is_one_at_once_and_one_each_interval_until_it_has_ended_for_good() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let script = "while :; do :; done";
        let busy = created(disk.sh(script).name("busy").restart(Restart::Always));
        assert_eq!(busy.stats_every(OFTEN).unwrap_err().kind(), ErrorKind::NotFound);
        busy.start().unwrap();
        let error = busy.stats_every(Duration::ZERO).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().matches("`busy`").count()),
            (ErrorKind::InvalidConfig, 1)
        );
        let late = busy.stats_every(Duration::from_secs(100)).unwrap();
        let mut samples = busy.stats_every(OFTEN).unwrap();
        let begun = Instant::now();
        let all: Vec<_> = samples.by_ref().take(6).map(|stats| stats.unwrap().cpu.usage).collect();
        assert!(begun.elapsed() >= 4 * OFTEN && all.is_sorted() && all[5] > all[0], "{all:?}");
        // Its group is the same from one run to the next.
        busy.signal(Signal::KILL).unwrap();
        let again = until(patience(), || (busy.inspect().unwrap().detached?.restarts == 1).then_some(()));
        assert!(again.is_some() && samples.next().unwrap().unwrap().cpu.usage >= all[5]);
        let reader = std::thread::spawn(move || late.map(Result::unwrap).count());
        std::thread::sleep(OFTEN);
        busy.stop(GRACE).unwrap();
        assert_eq!(reader.join().unwrap(), 1, "who waits for the next one is told of the end");
        assert!(samples.next().is_none() && samples.is_over());
        assert_eq!(samples.try_next().unwrap(), None);
        busy.remove().unwrap();
    });
}

#[test]
fn of_ones_own_it_can_be_polled() {
    kernel_test(NEEDS, || {
        let mut own = sh("exec sleep 1000").start().unwrap();
        let mut samples = own.stats_every(Duration::from_secs(100)).unwrap();
        let ready = |samples: &isolate::Samples, within| {
            let fd = samples.as_fd();
            poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&Timespec { tv_sec: within, tv_nsec: 0 }))
                .unwrap()
        };
        assert_eq!(ready(&samples, 20), 1, "the first is there at once");
        assert!(samples.try_next().unwrap().is_some());
        assert_eq!((ready(&samples, 0), samples.try_next().unwrap(), samples.is_over()), (0, None, false));
        own.kill().unwrap();
        assert_eq!(ready(&samples, 20), 1);
        assert!(samples.try_next().unwrap().is_none() && samples.is_over() && samples.next().is_none());
        own.wait().unwrap();
        own.remove().unwrap();
    });
}
