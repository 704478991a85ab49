//! What a container may use: of `update`, too.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use isolate::{Bytes, CpuSet, IoMax, Limits};

use crate::exit::{Failure, Result};

/// Docker's share of a processor that is weight 100.
const SHARES: u64 = 1024;

/// Flags of limits.
#[derive(Args, Debug)]
pub(crate) struct LimitOptions {
    /// The most memory (512m)
    #[arg(short, long, value_name = "BYTES", help_heading = "Limits")]
    memory: Option<Bytes>,
    /// The most memory and swap together; -1 for swap without a limit [default: no swap]
    #[arg(long, value_name = "BYTES", value_parser = bytes_or_none, allow_hyphen_values = true, help_heading = "Limits")]
    memory_swap: Option<Bytes>,
    /// Memory that is left to it while others have some to give
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    memory_reservation: Option<Bytes>,
    /// The most processor time, in cores (1.5)
    #[arg(long, value_name = "CORES", help_heading = "Limits")]
    cpus: Option<f64>,
    /// Its share of the processors when they are scarce; others have 1024
    #[arg(short, long, value_name = "SHARES", value_parser = clap::value_parser!(u64).range(2..=262_144), help_heading = "Limits")]
    cpu_shares: Option<u64>,
    /// The processors that it runs on (0-2,5)
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    cpuset_cpus: Option<CpuSet>,
    /// The memory nodes that it uses
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    cpuset_mems: Option<CpuSet>,
    /// The most processes and threads; -1 for no limit
    #[arg(long, value_name = "NUMBER", value_parser = tasks, allow_negative_numbers = true, help_heading = "Limits")]
    pids_limit: Option<u32>,
    /// Its share of the disks when they are busy, 10 to 1000
    #[arg(long, value_name = "WEIGHT", value_parser = clap::value_parser!(u32).range(10..=1000), help_heading = "Limits")]
    blkio_weight: Option<u32>,
    /// The most that is read of a device, in bytes a second (/dev/sda:1m)
    #[arg(long = "device-read-bps", value_name = "PATH:BYTES", value_parser = of_device::<Bytes>, help_heading = "Limits")]
    read_bps: Vec<(PathBuf, Bytes)>,
    /// The most that is written to a device, in bytes a second
    #[arg(long = "device-write-bps", value_name = "PATH:BYTES", value_parser = of_device::<Bytes>, help_heading = "Limits")]
    write_bps: Vec<(PathBuf, Bytes)>,
    /// The most operations that read of a device, a second
    #[arg(long = "device-read-iops", value_name = "PATH:NUMBER", value_parser = of_device::<u64>, help_heading = "Limits")]
    read_iops: Vec<(PathBuf, u64)>,
    /// The most operations that write to a device, a second
    #[arg(long = "device-write-iops", value_name = "PATH:NUMBER", value_parser = of_device::<u64>, help_heading = "Limits")]
    write_iops: Vec<(PathBuf, u64)>,
}

impl LimitOptions {
    /// What they say.
    pub(crate) fn limits(&self) -> Result<Limits> {
        let mut limits = Limits::new();
        if let Some(most) = self.memory {
            limits = limits.memory(most);
        }
        if let Some(both) = self.memory_swap {
            limits = limits.swap(self.swap(both)?);
        }
        if let Some(protected) = self.memory_reservation {
            limits = limits.memory_low(protected);
        }
        if let Some(cores) = self.cpus {
            limits = limits.cpus(cores);
        }
        if let Some(shares) = self.cpu_shares {
            limits =
                limits.cpu_weight(u32::try_from((shares * 100 / SHARES).clamp(1, 10_000)).unwrap_or(10_000));
        }
        let numbers =
            |set: &CpuSet| set.iter().filter_map(|number| u32::try_from(number).ok()).collect::<Vec<_>>();
        if let Some(set) = &self.cpuset_cpus {
            limits = limits.cpuset(numbers(set));
        }
        if let Some(set) = &self.cpuset_mems {
            limits = limits.memory_nodes(numbers(set));
        }
        if let Some(most) = self.pids_limit {
            limits = limits.pids(most);
        }
        if let Some(weight) = self.blkio_weight {
            // 10 to 1000 of cgroup v1, 1 to 10,000 of v2: as runc has it.
            limits = limits.io_weight(1 + (weight - 10) * 9999 / 990);
        }
        Ok(self
            .devices()
            .into_iter()
            .fold(limits, |limits, (path, most)| limits.io_max(path.as_path(), most)))
    }

    /// What is beyond memory.
    fn swap(&self, both: Bytes) -> Result<Bytes> {
        let wrong = |what: &str| Err(Failure::new(format!("--memory-swap {both}: {what}")));
        match self.memory {
            _ if both == Bytes::UNLIMITED => Ok(both),
            Some(memory) => match both.get().checked_sub(memory.get()) {
                Some(swap) => Ok(Bytes::new(swap)),
                None => wrong("it is memory and swap together, so at least --memory"),
            },
            None => wrong("it is memory and swap together, so say --memory too"),
        }
    }

    /// One value a device, since the kernel takes all four together.
    fn devices(&self) -> BTreeMap<&PathBuf, IoMax> {
        let mut all = BTreeMap::<&PathBuf, IoMax>::new();
        let mut put = |path, set: &dyn Fn(IoMax) -> IoMax| {
            let most = all.entry(path).or_default();
            *most = set(*most);
        };
        self.read_bps.iter().for_each(|(path, bytes)| put(path, &|most| most.read(*bytes)));
        self.write_bps.iter().for_each(|(path, bytes)| put(path, &|most| most.write(*bytes)));
        self.read_iops.iter().for_each(|(path, number)| put(path, &|most| most.read_operations(*number)));
        self.write_iops.iter().for_each(|(path, number)| put(path, &|most| most.write_operations(*number)));
        all
    }
}

fn bytes_or_none(text: &str) -> Result<Bytes, String> {
    match text {
        "-1" => Ok(Bytes::UNLIMITED),
        text => text.parse().map_err(|e: isolate::cgroups::Error| e.to_string()),
    }
}

fn tasks(text: &str) -> Result<u32, String> {
    match text {
        "-1" | "0" => Ok(u32::MAX),
        text => text.parse().map_err(|_| format!("`{text}` is no number of tasks")),
    }
}

/// `/dev/sda:1m`; the path may have colons.
fn of_device<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<(PathBuf, T), String> {
    let (path, value) = text.rsplit_once(':').ok_or("write it like /dev/sda:1000")?;
    value.parse().map(|value| (path.into(), value)).map_err(|e| format!("{e}"))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::options::tests::{refused, with};

    fn same(flags: &[&str], wanted: &Limits) {
        assert_eq!(with(flags)["limits"], serde_json::to_value(wanted).unwrap(), "{flags:?}");
    }

    #[test]
    fn limits_are_what_was_said() {
        same(&["-m", "512m"], &Limits::new().memory(Bytes::mib(512)));
        same(
            &["--memory", "1g", "--memory-swap", "3g"],
            &Limits::new().memory(Bytes::gib(1)).swap(Bytes::gib(2)),
        );
        same(&["--memory-swap", "-1"], &Limits::new().swap(Bytes::UNLIMITED));
        same(&["--memory-swap=-1"], &Limits::new().swap(Bytes::UNLIMITED));
        same(&["--memory-reservation", "1m"], &Limits::new().memory_low(Bytes::mib(1)));
        same(&["--cpus", "1.5", "--pids-limit", "64"], &Limits::new().cpus(1.5).pids(64));
        same(&["--pids-limit", "-1"], &Limits::new().pids(u32::MAX));
        same(&["--cpuset-cpus", "0-2,5"], &Limits::new().cpuset([0, 1, 2, 5]));
        same(&["--cpuset-mems", "0"], &Limits::new().memory_nodes([0]));
    }

    #[test]
    fn shares_and_weights_are_turned_into_those_of_cgroup_v2() {
        same(&["-c", "1024"], &Limits::new().cpu_weight(100));
        same(&["--cpu-shares", "512"], &Limits::new().cpu_weight(50));
        same(&["--cpu-shares", "2"], &Limits::new().cpu_weight(1));
        same(&["--cpu-shares", "262144"], &Limits::new().cpu_weight(10_000));
        same(&["--blkio-weight", "10"], &Limits::new().io_weight(1));
        same(&["--blkio-weight", "1000"], &Limits::new().io_weight(10_000));
    }

    #[test]
    fn limits_of_one_device_are_one_value() {
        let disk = IoMax::new().read(Bytes::mib(1)).write(Bytes::mib(2)).write_operations(7);
        let other = IoMax::new().read_operations(9);
        let wanted = Limits::new().io_max("/dev/a", disk).io_max("/dev/b:c", other);
        same(
            &[
                "--device-read-bps",
                "/dev/a:1mb",
                "--device-write-iops",
                "/dev/a:7",
                "--device-read-iops",
                "/dev/b:c:9",
                "--device-write-bps",
                "/dev/a:2m",
            ],
            &wanted,
        );
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        assert!(refused(&["-m", "much"]).contains("much"));
        assert!(refused(&["--memory-swap", "1g"]).contains("say --memory too"));
        assert!(refused(&["-m", "2g", "--memory-swap", "1g"]).contains("at least --memory"));
        assert!(refused(&["--pids-limit", "some"]).contains("some"));
        assert!(refused(&["--cpu-shares", "1"]).contains("2..=262144"));
        assert!(refused(&["--device-read-bps", "/dev/a"]).contains("/dev/sda:1000"));
        assert_eq!(with(&[])["limits"]["memory"], Value::Null);
    }
}
