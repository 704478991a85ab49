//! The same rules by `iptables-restore`, for kernels without nf_tables and for who asks for it.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

use super::save::Model;
use super::{BridgeRules, Forward};
use crate::home::Home;
use crate::{Cidr, Error, ErrorKind, Result};

/// Where programs of this kind are installed. The environment has no say.
const DIRECTORIES: [&str; 5] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"];
const RESTORE: &str = "iptables-restore";
const SAVE: &str = "iptables-save";
/// An abstract socket belongs to its network namespace, as the rules do, and goes with its process: a lock that
/// nobody can leave behind (unix(7)).
const LOCK: &[u8] = b"isolate-netns-iptables";
const PATIENCE: Duration = Duration::from_secs(30);

/// `iptables-restore`, if it is installed.
pub(crate) fn program() -> Option<PathBuf> {
    installed(RESTORE)
}

pub(super) fn add(home: &Home, bridge: &BridgeRules) -> Result<()> {
    change(home, |model| {
        let (mut known, others) =
            split(std::mem::take(&mut model.bridges), |other| other.name == bridge.name);
        let known = known.pop();
        model.bridges = others;
        model.bridges.push(BridgeRules {
            outgoing: bridge.outgoing || known.as_ref().is_some_and(|known| known.outgoing),
            host: bridge.host || known.as_ref().is_some_and(|known| known.host),
            ..bridge.clone()
        });
        Ok(())
    })
}

pub(super) fn knows(home: &Home, bridge: &str) -> Result<bool> {
    Ok(read(home)?.is_some_and(|model| model.bridges.iter().any(|known| known.name == bridge)))
}

pub(super) fn remove(home: &Home, bridge: &str, network: Option<Cidr>) -> Result<()> {
    change(home, |model| {
        model.bridges.retain(|known| known.name != bridge);
        model.forwards.retain(|forward| network.is_none_or(|network| !network.contains(forward.container)));
        Ok(())
    })
}

pub(super) fn publish(home: &Home, forward: &Forward) -> Result<()> {
    change(home, |model| match model.forwards.iter().find(|other| other.same_host_side(forward)) {
        Some(other) => Err(taken(forward, Some(*other))),
        // As with nf_tables when its table is gone.
        None if model.bridges.is_empty() => Err(Error::os("iptables chains ISOLATE-*", libc::ENOENT)),
        None => {
            model.forwards.push(*forward);
            Ok(())
        }
    })
}

pub(super) fn unpublish(home: &Home, forwards: &[Forward]) -> Result<()> {
    change(home, |model| {
        model.forwards.retain(|forward| !forwards.contains(forward));
        Ok(())
    })
}

pub(super) fn published(home: &Home) -> Result<Vec<Forward>> {
    Ok(read(home)?.map(|model| model.forwards).unwrap_or_default())
}

/// The error for a host port that has a rule already.
pub(super) fn taken(forward: &Forward, other: Option<Forward>) -> Error {
    let leads = other
        .map_or(String::new(), |other| format!(": it leads to {}:{}", other.container, other.container_port));
    Error::new(
        ErrorKind::AddressInUse,
        format!("host port {} is published already{leads}", forward.publish().host_side()),
    )
}

/// Reads our chains, lets `f` change what they stand for, and writes them, with nobody else in between.
fn change(home: &Home, f: impl FnOnce(&mut Model) -> Result<()> + Send) -> Result<()> {
    home.inside(|| {
        let _locked = lock()?;
        let before = Model::parse(&run(SAVE, &[], "")?);
        let mut after = before.clone();
        f(&mut after)?;
        match after == before {
            true => Ok(()),
            false => run(RESTORE, &["--noflush", "--wait", "10"], &after.restore()).map(|_| ()),
        }
    })?
}

/// Our chains; `None` where iptables is not installed.
fn read(home: &Home) -> Result<Option<Model>> {
    match installed(SAVE) {
        Some(_) => Ok(Some(Model::parse(&home.inside(|| run(SAVE, &[], ""))??))),
        None => Ok(None),
    }
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

fn split<T>(items: Vec<T>, of: impl Fn(&T) -> bool) -> (Vec<T>, Vec<T>) {
    items.into_iter().partition(of)
}
