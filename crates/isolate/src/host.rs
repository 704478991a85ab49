//! What this machine can do.

use std::fmt;

use isolate_cgroups::{Availability, Controller, Controllers};
use rustix::thread::{CapabilitySet, capabilities};

use crate::pasta;
use crate::rootfs::Scratch;

/// What this machine can do, and the one line that gives what is missing.
///
/// ```
/// let host = isolate::Host::check();
/// println!("{host}");
/// for missing in host.missing() {
///     eprintln!("{}: {}", missing.what(), missing.remedy().unwrap_or("no remedy is known"));
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Host {
    findings: Vec<Finding>,
}

/// One thing that a machine has or has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    what: String,
    found: bool,
    detail: String,
    remedy: Option<String>,
}

impl Finding {
    /// What was looked for.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Whether it is there.
    #[must_use]
    pub fn is_found(&self) -> bool {
        self.found
    }

    /// What to do about it, if it is not.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    fn new(what: &str, found: bool, detail: impl Into<String>, remedy: Option<String>) -> Self {
        Self { what: what.to_owned(), found, detail: detail.into(), remedy }
    }
}

impl Host {
    /// Looks. Changes nothing, and needs no privilege; without, less is known.
    #[must_use]
    pub fn check() -> Self {
        let mut findings = vec![kernel(), privilege(), user_namespaces(), overlay(), scratch()];
        findings.extend(controllers());
        if is_root() {
            findings.extend(network());
        } else {
            findings.extend([subordinate_ids(), own_group(), connector()]);
        }
        Self { findings }
    }

    /// Everything that was looked for.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What is not there.
    pub fn missing(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| !finding.found)
    }
}

/// One line each; a remedy on a line of its own.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let found = if finding.found { "yes" } else { "no" };
            writeln!(f, "{:<24} {found:<4} {}", finding.what, finding.detail)?;
            if let Some(remedy) = &finding.remedy {
                writeln!(f, "{:<24}      -> {remedy}", "")?;
            }
        }
        Ok(())
    }
}

/// Whether this thread may make mounts, namespaces and control groups.
pub(crate) fn has_sys_admin() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Whether a container is made with root's rights, and not in a user namespace of an ordinary user's. A root without them gets an error.
pub(crate) fn is_root() -> bool {
    has_sys_admin() || rustix::process::geteuid().is_root()
}

/// How many layers a container with a user namespace of its own can have: each takes a descriptor of its launcher's, and below Linux 6.15
/// all their names must go into one value of fsconfig(2).
pub(crate) fn most_mapped_layers() -> usize {
    if version().0 >= (6, 15) { 200 } else { 80 }
}

fn version() -> ((u32, u32), String) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    ((numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)), release)
}

fn kernel() -> Finding {
    const OLDEST: (u32, u32) = (5, 15);
    let (version, release) = version();
    let found = version >= OLDEST;
    let remedy = (!found).then(|| format!("install Linux {}.{} or newer", OLDEST.0, OLDEST.1));
    Finding::new("kernel", found, release, remedy)
}

fn privilege() -> Finding {
    let found = has_sys_admin();
    let remedy = (!found).then(|| "run as root for bridges and limits without delegation".to_owned());
    Finding::new("privilege", found, format!("user {}", rustix::process::geteuid().as_raw()), remedy)
}

/// What may stand against them: user_namespaces(7), and what distributions add.
fn user_namespaces() -> Finding {
    let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
    let obstacles = [
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=10000", false),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "sysctl -w kernel.unprivileged_userns_clone=1",
            true,
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or a profile that allows them",
            true,
        ),
    ];
    let against = obstacles.iter().find(|(path, value, _, ordinary)| {
        (!ordinary || !is_root()) && read(path).is_some_and(|found| found == *value)
    });
    let detail = against.map_or(String::new(), |(path, value, ..)| format!("{path} is {value}"));
    let remedy = against.map(|(_, _, remedy, _)| (*remedy).to_owned());
    Finding::new("user namespaces", against.is_none(), detail, remedy)
}

/// Of an ordinary user: more ids than its own.
fn subordinate_ids() -> Finding {
    let found = crate::user_namespace::has_subordinate_ids();
    let remedy =
        "apt-get install uidmap; usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME";
    let detail = if found {
        "root inside, and those of subuid(5)"
    } else {
        "root inside is this user, and nobody else"
    };
    Finding::new("sub-ids", found, detail, (!found).then(|| remedy.to_owned()))
}

/// Of an ordinary user: a control group that is delegated.
fn own_group() -> Finding {
    let made = isolate_cgroups::Cgroup::create(crate::group::name("check", &crate::name::random(), false));
    let remedy = "systemd-run --user -p Delegate=yes -p DelegateSubgroup=caller PROGRAM";
    match made {
        Ok(_) => Finding::new("control group of its own", true, "limits, pause and statistics", None),
        Err(e) => Finding::new("control group of its own", false, e.to_string(), Some(remedy.to_owned())),
    }
}

/// Of an ordinary user: what connects its containers.
fn connector() -> Finding {
    let program = pasta::program();
    let detail = program.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    Finding::new("pasta", program.is_some(), detail, program.is_none().then(|| pasta::REMEDY.to_owned()))
}

fn overlay() -> Finding {
    match isolate_overlay::supported() {
        Ok(()) => Finding::new("overlay", true, "", None),
        Err(e) => Finding::new("overlay", false, e.to_string(), e.hint().map(str::to_owned)),
    }
}

fn scratch() -> Finding {
    let detail = match Scratch::choose("x", has_sys_admin()) {
        Scratch::Disk(path) | Scratch::Project(path, _) | Scratch::Limited(path, _) => {
            format!("on the disk, below {}", path.parent().unwrap_or(&path).display())
        }
        Scratch::Memory(_) => "in memory: the disk's file system cannot hold them".into(),
    };
    Finding::new("upper layers", true, detail, None)
}

fn controllers() -> Vec<Finding> {
    let controllers = match Controllers::detect() {
        Ok(controllers) => controllers,
        Err(e) => {
            return vec![Finding::new("control groups", false, e.to_string(), e.hint().map(str::to_owned))];
        }
    };
    let one = |controller: &Controller| {
        let remedy = controllers.remedy(*controller);
        let place = match (controllers.get(*controller), controllers.point(*controller)) {
            (Availability::V1, Some(point)) => format!("on cgroup v1, {}", point.display()),
            (_, Some(point)) => format!("on cgroup v2, {}", point.display()),
            (_, None) => String::new(),
        };
        Finding::new(&format!("limit {controller}"), remedy.is_none(), place, remedy)
    };
    Controller::ALL.iter().map(one).chain([devices()]).collect()
}

/// By a program of a group: it is no controller.
fn devices() -> Finding {
    match isolate_cgroups::DeviceRule::supported() {
        Ok(()) => Finding::new("limit devices", true, "by bpf(2), on cgroup v2", None),
        Err(e) => Finding::new("limit devices", false, e.to_string(), e.hint().map(str::to_owned)),
    }
}

fn network() -> Vec<Finding> {
    let found = match isolate_netns::detect() {
        Ok(found) => found,
        Err(e) => return vec![Finding::new("network", false, e.to_string(), e.hint().map(str::to_owned))],
    };
    let firewall = match (found.nf_tables, &found.iptables_restore) {
        (true, _) => "nf_tables".to_owned(),
        (false, Some(path)) => path.display().to_string(),
        (false, None) => "no firewall".to_owned(),
    };
    let remedies = found.remedies();
    let mut findings = vec![Finding::new("bridges and ports", remedies.is_empty(), firewall, None)];
    findings.extend(remedies.into_iter().map(|remedy| Finding::new("network", false, "", Some(remedy))));
    findings
}
