//! Landlock: what a program may open, bind and reach, beside all other checks.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::kernel;
use crate::ruleset::{
    ABI_NET, ABI_SCOPE, BIND_TCP, CONNECT_TCP, EXECUTE, READ, Ruleset, SCOPE_ABSTRACT_UNIX_SOCKET,
    SCOPE_SIGNAL, WRITE,
};

/// Since which Linux each ABI is there; 1 in the first place.
const LINUX: [&str; 6] = ["5.13", "5.19", "6.2", "6.7", "6.10", "6.12"];

/// A Landlock ruleset (landlock(7)), by which a program and all that it starts lose every access to files that is not
/// named here. It only ever takes away: modes, capabilities and mounts are asked as well.
///
/// Nothing is allowed at first, not even executing the program: its file and its interpreter (`/lib64/ld-linux…` too)
/// want a rule to execute, its libraries one to read. Paths are those of the container's root, after all mounts, and
/// links are followed inside it. A rule for a directory holds for everything below it, mounts included, and rules add
/// up. Not restricted at all are what is open already, and stat(2), chdir(2), chmod(2), chown(2) and extended
/// attributes.
///
/// It wants Linux 5.13 with Landlock among its security modules, and no_new_privs or CAP_SYS_ADMIN in its user
/// namespace. What is restricted can neither mount nor unmount.
///
/// | ABI | Linux | what it brought |
/// |---|---|---|
/// | 1 | 5.13 | executing, reading, writing, making, removing |
/// | 2 | 5.19 | renaming and linking between directories; below, never allowed |
/// | 3 | 6.2 | truncating; **below, what is read-only here can be truncated where its mode lets one write** |
/// | 4 | 6.7 | TCP ports |
/// | 5 | 6.10 | ioctl(2) on devices; below, not restricted |
/// | 6 | 6.12 | signals and abstract UNIX sockets |
///
/// Of these the kernel's newest is used, so that files are less restricted on an older kernel: [`required_abi`]
/// makes that an error. Ports and scopes that the kernel lacks are an error, unless [`best_effort`] says otherwise. No
/// Landlock at all is always one. Rights of later ABIs are not taken away, so that a new kernel changes nothing.
///
/// [`required_abi`]: Self::required_abi
/// [`best_effort`]: Self::best_effort
///
/// ```
/// use isolate_namespaces::Landlock;
/// let landlock = Landlock::new()
///     .execute("/usr")
///     .read_only("/etc")
///     .read_write("/tmp")
///     .allow_tcp_connect(443)
///     .required_abi(4);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[must_use = "a description does nothing until a Command takes it"]
pub struct Landlock {
    /// In the order in which they were named first.
    paths: Vec<(PathBuf, u64)>,
    handled_net: u64,
    ports: BTreeMap<u16, u64>,
    scoped: u64,
    required: u32,
    best_effort: bool,
}

impl Landlock {
    /// Nothing is allowed with files; ports and signals are as without it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Files here can be read and directories listed.
    pub fn read_only(self, path: impl AsRef<Path>) -> Self {
        self.path(path.as_ref(), READ)
    }

    /// As [`read_only`](Self::read_only), and files can be executed.
    pub fn execute(self, path: impl AsRef<Path>) -> Self {
        self.path(path.as_ref(), READ | EXECUTE)
    }

    /// As [`read_only`](Self::read_only), and everything can be changed: files written, truncated, made, removed, renamed
    /// and linked, devices asked by ioctl(2). Not executed, and no device node can be made.
    pub fn read_write(self, path: impl AsRef<Path>) -> Self {
        self.path(path.as_ref(), WRITE)
    }

    /// No TCP port can be bound but those of [`allow_tcp_bind`](Self::allow_tcp_bind). ABI 4, Linux 6.7.
    pub fn deny_tcp_bind(mut self) -> Self {
        self.handled_net |= BIND_TCP;
        self
    }

    /// This TCP port can be bound, and none that is not allowed so. Port 0 is the kernel's choice among
    /// `net.ipv4.ip_local_port_range`. ABI 4, Linux 6.7.
    pub fn allow_tcp_bind(self, port: u16) -> Self {
        self.deny_tcp_bind().port(port, BIND_TCP)
    }

    /// No TCP connection can be made but to the ports of [`allow_tcp_connect`](Self::allow_tcp_connect). UDP, raw
    /// sockets and what a listener accepts are not restricted. ABI 4, Linux 6.7.
    pub fn deny_tcp_connect(mut self) -> Self {
        self.handled_net |= CONNECT_TCP;
        self
    }

    /// TCP connections can be made to this port of any host, and to none that is not allowed so. ABI 4, Linux 6.7.
    pub fn allow_tcp_connect(self, port: u16) -> Self {
        self.deny_tcp_connect().port(port, CONNECT_TCP)
    }

    /// Signals reach only what is restricted together with the program: itself and what it starts. ABI 6, Linux 6.12.
    pub fn scope_signals(mut self) -> Self {
        self.scoped |= SCOPE_SIGNAL;
        self
    }

    /// Connections to abstract UNIX sockets (unix(7)) reach only those that were made by what is restricted together with
    /// the program. A network namespace of its own does the same for all but those who share it. ABI 6, Linux 6.12.
    pub fn scope_abstract_unix_sockets(mut self) -> Self {
        self.scoped |= SCOPE_ABSTRACT_UNIX_SOCKET;
        self
    }

    /// An older ABI than this is an error, even with [`best_effort`](Self::best_effort).
    pub fn required_abi(mut self, abi: u32) -> Self {
        self.required = abi;
        self
    }

    /// Ports and scopes that the kernel lacks are left out: **there, nothing restricts them.**
    pub fn best_effort(mut self) -> Self {
        self.best_effort = true;
        self
    }

    fn path(mut self, path: &Path, access: u64) -> Self {
        match self.paths.iter_mut().find(|(known, _)| known == path) {
            Some((_, known)) => *known |= access,
            None => self.paths.push((path.to_owned(), access)),
        }
        self
    }

    fn port(mut self, port: u16, access: u64) -> Self {
        *self.ports.entry(port).or_default() |= access;
        self
    }

    /// What the kernel is to be told if it has this ABI.
    pub(crate) fn compile(&self, abi: u32) -> Result<Ruleset> {
        if abi == 0 {
            return Err(Error::invalid("Landlock: this kernel has none, or it is switched off")
                .with_kind(ErrorKind::Unsupported)
                .with_hint("put landlock into `lsm=` on the kernel's command line; it is built by CONFIG_SECURITY_LANDLOCK"));
        }
        require(self.required, "the ruleset", abi)?;
        for (asked, needed, what) in [
            (self.handled_net != 0, ABI_NET, "a restriction of TCP ports"),
            (self.scoped != 0, ABI_SCOPE, "a scope of signals or abstract UNIX sockets"),
        ] {
            if asked && !self.best_effort {
                require(needed, what, abi).map_err(|error| {
                    error.with_hint("`Landlock::best_effort` starts the program without that restriction")
                })?;
            }
        }
        for (path, _) in &self.paths {
            if !path.is_absolute() || path.as_os_str().as_bytes().contains(&0) {
                let why = "a rule needs an absolute path without NUL";
                return Err(Error::invalid(format!("Landlock rule for {}: {why}", path.display())));
            }
        }
        let paths = self.paths.iter().map(|(path, access)| (path.as_path(), *access));
        let ports = self.ports.iter().map(|(port, access)| (*port, *access));
        Ok(Ruleset::new(abi, self.handled_net, self.scoped, paths, ports))
    }
}

fn require(needed: u32, what: &str, abi: u32) -> Result<()> {
    if abi >= needed {
        return Ok(());
    }
    let linux = LINUX.get(needed as usize - 1).map_or(String::new(), |linux| format!(" (Linux {linux})"));
    let why = format!("Landlock: {what} needs ABI {needed}{linux}, and this kernel has ABI {abi}");
    Err(Error::invalid(why).with_kind(ErrorKind::Unsupported))
}

/// The ABI of this kernel: 0 where there is no Landlock, not built or not switched on.
///
/// # Errors
///
/// Any other refusal than those: by a system call filter, say.
pub(crate) fn abi() -> io::Result<u32> {
    match kernel::landlock_abi() {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP)) => Ok(0),
        abi => abi,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_one_path_add_up_and_keep_their_order() {
        let ruleset = Landlock::new().read_only("/z").read_write("/a").execute("/z").compile(6).unwrap();
        let rules: Vec<_> =
            ruleset.paths.iter().map(|rule| (rule.path.to_str().unwrap(), rule.directory)).collect();
        assert_eq!(rules, [("/z", READ | EXECUTE), ("/a", WRITE)]);
        assert_eq!(ruleset.paths[0].file, 1 << 2 | EXECUTE);
        assert_eq!(WRITE & (EXECUTE | 1 << 6 | 1 << 11), 0);
    }

    #[test]
    fn a_port_can_be_allowed_for_both() {
        let ruleset =
            Landlock::new().allow_tcp_connect(443).allow_tcp_bind(443).allow_tcp_bind(0).compile(4).unwrap();
        let ports: Vec<_> = ruleset.ports.iter().map(|rule| (rule.port, rule.access)).collect();
        assert_eq!(ports, [(0, BIND_TCP), (443, BIND_TCP | CONNECT_TCP)]);
    }

    #[test]
    fn a_restriction_that_the_kernel_lacks_is_an_error_unless_it_may_be_left_out() {
        for (asked, enough) in [
            (Landlock::new().deny_tcp_bind(), ABI_NET),
            (Landlock::new().allow_tcp_connect(443), ABI_NET),
            (Landlock::new().scope_signals(), ABI_SCOPE),
            (Landlock::new().scope_abstract_unix_sockets(), ABI_SCOPE),
            (Landlock::new().required_abi(3), 3),
            (Landlock::new(), 1),
        ] {
            assert!(asked.compile(enough).is_ok(), "{asked:?}");
            let error = asked.compile(enough - 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            let may = asked.required == 0 && enough > 1;
            assert_eq!(asked.best_effort().compile(enough - 1).is_ok(), may, "{error}");
        }
    }

    #[test]
    fn an_abi_that_is_missing_is_named_with_its_kernel() {
        let error = Landlock::new().required_abi(3).compile(2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Landlock: the ruleset needs ABI 3 (Linux 6.2), and this kernel has ABI 2"
        );
        let error = Landlock::new().required_abi(u32::MAX).compile(7).unwrap_err();
        assert!(error.to_string().contains("ABI 4294967295, and"), "{error}");
    }

    #[test]
    fn a_path_that_cannot_be_is_named() {
        for path in ["", "etc", "./etc", "/etc\0"] {
            let error = Landlock::new().read_only(path).compile(6).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }

    #[test]
    fn this_kernel_says_what_it_has() {
        let (first, again) = (abi().unwrap(), abi().unwrap());
        assert_eq!(first, again);
        assert!(first < 1000, "{first}");
    }
}
