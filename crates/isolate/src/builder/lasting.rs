//! What concerns a container that outlives who has made it.

use isolate_namespaces::Restart;

use super::ContainerBuilder;
use crate::attach::Mode;
use crate::detached::{self, Detached};
use crate::error::{Error, ErrorKind, Result};
use crate::health::HealthCheck;
use crate::origin::From;

/// Of a container that is to last.
impl ContainerBuilder {
    /// Writes it down, as `docker create`: nothing runs yet, and what it has on the disk is its own from here on until it is
    /// [removed](Detached::remove). [`Detached::start`] starts it, from this process or another, any number of times. An image is fetched
    /// and unpacked now.
    ///
    /// What it writes to its standard output and error goes to its [log](Detached::logs), and to who is
    /// [attached](Detached::attach).
    ///
    /// ```no_run
    /// use isolate::{Container, Restart};
    /// # fn main() -> isolate::Result<()> {
    /// let web = Container::builder()
    ///     .name("web")
    ///     .rootfs("/srv/alpine")
    ///     .publish((9000, 8080))
    ///     .restart(Restart::Always)
    ///     .command(["httpd", "-f", "-p", "8080"])
    ///     .create()?;
    /// web.start()?; // it goes on when this program has ended
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) for a name that is in use; [`InvalidConfig`](ErrorKind::InvalidConfig) for what belongs to
    /// this process: standard descriptors, and namespaces by descriptor or of a [`Container`](crate::Container);
    /// [`Unsupported`](ErrorKind::Unsupported) on [`pasta`](crate::Attach::pasta), and with a size [on the disk](crate::Rootfs::on_disk) where
    /// there are no quotas. And as of [`start`](Self::start).
    pub fn create(self) -> Result<Detached> {
        let name = self.given_name();
        detached::create(&self, &name).map_err(|error| error.of(super::said(&name)))
    }

    /// When a container that is [created](Self::create) is started again after its end, as `docker run --restart`: by its keeper, in the
    /// same network and user namespaces, with a pause that grows from 100 ms to a minute. Default: never.
    pub fn restart(mut self, policy: Restart) -> Self {
        self.restart = policy;
        self
    }

    /// How it is found out whether a container that is [created](Self::create) does what it should. Default: as its image says.
    pub fn health(mut self, check: HealthCheck) -> Self {
        self.health = Some(check);
        self
    }

    /// The log of a container that is [created](Self::create): a file of more than `bytes` is put aside, and there are at most `files` of
    /// them. At least 16 KiB, and 1 to 100 files. Default: 10 MiB and 3.
    #[doc(alias = "log-opt")]
    pub fn log(mut self, bytes: u64, files: u32) -> Self {
        self.log = Some((bytes, files));
        self
    }

    /// Whether the standard input of a container that is [created](Self::create) is a pipe, for who is [attached](Detached::attach) to write
    /// to, as `docker run -i`; else it is `/dev/null`. One with a [terminal](Self::terminal) reads that. Default: no.
    #[doc(alias = "interactive")]
    pub fn open_stdin(mut self, open: bool) -> Self {
        self.open_stdin = open;
        self
    }

    /// Whether a container that is [created](Self::create) is removed once it has run and ended for good, as `docker run --rm`: the next use
    /// of this library does it. Default: no.
    #[doc(alias = "rm")]
    pub fn remove_at_end(mut self, remove: bool) -> Self {
        self.remove_at_end = remove;
        self
    }

    /// What is said that a container of the caller's own cannot have.
    pub(crate) fn check_owned(&self) -> Result<()> {
        let all = [
            (self.restart != Restart::Never, "a restart policy"),
            (self.health.as_ref().is_some_and(|check| !check.is_none()), "a health check"),
            (self.log.is_some(), "a log"),
            (self.open_stdin, "a standard input that stays open"),
            (self.remove_at_end, "its removal at its end"),
        ];
        all.into_iter().find(|(is_said, _)| *is_said).map_or(Ok(()), |(_, what)| {
            Err(Error::new(ErrorKind::InvalidConfig, format!("{what} is a detached container's"))
                .with_hint("make it by ContainerBuilder::create"))
        })
    }

    /// What would have to be there when it is started again, and is this process's.
    pub(crate) fn check_detached(&self) -> Result<()> {
        let refused = |what: &str, hint: &str| {
            Err(Error::new(ErrorKind::InvalidConfig, format!("a detached container cannot have {what}"))
                .with_hint(hint))
        };
        if self.stdio.iter().any(Option::is_some) {
            return refused(
                "standard descriptors of this process",
                "Detached::attach and Detached::logs have them",
            );
        }
        let of_process = |origin: &From| matches!(origin, From::Container { .. } | From::Descriptor(_));
        let said =
            self.namespaces.values().chain(self.networks.iter().filter_map(|attach| attach.origin.as_ref()));
        if said.into_iter().any(|origin| of_process(&origin.0)) {
            let what = "namespaces by descriptor or of a container that is somebody's own";
            return refused(what, "name them by path, or share those of another detached one");
        }
        if self.attaches().iter().any(|attach| attach.mode == Mode::Pasta) {
            let what = "a detached container on pasta: nobody would end that";
            return Err(
                Error::new(ErrorKind::Unsupported, what).with_hint("Attach::none() or Attach::host()")
            );
        }
        Ok(())
    }
}
