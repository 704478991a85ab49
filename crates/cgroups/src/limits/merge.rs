//! Limits in place of others.

use super::Limits;

impl Limits {
    /// These, and in their place those of `later` that are said there: what [`Cgroup::apply`](crate::Cgroup::apply) makes of a group that
    /// has these. Of a device or a resource that both name the later one counts.
    ///
    /// ```
    /// use isolate_cgroups::{Bytes, Limits};
    /// let limits = Limits::new().memory(Bytes::mib(64)).pids(10).and(&Limits::new().memory(Bytes::mib(128)));
    /// assert_eq!(limits, Limits::new().memory(Bytes::mib(128)).pids(10));
    /// ```
    pub fn and(mut self, later: &Self) -> Self {
        let Self {
            memory,
            memory_high,
            memory_low,
            memory_min,
            swap,
            swap_high,
            zswap,
            oom_group,
            cpus,
            cpu_burst,
            cpu_weight,
            cpu_nice,
            cpu_idle,
            cpu_clamp,
            cpuset,
            io,
            pids,
            others,
        } = later;
        replace(&mut self.memory, memory);
        replace(&mut self.memory_high, memory_high);
        replace(&mut self.memory_low, memory_low);
        replace(&mut self.memory_min, memory_min);
        replace(&mut self.swap, swap);
        replace(&mut self.swap_high, swap_high);
        replace(&mut self.zswap, zswap);
        replace(&mut self.oom_group, oom_group);
        replace(&mut self.cpus, cpus);
        replace(&mut self.cpu_burst, cpu_burst);
        // Both say the same thing of the kernel's.
        if cpu_weight.is_some() || cpu_nice.is_some() {
            (self.cpu_weight, self.cpu_nice) = (*cpu_weight, *cpu_nice);
        }
        replace(&mut self.cpu_idle, cpu_idle);
        for (old, new) in self.cpu_clamp.iter_mut().zip(cpu_clamp) {
            replace(old, new);
        }
        replace(&mut self.cpuset.cpus, &cpuset.cpus);
        replace(&mut self.cpuset.nodes, &cpuset.nodes);
        replace(&mut self.cpuset.partition, &cpuset.partition);
        replace(&mut self.io.weight, &io.weight);
        replace_each(&mut self.io.max, &io.max);
        replace_each(&mut self.io.weights, &io.weights);
        replace_each(&mut self.io.latencies, &io.latencies);
        replace(&mut self.pids, pids);
        replace_each(&mut self.others.huge, &others.huge);
        replace_each(&mut self.others.misc, &others.misc);
        replace_each(&mut self.others.rdma, &others.rdma);
        self
    }
}

fn replace<T: Clone>(old: &mut Option<T>, new: &Option<T>) {
    if new.is_some() {
        old.clone_from(new);
    }
}

fn replace_each<K: Clone + PartialEq, V: Clone>(old: &mut Vec<(K, V)>, new: &[(K, V)]) {
    old.retain(|(key, _)| new.iter().all(|(other, _)| other != key));
    old.extend(new.iter().cloned());
}

#[cfg(test)]
mod tests {
    use crate::{Bytes, IoMax, Limits};

    #[test]
    fn what_is_said_later_counts_and_the_rest_stays() {
        let slow = IoMax::new().read(Bytes::mib(1));
        let fast = IoMax::new().read(Bytes::mib(9));
        let old = Limits::new().cpus(1.0).pids(7).cpu_weight(50).io_max((8, 0), slow).io_max((8, 16), slow);
        let new = Limits::new().cpus(f64::INFINITY).cpu_nice(3).io_max((8, 0), fast);
        let both = old.clone().and(&new);
        let wanted =
            Limits::new().cpus(f64::INFINITY).pids(7).cpu_nice(3).io_max((8, 16), slow).io_max((8, 0), fast);
        assert_eq!(both, wanted);
        assert_eq!(old.clone().and(&Limits::new()), old);
    }
}
