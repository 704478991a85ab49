//! A state from its text: a line `key value` each.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use super::state::{Health, KeptEnd, KeptState, KeptStatus};
use crate::{Error, Result};

/// From what is in the file `state`. Keys that are not known are passed over, as are values that make no sense; keys that
/// are not there have the values of a program that has just been started.
///
/// ```
/// use isolate_namespaces::{KeptEnd, KeptState, KeptStatus};
/// let text = "status exited\nstarted 1500000000.5\nended 1500000002.000000000\ncode 3\nnew-key 1\n";
/// let state: KeptState = text.parse()?;
/// assert_eq!((state.status, state.end), (KeptStatus::Exited, Some(KeptEnd::Code(3))));
/// # Ok::<(), isolate_namespaces::Error>(())
/// ```
///
/// # Errors
///
/// There is no status in it.
impl FromStr for KeptState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut status = None;
        let mut failed = (None, None);
        let mut state = Self {
            status: KeptStatus::Lost,
            pid: None,
            terminal: false,
            restarts: 0,
            health: None,
            failing: 0,
            started: SystemTime::UNIX_EPOCH,
            ended: None,
            end: None,
            oom_kills: 0,
            timed_out: false,
            user: Duration::ZERO,
            system: Duration::ZERO,
            max_rss: 0,
            stopped: false,
            dropped: 0,
        };
        for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            let number = value.parse::<u64>().ok();
            let small = value.parse::<i32>().ok();
            let count = number.unwrap_or(0);
            match key {
                "status" => {
                    status = match value {
                        "running" => Some(KeptStatus::Running),
                        "restarting" => Some(KeptStatus::Restarting),
                        "exited" => Some(KeptStatus::Exited),
                        _ => None,
                    }
                }
                "pid" => state.pid = value.parse().ok(),
                "terminal" => state.terminal = count == 1,
                "restarts" => state.restarts = count,
                "health" => {
                    state.health = match value {
                        "starting" => Some(Health::Starting),
                        "healthy" => Some(Health::Healthy),
                        "unhealthy" => Some(Health::Unhealthy),
                        _ => None,
                    }
                }
                "failing" => state.failing = count,
                "started" => state.started = moment(value).unwrap_or(SystemTime::UNIX_EPOCH),
                "ended" => state.ended = moment(value),
                "code" => state.end = small.map(KeptEnd::Code).or(state.end),
                "signal" => state.end = small.map(KeptEnd::Signal).or(state.end),
                "lost" => state.end = Some(KeptEnd::Lost),
                "step" => failed.0 = value.parse().ok(),
                "errno" => failed.1 = small,
                "oom_kills" => state.oom_kills = count,
                "timed_out" => state.timed_out = count == 1,
                "user_us" => state.user = Duration::from_micros(count),
                "system_us" => state.system = Duration::from_micros(count),
                "max_rss" => state.max_rss = count,
                "stopped" => state.stopped = count == 1,
                "dropped" => state.dropped = count,
                _ => {}
            }
        }
        if let (Some(step), Some(errno)) = failed {
            state.end = Some(KeptEnd::Failed { step, errno });
        }
        state.status = status.ok_or_else(|| Error::invalid("a state of a keeper without a status"))?;
        Ok(state)
    }
}

/// `SECONDS.NANOSECONDS` since 1970.
fn moment(value: &str) -> Option<SystemTime> {
    let (seconds, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = fraction.get(..fraction.len().min(9))?;
    let ns = if digits.is_empty() { 0 } else { digits.parse::<u32>().ok()? };
    let ns = ns.checked_mul(10u32.pow(9 - digits.len() as u32))?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds.parse().ok()?, ns))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: &str = "status running\npid 17\nterminal 1\nrestarts 2\nhealth unhealthy\nfailing 3\n\
        started 1475713037.669794202\nsignal 9\nended 1475713036.5\noom_kills 1\ntimed_out 1\nuser_us 1500000\n\
        system_us 7\nmax_rss 4096\nstopped 1\ndropped 11\n";

    #[test]
    fn each_key_is_read() {
        let state: KeptState = WHOLE.parse().unwrap();
        assert_eq!((state.status, state.pid, state.terminal), (KeptStatus::Running, Some(17), true));
        assert_eq!((state.restarts, state.health, state.failing), (2, Some(Health::Unhealthy), 3));
        assert_eq!((state.end, state.oom_kills, state.timed_out), (Some(KeptEnd::Signal(9)), 1, true));
        assert_eq!((state.user, state.system), (Duration::from_millis(1500), Duration::from_micros(7)));
        assert_eq!((state.max_rss, state.stopped, state.dropped), (4096, true, 11));
        let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(since(state.started), Duration::new(1_475_713_037, 669_794_202));
        assert_eq!(state.ended.map(since), Some(Duration::new(1_475_713_036, 500_000_000)));
        let failed: KeptState = "status exited\nstep 4\nerrno 2".parse().unwrap();
        assert_eq!(failed.end, Some(KeptEnd::Failed { step: 4, errno: 2 }));
        assert!("pid 1\n".parse::<KeptState>().is_err() && "".parse::<KeptState>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_state_or_an_error(text in "(?s).{0,200}") {
            text.parse::<KeptState>().ok();
        }

        #[test]
        fn any_values_are_a_state(
            key in prop::sample::select(vec!["pid", "started", "ended", "code", "step", "errno", "max_rss", "new"]),
            value in "[0-9.é+-]{0,40}",
        ) {
            let text = format!("{key} {value}\nstatus exited\n{key}");
            prop_assert!(text.parse::<KeptState>().is_ok());
        }
    }
}
