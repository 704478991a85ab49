//! The network of an ordinary user's container: pasta(1) passes on, as that user, what goes in and out.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use isolate_namespaces::{Child, Command, Stdio};
use isolate_netns::{Protocol, Publish};

use crate::compile::INTERFACE;
use crate::error::{Error, ErrorKind, Result};
use crate::ports;
use crate::store::Store;

/// What installs it.
pub(crate) const REMEDY: &str = "apt-get install passt";
/// How long it may take to connect a container.
const LIMIT: Duration = Duration::from_secs(5);
/// How often is looked whether it has. It takes some 10 ms.
const INTERVAL: Duration = Duration::from_millis(2);

/// Where it is installed: in the caller's `PATH`, or where distributions put it.
pub(crate) fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/usr/local/bin", "/bin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(usual)
        .map(|directory| directory.join("pasta"))
        .find(|program| program.is_absolute() && is_executable(program))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// What can be refused by looking.
pub(crate) fn check(publish: &[Publish], privileged: bool) -> Result<()> {
    if privileged {
        let what = "pasta is for ordinary users: root has bridges";
        return Err(Error::new(ErrorKind::InvalidConfig, what).with_hint("put it on Attach::bridge()"));
    }
    if let Some(publish) = publish.iter().find(|publish| publish.host_port() == 0) {
        let what = format!("cannot publish {publish}: pasta wants a host port that is not 0");
        return Err(Error::new(ErrorKind::InvalidConfig, what).with_hint("choose one from 1024 on"));
    }
    program().map(drop).ok_or_else(missing)
}

fn missing() -> Error {
    let what = "pasta is not installed: it connects the containers of ordinary users";
    Error::new(ErrorKind::Unsupported, what)
        .with_hint(format!("{REMEDY}, or choose Attach::none() or Attach::host()"))
}

/// Connects the network namespace of process `pid`, a child that waits in a user namespace of this user's. Returns when the ports are
/// bound and the device is up. `name` is the container's.
pub(crate) fn connect(pid: u32, publish: &[Publish], name: &str, store: &Store) -> Result<Child> {
    let state = store.container(name);
    let (ready, log) = (state.join("pasta.pid"), state.join("pasta.log"));
    let stderr = File::create(&log).map_err(|e| Error::io(log.display(), &e))?;
    let mut command = Command::new(program().ok_or_else(missing)?);
    command.args(["--foreground", "--quiet", "--config-net", "--no-map-gw", "--ns-ifname", INTERFACE]);
    command.arg("--pid").arg(&ready);
    command.args(["--netns", &format!("/proc/{pid}/ns/net"), "--userns", &format!("/proc/{pid}/ns/user")]);
    command.args(forwards(publish));
    // A session of its own: an interrupt from the caller's terminal is not for it. A file, since nobody reads a pipe later.
    command.new_session().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let mut pasta = command.spawn()?;
    let end = Instant::now() + LIMIT;
    // Its number is written when all else is done.
    while !fs::read(&ready).is_ok_and(|number| number.ends_with(b"\n")) {
        if pasta.wait_timeout(INTERVAL)?.is_some() {
            return Err(refused(&fs::read_to_string(&log).unwrap_or_default(), publish, name, store));
        }
        if Instant::now() > end {
            let what = format!("pasta has not connected the container within {} s", LIMIT.as_secs());
            return Err(Error::new(ErrorKind::Kernel, what));
        }
    }
    Ok(pasta)
}

/// Its options for what leads in, and that nothing of the host's loopback is reached from inside. Its own default is to forward all.
fn forwards(publish: &[Publish]) -> Vec<String> {
    let mut all: Vec<String> = ["--tcp-ns", "none", "--udp-ns", "none"].map(str::to_owned).into();
    for (option, protocol) in [("--tcp-ports", Protocol::Tcp), ("--udp-ports", Protocol::Udp)] {
        let of_protocol: Vec<_> =
            publish.iter().filter(|publish| publish.protocol() == protocol).map(spec).collect();
        let none = of_protocol.is_empty().then(|| "none".to_owned());
        all.extend(of_protocol.into_iter().chain(none).flat_map(|spec| [option.to_owned(), spec]));
    }
    all
}

fn spec(publish: &Publish) -> String {
    let ports = format!("{}:{}", publish.host_port(), publish.container_port());
    // Without an address it is bound on all of both versions.
    publish.address().map_or(ports.clone(), |address| format!("{address}/{ports}"))
}

/// Why it has ended early: in its own words, unless a port says it better.
fn refused(log: &str, publish: &[Publish], name: &str, store: &Store) -> Error {
    let said = last_words(log);
    if said.contains("bind")
        && let Err(error) = ports::reserve(publish, false, name, store)
    {
        return error;
    }
    let error = Error::new(ErrorKind::Kernel, format!("pasta cannot connect the container: {said}"));
    if said.contains("tun") {
        return error.with_hint("modprobe tun; /dev/net/tun is to be opened by this user");
    }
    if said.contains("xternal") {
        return error.with_hint("the host wants a route to the outside, whose addresses pasta takes");
    }
    error
}

/// The last line that is not of its trouble with a system log that is not there.
fn last_words(log: &str) -> &str {
    let mut lines = log.lines().map(str::trim);
    lines.rfind(|line| !line.is_empty() && !line.starts_with("Failed to send ")).unwrap_or("it says nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_forwarded_but_what_is_published() {
        let none = ["--tcp-ns", "none", "--udp-ns", "none", "--tcp-ports", "none", "--udp-ports", "none"];
        assert_eq!(forwards(&[]), none);
        let some = forwards(&[Publish::udp(53, 5353).on([127, 0, 0, 1]), Publish::udp(54, 54)]);
        let tail = ["--tcp-ports", "none", "--udp-ports", "127.0.0.1/53:5353", "--udp-ports", "54:54"];
        assert_eq!(some[4..], tail);
    }

    #[test]
    fn its_last_words_are_the_cause() {
        let log = "Failed to send 46 bytes to syslog\nNo external routable interface for IPv6\n\
                   Failed to send 45 bytes to syslog\nFailed to open tun socket in namespace\n\n";
        assert_eq!(last_words(log), "Failed to open tun socket in namespace");
        assert_eq!(last_words(""), "it says nothing");
    }

    #[test]
    fn root_and_port_zero_are_refused() {
        assert_eq!(check(&[], true).unwrap_err().kind(), ErrorKind::InvalidConfig);
        assert_eq!(check(&[Publish::tcp(0, 80)], false).unwrap_err().kind(), ErrorKind::InvalidConfig);
    }
}
