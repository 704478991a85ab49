//! From limits to the files of cgroup v2: Documentation/admin-guide/cgroup-v2.rst.

use std::borrow::Cow;

use crate::cpu::share_us;
use crate::limits::{cpuset, others};
use crate::setting::{Absent, Held, Setting};
use crate::{Bytes, Controller, Limits, Result, swap};

/// For one controller, in the order in which they are written.
pub(crate) fn of(limits: &Limits, controller: Controller) -> Result<Vec<Setting>> {
    let mut list = List { controller, settings: Vec::new() };
    match controller {
        Controller::Memory => memory(limits, &mut list),
        Controller::Cpu => cpu(limits, &mut list),
        Controller::Cpuset => cpuset(limits, &mut list),
        Controller::Io => io(limits, &mut list)?,
        Controller::Pids => pids(limits, &mut list),
        Controller::Hugetlb => huge(limits, &mut list),
        Controller::Misc | Controller::Rdma => by_name(limits, &mut list),
        Controller::Freezer | Controller::Kill | Controller::OomGroup => {}
    }
    Ok(list.settings)
}

/// What the limits want, in the order in which it is written: memory last, since a smaller limit may kill, and what is refused later
/// cannot bring anybody back.
pub(crate) fn controllers(limits: &Limits) -> impl Iterator<Item = Controller> {
    const ORDER: [Controller; 8] = [
        Controller::Cpuset,
        Controller::Cpu,
        Controller::Io,
        Controller::Pids,
        Controller::Hugetlb,
        Controller::Misc,
        Controller::Rdma,
        Controller::Memory,
    ];
    ORDER.into_iter().filter(|controller| limits.want(*controller))
}

struct List {
    controller: Controller,
    settings: Vec<Setting>,
}

impl List {
    fn add(&mut self, file: impl Into<Cow<'static, str>>, value: String, held: Held, wants: &'static str) {
        self.settings.push(Setting {
            controller: self.controller,
            file: file.into(),
            value,
            held,
            absent: Absent::Wants(wants),
            refused: None,
        });
    }

    fn bytes(
        &mut self,
        file: impl Into<Cow<'static, str>>,
        value: Option<Bytes>,
        page: u64,
        wants: &'static str,
    ) {
        if let Some(value) = value {
            let text = if value == Bytes::UNLIMITED { "max".to_owned() } else { value.get().to_string() };
            self.add(file, text, Held::Bytes(value, page), wants);
        }
    }
}

const MEMORY: &str = "use a kernel with CONFIG_MEMCG";

fn memory(limits: &Limits, list: &mut List) {
    if let Some(whole) = limits.oom_group {
        list.add(
            "memory.oom.group",
            u8::from(whole).to_string(),
            Held::Exactly,
            "memory.oom.group needs Linux 4.19",
        );
    }
    list.bytes("memory.min", limits.memory_min, 0, MEMORY);
    list.bytes("memory.low", limits.memory_low, 0, MEMORY);
    list.bytes("memory.zswap.max", limits.zswap, 0, "memory.zswap.max needs Linux 5.19 with CONFIG_ZSWAP");
    list.bytes("memory.swap.high", limits.swap_high, 0, "memory.swap.high needs Linux 5.8 with CONFIG_SWAP");
    // Before memory: what is reclaimed for the new limit must not move to swap.
    list.bytes("memory.swap.max", swap::wanted(limits), 0, MEMORY);
    if let Some(swap) = list.settings.last_mut().filter(|last| last.file == "memory.swap.max") {
        swap.absent = Absent::Swap(limits.get_swap());
    }
    list.bytes("memory.high", limits.memory_high, 0, MEMORY);
    list.bytes("memory.max", limits.memory, 0, MEMORY);
}

fn cpu(limits: &Limits, list: &mut List) {
    const BANDWIDTH: &str = "this kernel has no processor limits: CONFIG_CFS_BANDWIDTH";
    const CLAMP: &str = "cpu.uclamp needs Linux 5.4 with CONFIG_UCLAMP_TASK_GROUP";
    const FAIR: &str = "use a kernel with CONFIG_FAIR_GROUP_SCHED";
    if let Some(idle) = limits.cpu_idle {
        list.add("cpu.idle", u8::from(idle).to_string(), Held::Exactly, "cpu.idle needs Linux 5.15");
    }
    if let Some(weight) = limits.cpu_weight {
        list.add("cpu.weight", weight.to_string(), Held::Exactly, FAIR);
    }
    if let Some(nice) = limits.cpu_nice {
        list.add("cpu.weight.nice", nice.to_string(), Held::Derived("cpu.weight"), FAIR);
    }
    if let Some(cores) = limits.cpus {
        let value = match cores == f64::INFINITY {
            true => "max 100000".to_owned(),
            false => {
                let (share, period) = share_us(cores);
                format!("{share} {period}")
            }
        };
        list.add("cpu.max", value, Held::Exactly, BANDWIDTH);
    }
    if let Some(burst) = limits.cpu_burst {
        let wants = "cpu.max.burst needs Linux 5.14 with CONFIG_CFS_BANDWIDTH";
        list.add("cpu.max.burst", burst.as_micros().to_string(), Held::Exactly, wants);
    }
    let [least, most] = limits.cpu_clamp;
    // The higher one first: at no moment may they cross.
    for (file, clamp) in [("cpu.uclamp.max", most), ("cpu.uclamp.min", least)] {
        if let Some(clamp) = clamp {
            let value = if file == "cpu.uclamp.max" && clamp == 100.0 {
                "max".to_owned()
            } else {
                format!("{clamp:.2}")
            };
            list.add(file, value, Held::Exactly, CLAMP);
        }
    }
}

fn cpuset(limits: &Limits, list: &mut List) {
    const WANTS: &str = "use a kernel with CONFIG_CPUSETS";
    for (file, set) in [("cpuset.cpus", &limits.cpuset.cpus), ("cpuset.mems", &limits.cpuset.nodes)] {
        if let Some(set) = set {
            list.add(file, cpuset::list(set), Held::Exactly, WANTS);
        }
    }
    if let Some(partition) = limits.cpuset.partition {
        list.add("cpuset.cpus.partition", partition.name().to_owned(), Held::Exactly, WANTS);
    }
}

fn io(limits: &Limits, list: &mut List) -> Result<()> {
    const THROTTLE: &str = "use a kernel with CONFIG_BLK_DEV_THROTTLING";
    const COST: &str = "use a kernel with CONFIG_BLK_CGROUP_IOCOST, or the scheduler bfq";
    const LATENCY: &str = "use a kernel with CONFIG_BLK_CGROUP_IOLATENCY";
    let number = |device: &crate::Device| device.resolve().map(|(major, minor)| format!("{major}:{minor}"));
    for (device, max) in &limits.io.max {
        let value = format!("{} {}", number(device)?, max.words().join(" "));
        list.add("io.max", value, Held::Line("rbps=max wbps=max riops=max wiops=max"), THROTTLE);
    }
    if let Some(weight) = limits.io.weight {
        list.add("io.weight", format!("default {weight}"), Held::Line("100"), COST);
    }
    for (device, weight) in &limits.io.weights {
        list.add("io.weight", format!("{} {weight}", number(device)?), Held::Line("default"), COST);
    }
    for (device, target) in &limits.io.latencies {
        let value = format!("{} target={}", number(device)?, target.as_micros());
        list.add("io.latency", value, Held::Line("target=0"), LATENCY);
    }
    Ok(())
}

fn pids(limits: &Limits, list: &mut List) {
    if let Some(most) = limits.pids {
        let value = if most == u32::MAX { "max".to_owned() } else { most.to_string() };
        list.add("pids.max", value, Held::Exactly, "use a kernel with CONFIG_CGROUP_PIDS");
    }
}

fn huge(limits: &Limits, list: &mut List) {
    for (size, most) in &limits.others.huge {
        let file = format!("hugetlb.{}.max", others::page(*size));
        list.bytes(
            file,
            Some(*most),
            size.get(),
            "this machine has no huge pages of that size: see /sys/kernel/mm/hugepages",
        );
    }
}

fn by_name(limits: &Limits, list: &mut List) {
    let most = |most: u64, none: u64| if most == none { "max".to_owned() } else { most.to_string() };
    if list.controller == Controller::Misc {
        for (name, value) in &limits.others.misc {
            let value = format!("{name} {}", most(*value, u64::MAX));
            list.add("misc.max", value, Held::Line("max"), "misc needs Linux 5.13 with CONFIG_CGROUP_MISC");
        }
        return;
    }
    for (device, [handles, objects]) in &limits.others.rdma {
        let [handles, objects] = [handles, objects].map(|value| most((*value).into(), u32::MAX.into()));
        let value = format!("{device} hca_handle={handles} hca_object={objects}");
        list.add(
            "rdma.max",
            value,
            Held::Line("hca_handle=max hca_object=max"),
            "use a kernel with CONFIG_CGROUP_RDMA",
        );
    }
}
