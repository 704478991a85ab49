//! Virtual machines without KVM: a real kernel, the host's files read-only, cgroup v2 with every controller.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::kernel;
use crate::shell::{Result, command};

/// How a job in a virtual machine went.
pub(crate) struct Outcome {
    /// Its status; `None` if the machine did not get that far.
    pub status: Option<i32>,
    /// What it printed.
    pub output: String,
    /// It was ended for its time.
    pub late: bool,
}

/// For developers: prints what the command prints.
pub(crate) fn command_line(version: &str, argv: &[&str]) -> Result<bool> {
    let quoted: Vec<_> = argv.iter().map(|arg| format!("'{}'", arg.replace('\'', r"'\''"))).collect();
    let job = format!("cd '{}'\nexec {}\n", std::env::current_dir()?.display(), quoted.join(" "));
    let outcome = run(version, &job, Duration::from_secs(3600), true)?;
    Ok(outcome.status == Some(0))
}

/// Runs a shell script as root on this kernel.
pub(crate) fn run(version: &str, job: &str, limit: Duration, live: bool) -> Result<Outcome> {
    let cache = kernel::get(version)?;
    let place = Scratch::new()?;
    fs::write(place.0.join("job"), job)?;
    for file in ["output", "status", "log"] {
        File::create(place.0.join(file))?;
    }
    let mut machine = start(&cache, &place.0)?;
    let end = Instant::now() + limit;
    let mut printed = File::open(place.0.join("output"))?;
    let mut output = Vec::new();
    let mut late = false;
    loop {
        let ended = machine.try_wait()?.is_some();
        let before = output.len();
        printed.read_to_end(&mut output)?;
        if live {
            std::io::stdout().write_all(&output[before..])?;
        }
        if ended {
            break;
        }
        if Instant::now() > end {
            late = true;
            machine.kill()?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = fs::read_to_string(place.0.join("status"))?;
    let status = status.lines().find_map(|line| line.strip_prefix("status ")?.parse().ok());
    let mut output = String::from_utf8_lossy(&output).into_owned();
    if status.is_none() {
        let why = if late { "it took too long" } else { "it ended early" };
        output += &format!("\nvirtual machine {version}: {why}\n{}", tail(&place.0.join("log")));
    }
    Ok(Outcome { status, output, late })
}

fn start(cache: &Path, place: &Path) -> Result<Child> {
    let relative = |path: &Path| path.display().to_string().trim_start_matches('/').to_owned();
    let append = format!(
        "console=ttyS0 quiet panic=-1 oops=panic reboot=t mitigations=off nokaslr tsc=reliable random.trust_cpu=on audit=0 \
         lsm=landlock,bpf cryptomgr.notests=1 cgroup_no_v1=all isolate.job={} isolate.cache={}",
        relative(&place.join("job")),
        relative(cache),
    );
    let file = |name: &str| format!("file,id={name},path={}", place.join(name).display());
    let (kernel, initramfs) = (cache.join("vmlinux"), cache.join("initramfs"));
    let mut qemu = command(&["qemu-system-x86_64"]);
    qemu.args([
        "-accel",
        "tcg,thread=multi,tb-size=256",
        "-M",
        "pc,hpet=off,smm=off,vmport=off,usb=off",
        "-cpu",
        "max",
    ])
    .args([
        "-smp",
        "1",
        "-m",
        "3G",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-monitor",
        "none",
    ])
    .arg("-kernel")
    .arg(kernel)
    .arg("-initrd")
    .arg(initramfs)
    .args(["-chardev", &file("log"), "-serial", "chardev:log"])
    .args(["-fsdev", "local,id=host,path=/,readonly=on,security_model=passthrough,multidevs=remap"])
    .args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=host", "-device", "virtio-serial-pci"])
    .args(["-chardev", &file("output"), "-device", "virtserialport,chardev=output,name=output"])
    .args(["-chardev", &file("status"), "-device", "virtserialport,chardev=status,name=status"])
    .args(["-append", &append])
    .stdin(Stdio::null())
    .stdout(Stdio::null())
    .stderr(File::create(place.join("qemu"))?);
    Ok(qemu.spawn().map_err(|e| format!("qemu-system-x86_64: {e}"))?)
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// A directory that goes with the machine. Not below /run, which the guest has of its own.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("vm-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = crate::cache::directory().join(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
