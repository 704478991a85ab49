//! Limits in words.

use std::fmt;

use super::{Limits, cpuset};

impl Limits {
    /// Each limit that is said: what it limits, and to what.
    ///
    /// ```
    /// use isolate_cgroups::{Bytes, Limits};
    ///
    /// let limits = Limits::new().memory(Bytes::mib(64)).pids(7);
    /// assert_eq!(limits.words().collect::<Vec<_>>().len(), 2);
    /// assert_eq!(limits.to_string(), "memory: 64 MiB, tasks: 7");
    /// ```
    pub fn words(&self) -> impl Iterator<Item = (String, String)> {
        let mut all: Vec<(String, Option<String>)> = vec![
            ("memory".into(), text(self.memory)),
            ("memory before it is slowed down".into(), text(self.memory_high)),
            ("protected memory".into(), text(self.memory_low)),
            ("memory that is never reclaimed".into(), text(self.memory_min)),
            ("swap beyond memory".into(), text(self.swap)),
            ("swap before it is slowed down".into(), text(self.swap_high)),
            ("compressed swap".into(), text(self.zswap)),
            (
                "end for want of memory".into(),
                self.oom_group.map(|whole| if whole { "all" } else { "one" }.into()),
            ),
            ("processor time".into(), self.cpus.map(|cores| format!("{cores} cores"))),
            ("saved processor time".into(), self.cpu_burst.map(|burst| format!("{burst:?}"))),
            ("processor weight".into(), text(self.cpu_weight)),
            ("processor weight as a nice value".into(), text(self.cpu_nice)),
            ("processor, when nobody else wants it".into(), text(self.cpu_idle)),
        ];
        if let [Some(least), Some(most)] = self.cpu_clamp {
            all.push(("processor capacity".into(), Some(format!("{least} to {most} %"))));
        }
        all.push(("processors".into(), self.cpuset.cpus.as_ref().map(cpuset::list)));
        all.push(("memory nodes".into(), self.cpuset.nodes.as_ref().map(cpuset::list)));
        all.push((
            "processors' partition".into(),
            self.cpuset.partition.map(|partition| partition.name().into()),
        ));
        all.push(("weight on devices".into(), text(self.io.weight)));
        let a_second = |(device, max): &(super::Device, super::IoMax)| {
            (format!("use of {device} a second"), Some(max.words().join(" ")))
        };
        all.extend(self.io.max.iter().map(a_second));
        all.extend(
            self.io
                .weights
                .iter()
                .map(|(device, weight)| (format!("weight on {device}"), text(Some(weight)))),
        );
        let latency = |(device, target): &(super::Device, std::time::Duration)| {
            (format!("latency of {device}"), Some(format!("{target:?}")))
        };
        all.extend(self.io.latencies.iter().map(latency));
        all.push(("tasks".into(), text(self.pids)));
        let huge = self.others.huge.iter();
        all.extend(huge.map(|(size, most)| (format!("huge pages of {size}"), text(Some(most)))));
        all.extend(self.others.misc.iter().map(|(name, most)| (name.clone(), text(Some(most)))));
        let rdma = self.others.rdma.iter();
        all.extend(rdma.map(|(name, [handles, objects])| {
            (name.clone(), Some(format!("{handles} handles, {objects} objects")))
        }));
        all.into_iter().filter_map(|(what, value)| Some((what, value?)))
    }
}

fn text(value: Option<impl fmt::Display>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// `memory: 64 MiB, tasks: 7`.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.words().map(|(what, value)| format!("{what}: {value}")).collect();
        f.write_str(&words.join(", "))
    }
}
