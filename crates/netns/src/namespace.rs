//! Network namespaces: made, opened and entered on threads of their own (network_namespaces(7), setns(2)).

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread::{self, Scope, ScopedJoinHandle};

use nix::sched::{CloneFlags, unshare};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::route::Route;
use crate::{Error, Result};

/// The calling thread's network namespace. Never `/proc/self`: that is the main thread's.
const OF_THIS_THREAD: &str = "/proc/thread-self/ns/net";

/// A network namespace, held by a descriptor: it lives as long as this does, or a process or mount in it.
///
/// The caller's thread never moves: what must happen inside happens on a thread made for it ([`Self::run`]).
/// Making and entering one needs `CAP_SYS_ADMIN`.
///
/// ```no_run
/// use isolate_netns::NetworkNamespace;
/// use std::net::TcpListener;
///
/// let namespace = NetworkNamespace::new()?;
/// namespace.loopback_up()?;
/// // The socket stays in the namespace, whoever holds it.
/// let listener = namespace.run(|| TcpListener::bind("127.0.0.1:80"))??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct NetworkNamespace(OwnedFd);

impl NetworkNamespace {
    /// A new, empty namespace: a loopback that is down, and nothing else (unshare(2), `CLONE_NEWNET`).
    ///
    /// # Errors
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) without `CAP_SYS_ADMIN`.
    pub fn new() -> Result<Self> {
        on_new_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Error::os("a new network namespace", errno as i32))?;
            Self::current()
        })?
    }

    /// The namespace that the calling thread is in.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) where `/proc` is not mounted.
    pub fn current() -> Result<Self> {
        Self::open(OF_THIS_THREAD)
    }

    /// The namespace of the process `pid`. A pid can be reused at any time; [`From<OwnedFd>`](Self#impl-From<OwnedFd>-for-NetworkNamespace)
    /// takes a descriptor instead.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such process.
    pub fn of_pid(pid: u32) -> Result<Self> {
        Self::open(format!("/proc/{pid}/ns/net"))
    }

    /// The namespace at `path`: `/proc/PID/ns/net`, or a file that one is bound to, as `ip netns` does in `/run/netns`.
    ///
    /// # Errors
    /// Whatever open(2) says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::open(path)
            .map_err(|error| Error::io(format!("network namespace {}", path.display()), &error))?;
        Ok(Self(file.into()))
    }

    /// Runs `f` inside, on a thread made for it and thrown away; its panics are passed on.
    ///
    /// Everything that `f` opens stays in the namespace: a listener made inside can be used outside.
    ///
    /// # Errors
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) without `CAP_SYS_ADMIN`; `f` did not run then.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        run_in(self.as_fd(), f)
    }

    /// Another handle on the same namespace.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> Result<Self> {
        let clone = self.0.try_clone();
        clone.map(Self).map_err(|error| Error::io("a second descriptor of a network namespace", &error))
    }

    /// Brings the loopback up: 127.0.0.1 works inside. [`Bridge::connect`](crate::Bridge::connect) does it too.
    ///
    /// # Errors
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) without `CAP_SYS_ADMIN` and `CAP_NET_ADMIN` inside.
    pub fn loopback_up(&self) -> Result<()> {
        self.run(|| Route::open()?.loopback_up())?
    }
}

/// Which namespace is behind a descriptor: device and inode (namespaces(7)).
pub(crate) fn id(namespace: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let stat = rustix::fs::fstat(namespace)
        .map_err(|errno| Error::os("a network namespace", errno.raw_os_error()))?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Runs `f` in the namespace behind a descriptor, as [`NetworkNamespace::run`] does.
pub(crate) fn run_in<T: Send>(namespace: BorrowedFd<'_>, f: impl FnOnce() -> T + Send) -> Result<T> {
    run_beside(namespace, f, || ()).1
}

/// The same while `beside` runs on the calling thread; what both came to.
pub(crate) fn run_beside<T: Send, U>(
    namespace: BorrowedFd<'_>,
    f: impl FnOnce() -> T + Send,
    beside: impl FnOnce() -> U,
) -> (U, Result<T>) {
    let inside = || {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).map_err(|errno| {
            let error = Error::os("entering a network namespace", errno.raw_os_error());
            match errno {
                rustix::io::Errno::INVAL => error.with_hint("the descriptor is not a network namespace's"),
                _ => error,
            }
        })?;
        Ok(f())
    };
    thread::scope(|scope| {
        let thread = spawn(scope, inside);
        let beside = beside();
        (beside, thread.and_then(joined).and_then(|result| result))
    })
}

fn on_new_thread<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| spawn(scope, f).and_then(joined))
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    f: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    let thread = thread::Builder::new().name("isolate-netns".into()).spawn_scoped(scope, f);
    thread.map_err(|error| Error::io("a thread to enter a network namespace with", &error))
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> Result<T> {
    Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

impl From<OwnedFd> for NetworkNamespace {
    /// Takes the descriptor as it is: one that is not a network namespace's is an error at its first use.
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl From<NetworkNamespace> for OwnedFd {
    fn from(namespace: NetworkNamespace) -> Self {
        namespace.0
    }
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_namespace_is_the_one_of_this_process() {
        let (here, pid) = (NetworkNamespace::current().unwrap(), std::process::id());
        assert_eq!(id(here.as_fd()).unwrap(), id(NetworkNamespace::of_pid(pid).unwrap().as_fd()).unwrap());
    }

    #[test]
    fn a_process_that_is_not_there_has_no_namespace() {
        let error = NetworkNamespace::of_pid(u32::MAX).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::NotFound);
        assert!(
            error.to_string().starts_with("network namespace /proc/4294967295/ns/net: No such file"),
            "{error}"
        );
    }
}
