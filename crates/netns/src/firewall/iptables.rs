//! The same rules by `iptables-restore`, for kernels without nf_tables and for who asks for it.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

use super::save::{Kept, Model};
use super::{BridgeRules, Forward, Problem, Version, foreign, nf_tables, taken};
use crate::home::Home;
use crate::{Cidr, Error, ErrorKind, Result};

/// Where programs of this kind are installed. The environment has no say.
const DIRECTORIES: [&str; 5] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"];
/// An abstract socket belongs to its network namespace, as the rules do, and goes with its process: a lock that
/// nobody can leave behind (unix(7)).
const LOCK: &[u8] = b"isolate-netns-iptables";
const PATIENCE: Duration = Duration::from_secs(30);

/// Names of the programs: what writes, and what reads.
const fn programs(version: Version) -> (&'static str, &'static str) {
    match version {
        Version::Four => ("iptables-restore", "iptables-save"),
        Version::Six => ("ip6tables-restore", "ip6tables-save"),
    }
}

/// `iptables-restore`, if it is installed.
pub(crate) fn program() -> Option<PathBuf> {
    installed(programs(Version::Four).0)
}

pub(super) fn add(home: &Home, bridge: &BridgeRules) -> Result<()> {
    write(home, bridge, false)
}

/// Adds or completes the rules of a bridge; anew, if they are to be `repaired`.
fn write(home: &Home, bridge: &BridgeRules, repaired: bool) -> Result<()> {
    change(home, repaired, |model| {
        let known = model.bridges.iter().position(|known| known.name == bridge.name);
        let known = known.map(|place| model.bridges.remove(place));
        let had = |flag: fn(&BridgeRules) -> bool| known.as_ref().is_some_and(flag);
        model.bridges.push(BridgeRules {
            outgoing: bridge.outgoing || had(|known| known.outgoing),
            host: bridge.host || had(|known| known.host),
            names: bridge.names || had(|known| known.names),
            ..bridge.clone()
        });
        Ok(())
    })?;
    match nf_tables::available(home)? {
        true => foreign::let_pass(home, bridge, super::Firewall::Iptables.jumps()),
        false => Ok(()),
    }
}

pub(super) fn knows(home: &Home, bridge: &str) -> Result<bool> {
    Ok(read(home)?.is_some_and(|model| model.bridges.iter().any(|known| known.name == bridge)))
}

pub(super) fn remove(home: &Home, bridge: &str, networks: &[Cidr]) -> Result<()> {
    if nf_tables::available(home)? {
        foreign::stop_passing(home, bridge)?;
        nf_tables::remove_guards(home, networks)?;
    }
    change(home, false, |model| {
        model.bridges.retain(|known| known.name != bridge);
        let inside = |forward: &Forward| networks.iter().any(|network| network.contains(forward.container));
        model.forwards.retain(|forward| !inside(forward));
        Ok(())
    })
}

pub(super) fn publish(home: &Home, forwards: &[Forward]) -> Result<()> {
    change(home, false, |model| {
        for forward in forwards {
            match model.forwards.iter().find(|other| other.same_host_side(forward)) {
                Some(other) => return Err(taken(forward, Some(*other))),
                // As with nf_tables when its table is gone.
                None if model.bridges.is_empty() => {
                    return Err(Error::os("iptables chains ISOLATE-*", libc::ENOENT));
                }
                None => model.forwards.push(*forward),
            }
        }
        Ok(())
    })
}

pub(super) fn unpublish(home: &Home, forwards: &[Forward]) -> Result<()> {
    change(home, false, |model| {
        model.forwards.retain(|forward| !forwards.contains(forward));
        Ok(())
    })
}

pub(super) fn published(home: &Home) -> Result<Vec<Forward>> {
    Ok(read(home)?.map(|model| model.forwards).unwrap_or_default())
}

/// What is missing of the chains.
pub(super) fn check(home: &Home, bridge: &BridgeRules) -> Result<Vec<Problem>> {
    home.inside(|| {
        let mut model = Model::default();
        let four = model.parse(&run(programs(Version::Four).1, &[], "")?);
        let kept6 = match bridge.networks.len() {
            1 => None,
            _ => Some(model.parse(&run(programs(Version::Six).1, &[], "")?)),
        };
        if !model.bridges.iter().any(|known| known.name == bridge.name) {
            return Ok(vec![Problem::Missing(format!(
                "the rules of bridge {} in the iptables chains",
                bridge.name
            ))]);
        }
        let mut missing = model.missing(Version::Four, &four);
        missing.extend(kept6.into_iter().flat_map(|kept| model.missing(Version::Six, &kept)));
        Ok(missing.into_iter().map(Problem::Missing).collect())
    })?
}

/// Writes the chains anew, with all that is known of this bridge.
pub(super) fn repair(home: &Home, bridge: &BridgeRules, forwards: &[Forward]) -> Result<()> {
    write(home, bridge, true)?;
    change(home, false, |model| {
        let missing = forwards.iter().filter(|forward| !model.forwards.contains(forward)).copied();
        let missing: Vec<_> = missing.collect();
        model.forwards.extend(missing);
        Ok(())
    })
}

/// Reads our chains, lets `f` change what they stand for, and writes them if that differs, or if they are to be `repaired`, with nobody
/// else in between.
fn change(home: &Home, repaired: bool, f: impl FnOnce(&mut Model) -> Result<()> + Send) -> Result<()> {
    home.inside(|| {
        let _locked = lock()?;
        let (mut before, mut kept) = (Model::default(), [Kept::default(), Kept::default()]);
        kept[0] = before.parse(&run(programs(Version::Four).1, &[], "")?);
        if before.has(Version::Six) {
            kept[1] = before.parse(&run(programs(Version::Six).1, &[], "")?);
        }
        let mut after = before.clone();
        f(&mut after)?;
        if after == before && !repaired {
            return Ok(());
        }
        if after.has(Version::Six) && !before.has(Version::Six) {
            // Who was killed while it made the first may have left something.
            kept[1] = Model::default().parse(&run(programs(Version::Six).1, &[], "")?);
        }
        // A bridge is known by the first: what it has of IPv6 goes before it, and comes before it.
        for (version, kept) in [(Version::Six, &kept[1]), (Version::Four, &kept[0])] {
            if version == Version::Four || before.has(version) || after.has(version) {
                let input = after.restore(version, kept);
                run(programs(version).0, &["--noflush", "--wait", "10"], &input)?;
            }
        }
        Ok(())
    })?
}

/// Our chains; `None` where iptables is not installed.
fn read(home: &Home) -> Result<Option<Model>> {
    if installed(programs(Version::Four).1).is_none() {
        return Ok(None);
    }
    home.inside(|| {
        let mut model = Model::default();
        model.parse(&run(programs(Version::Four).1, &[], "")?);
        if model.has(Version::Six) {
            model.parse(&run(programs(Version::Six).1, &[], "")?);
        }
        Ok(Some(model))
    })?
}

fn lock() -> Result<OwnedFd> {
    let failed =
        |errno: rustix::io::Errno| Error::os("the lock on the iptables chains", errno.raw_os_error());
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).map_err(failed)?;
    let address = SocketAddrUnix::new_abstract_name(LOCK).map_err(failed)?;
    let begun = Instant::now();
    loop {
        match bind(&socket, &address) {
            Err(rustix::io::Errno::ADDRINUSE) if begun.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(2))
            }
            result => return result.map(|()| socket).map_err(failed),
        }
    }
}

fn installed(program: &str) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|directory| Path::new(directory).join(program)).find(|path| path.exists())
}

/// Runs a program in the calling thread's namespace, with no environment but a path.
fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let path = installed(program).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, format!("{program}: not installed"))
            .with_hint("install iptables, or load nf_tables and use Firewall::NfTables")
    })?;
    let failed = |error: std::io::Error| Error::io(path.display().to_string(), &error);
    let mut child = spawn(&path, arguments).map_err(failed)?;
    let (mut output, mut complaint) = (String::new(), String::new());
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says why on its standard error.
        stdin.write_all(input.as_bytes()).ok();
    }
    child.stdout.take().map(|mut stdout| stdout.read_to_string(&mut output)).transpose().map_err(failed)?;
    child
        .stderr
        .take()
        .map(|mut stderr| stderr.read_to_string(&mut complaint))
        .transpose()
        .map_err(failed)?;
    match child.wait().map_err(failed)?.success() {
        true => Ok(output),
        false => Err(complaint_of(program, complaint.trim())),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "iptables-restore and -save are the only programs this crate runs, where nf_tables is missing or they are asked for"
)]
fn spawn(path: &Path, arguments: &[&str]) -> std::io::Result<Child> {
    let mut command = std::process::Command::new(path);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

fn complaint_of(program: &str, complaint: &str) -> Error {
    let first = complaint.lines().next().unwrap_or("it failed without a word");
    let error = match first.to_lowercase() {
        text if text.contains("permission denied") || text.contains("operation not permitted") => {
            Error::os(format!("{program}: {first}"), libc::EPERM)
        }
        _ => Error::new(ErrorKind::Kernel, format!("{program}: {first}")),
    };
    match error.hint() {
        None => {
            error.with_hint("the kernel may lack ip_tables, or the matches addrtype, conntrack and comment")
        }
        Some(_) => error,
    }
}
