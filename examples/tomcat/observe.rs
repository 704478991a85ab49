//! What a reader can see of the isolation, read from the kernel.

use std::error::Error;
use std::fs::{self, File};

use isolate::Container;
use isolate::namespaces::{Command, Namespace};

/// Prints it.
pub(crate) fn print(container: &Container) -> Result<(), Box<dyn Error>> {
    let pid = container.pid();
    println!("\ncontainer {}", container.name());
    println!("  its first process: pid {pid} outside, pid {} inside", inner_pid(pid)?);
    println!("  what ps shows inside:");
    for line in processes_inside(pid)?.lines() {
        println!("    {line}");
    }
    let mut hostname = Command::new("cat");
    let hostname =
        hostname.arg("/proc/sys/kernel/hostname").join(namespace(pid, Namespace::Uts)?).output()?;
    println!("  host name: {}", String::from_utf8_lossy(&hostname.stdout).trim());
    println!("  namespaces of its own: {}", own_namespaces(pid)?.join(" "));
    println!("  overlays:");
    for overlay in overlays(pid)? {
        println!("    {overlay}");
    }
    if let Some(address) = container.address() {
        println!("  address: {address} on bridge isolate0");
    }
    for publish in container.published() {
        println!("  published: {publish}");
    }
    usage(container)
}

/// The limits as the kernel has them, and the use so far.
pub(crate) fn usage(container: &Container) -> Result<(), Box<dyn Error>> {
    println!("  limits:");
    for group in container.cgroup().map(isolate::cgroups::Cgroup::paths).unwrap_or_default() {
        for file in ["memory.max", "memory.limit_in_bytes", "cpu.max", "cpu.cfs_quota_us", "pids.max"] {
            if let Ok(value) = fs::read_to_string(group.join(file)) {
                println!("    {}: {}", group.join(file).display(), value.trim());
            }
        }
    }
    let stats = container.stats()?;
    let memory = stats.memory.current.map_or("?".to_owned(), |bytes| bytes.to_string());
    let tasks = stats.pids.current.map_or("?".to_owned(), |count| count.to_string());
    println!("  used so far: {:?} processor time, {memory} memory, {tasks} tasks", stats.cpu.usage);
    Ok(())
}

/// The last number of NSpid is that in the innermost pid namespace.
fn inner_pid(pid: u32) -> Result<String, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or("?");
    Ok(line.split_whitespace().next_back().unwrap_or("?").to_owned())
}

fn namespace(pid: u32, kind: Namespace) -> Result<File, Box<dyn Error>> {
    Ok(File::open(format!("/proc/{pid}/ns/{kind}"))?)
}

/// `ps`, in the container's pid and mount namespaces; what it would read, where it is not installed.
fn processes_inside(pid: u32) -> Result<String, Box<dyn Error>> {
    let mut ps = Command::new("ps");
    ps.args(["-e", "-o", "pid,args"])
        .join(namespace(pid, Namespace::Pid)?)
        .join(namespace(pid, Namespace::Mount)?);
    if let Ok(output) = ps.output() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut seen = String::new();
    for entry in fs::read_dir(format!("/proc/{pid}/root/proc"))?.flatten() {
        if entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            let line =
                fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " ");
            seen += &format!("{:>7} {line}\n", entry.file_name().to_string_lossy());
        }
    }
    Ok(seen)
}

fn own_namespaces(pid: u32) -> Result<Vec<String>, Box<dyn Error>> {
    let mut own = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/ns"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if fs::read_link(entry.path())? != fs::read_link(format!("/proc/self/ns/{name}"))? {
            own.push(name);
        }
    }
    own.sort();
    Ok(own)
}

/// Target and layers of each overlay, from the container's mount table.
fn overlays(pid: u32) -> Result<Vec<String>, Box<dyn Error>> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let overlays = mounts.lines().filter(|line| line.contains(" - overlay "));
    Ok(overlays
        .map(|line| {
            let target = line.split(' ').nth(4).unwrap_or("?");
            let options = line.rsplit(' ').next().unwrap_or("?");
            let layers = options.split(',').filter(|option| option.contains("dir"));
            format!("{target}: {}", layers.collect::<Vec<_>>().join(" "))
        })
        .collect())
}
