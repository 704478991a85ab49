//! Containers that nobody owns: written down, started again, asked by any process of the same user.

mod inside;
mod logs;
mod make;
mod network;
mod pod_run;
mod record;
mod run;
mod share;

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use isolate_cgroups::{Limits, Stats};
use isolate_namespaces::{Attachment, Kept, KeptEnd, KeptState, KeptStatus, Restart, Signal, Waiter};

use crate::container::Container;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::Exec;
use crate::info::ContainerInfo;
use crate::name;
use crate::outcome::{Outcome, Usage};
use crate::pod;
use crate::processes::Process;
use crate::samples::Samples;
use crate::store::{self, Store};

pub(crate) use inside::View;
pub(crate) use logs::time;
pub use logs::{LogLine, Logs, Stream};
pub(crate) use make::{create, sweep};
pub(crate) use record::{DetachedRecord, directories, find, home, records, taken};

/// A container that nobody owns, as those of `docker create` and `docker run -d`: it is written down, and any process of the same user can
/// start it, stop it, ask for it and remove it. Its root, its name, its volumes and, where they are free, its addresses stay from one start
/// to the next. Made by [`ContainerBuilder::create`](crate::ContainerBuilder::create), found by [`Container::open`].
///
/// **Dropping one does nothing.** While it runs it has a keeper, a process of some 30 KiB ([`isolate_namespaces::Keeper`]) in a control
/// group of its own, which reads its output, starts it again and knows how it ended. When the keeper is killed the container is, too.
///
/// ```no_run
/// use std::time::Duration;
/// use isolate::Container;
/// # fn main() -> isolate::Result<()> {
/// let web = Container::open("web")?; // made by another program
/// web.start()?;
/// print!("{}", String::from_utf8_lossy(&web.exec("ps")?.arg("-ef").output()?.stdout));
/// web.stop(Duration::from_secs(10))?;
/// for line in web.logs() {
///     let line = line?;
///     println!("{:?} {}", line.time, String::from_utf8_lossy(&line.bytes));
/// }
/// web.remove()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Detached {
    name: String,
    id: String,
    directory: PathBuf,
    store: Store,
}

impl Container {
    /// One that is [detached](Detached), by its name, its [id](Detached::id), or a beginning of that which no other has.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), also for a container that somebody owns; [`InvalidConfig`](ErrorKind::InvalidConfig) for a
    /// beginning that several have.
    pub fn open(name: impl AsRef<str>) -> Result<Detached> {
        let name = name.as_ref();
        name::check(name)?;
        match find(name)? {
            Some(pod) if pod.is_pod() => return Err(pod::is_a_pod(name)),
            Some(record) => return Detached::of(&record),
            None => {}
        }
        let all = records()?;
        let mut like = all.iter().filter(|record| !record.is_pod() && record.id.starts_with(name));
        match (like.next(), like.next()) {
            (Some(record), None) => Detached::of(record),
            (Some(_), Some(_)) => {
                let what = format!("container `{name}`: several have an id that begins so");
                Err(Error::new(ErrorKind::InvalidConfig, what).with_hint("say more of it, or the name"))
            }
            _ => {
                let what = format!("container `{name}`: there is no detached one of that name");
                Err(Error::new(ErrorKind::NotFound, what).with_hint("Container::list tells which there are"))
            }
        }
    }
}

impl Detached {
    pub(crate) fn of(record: &DetachedRecord) -> Result<Self> {
        let directory = record::directory(&record.name)?;
        Ok(Self { name: record.name.clone(), id: record.id.clone(), directory, store: Store::open()? })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Twelve hexadecimal digits that no other container has, and that stay.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Starts it. Nothing happens to one that runs. Returns when its program has been executed and its keeper is at work.
    ///
    /// # Errors
    /// As of [`ContainerBuilder::start`](crate::ContainerBuilder::start); it has not been started then, and nothing of the start is left.
    pub fn start(&self) -> Result<()> {
        self.said(self.start_now(false)).map(drop)
    }

    /// The same, and one is [attached](Self::attach) from before its first byte of output. To one that runs, as from now on.
    ///
    /// # Errors
    /// As of [`start`](Self::start) and [`attach`](Self::attach).
    pub fn start_attached(&self) -> Result<Attachment> {
        self.said(self.start_now(true))?.map_or_else(|| self.attach(), Ok)
    }

    /// Asks it to end, by its [stop signal](crate::ContainerBuilder::stop_signal), and kills it if it has not ended after `grace`. No restart
    /// follows. Gives the outcome of its last run; `None` for one that has never run.
    ///
    /// # Errors
    /// [`Lost`](ErrorKind::Lost): its keeper was killed.
    pub fn stop(&self, grace: Duration) -> Result<Option<Outcome>> {
        self.said(self.stop_now(Some(grace)))
    }

    /// Kills everything that runs in it, at once. No restart follows.
    ///
    /// # Errors
    /// As of [`stop`](Self::stop).
    pub fn kill(&self) -> Result<Option<Outcome>> {
        self.said(self.stop_now(None))
    }

    /// Stops it as [`stop`](Self::stop), and starts it.
    ///
    /// # Errors
    /// As of both.
    pub fn restart(&self, grace: Duration) -> Result<()> {
        self.stop(grace)?;
        self.start()
    }

    /// Sends a signal to its command. An end that follows from it is one as any other: where its restart policy says so it is started
    /// again.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let sent = self.started_kept().and_then(|kept| Ok(kept.signal(signal)?));
        self.said(sent.and_then(|sent| if sent { Ok(()) } else { Err(not_running()) }))
    }

    /// Lets all its processes stand still, and returns when they do.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it does not run.
    pub fn pause(&self) -> Result<()> {
        self.running()?.pause()
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// As of [`pause`](Self::pause).
    #[doc(alias = "unpause")]
    pub fn resume(&self) -> Result<()> {
        self.running()?.resume()
    }

    /// Waits until it has ended for good, restarts and all, and says how its last run did. Of one that does not run, at once.
    ///
    /// # Errors
    /// [`Lost`](ErrorKind::Lost): its keeper was killed; [`NotFound`](ErrorKind::NotFound): it has never run.
    pub fn wait(&self) -> Result<Outcome> {
        let waiter = self.waiter()?;
        self.said(waiter.wait().map_err(Error::from).and_then(|state| outcome(&state)))
    }

    /// As [`wait`](Self::wait), but no longer than this; `None` if it runs still.
    ///
    /// # Errors
    /// As of [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<Outcome>> {
        let ended = self.started_kept().and_then(|kept| Ok(kept.wait_timeout(timeout)?));
        self.said(ended.and_then(|state| state.as_ref().map(outcome).transpose()))
    }

    /// Something that can be polled (poll(2)) for its end.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound): it has never run.
    pub fn waiter(&self) -> Result<Waiter> {
        self.said(self.started_kept().and_then(|kept| Ok(kept.waiter()?)))
    }

    /// How its last run has ended, and what that has used; `None` while it runs or waits for a restart, and for one that has never run.
    ///
    /// # Errors
    /// [`Lost`](ErrorKind::Lost): its keeper was killed.
    pub fn outcome(&self) -> Result<Option<(Outcome, Usage)>> {
        self.said(self.record())?;
        if !self.is_started() {
            return Ok(None);
        }
        let state = self.said(self.kept().and_then(|kept| Ok(kept.state()?)))?;
        match state.status {
            KeptStatus::Exited => self.said(outcome(&state)).map(|outcome| Some((outcome, usage(&state)))),
            KeptStatus::Lost => self.said(Err(lost())),
            _ => Ok(None),
        }
    }

    /// From now on, what it writes, and the way to its terminal or its standard input (where that was
    /// [kept open](crate::ContainerBuilder::open_stdin)). Dropping it detaches.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it does not run.
    pub fn attach(&self) -> Result<Attachment> {
        self.said(self.started_kept().and_then(|kept| {
            kept.attach().map_err(|e| match e.kind() {
                isolate_namespaces::ErrorKind::InvalidInput => not_running(),
                _ => e.into(),
            })
        }))
    }

    /// What it has written to its standard output and error, or to its terminal: [`Logs`] says from when on, and whether to wait for more.
    pub fn logs(&self) -> Logs {
        Logs::new(self.name.clone(), self.keeper_directory())
    }

    /// One more program in it, as [`Container::exec`].
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it does not run.
    pub fn exec(&self, program: impl AsRef<OsStr>) -> Result<Exec<'static>> {
        Ok(Exec::within(self.running()?, program.as_ref()))
    }

    /// What it has used so far: processor time, memory, processes.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it does not run.
    pub fn stats(&self) -> Result<Stats> {
        self.running()?.stats()
    }

    /// The same, now and once each interval until it has ended for good, restarts and all; as [`Container::stats_every`].
    ///
    /// # Errors
    /// As there; [`NotFound`](ErrorKind::NotFound) if it does not run.
    pub fn stats_every(&self, interval: Duration) -> Result<Samples> {
        let (view, waiter) = (self.running()?, self.waiter()?);
        self.said(Samples::new(&self.name, view.group()?, waiter.as_fd(), interval))
    }

    /// What runs in it, as [`Container::processes`].
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it does not run.
    #[doc(alias = "top")]
    pub fn processes(&self) -> Result<Vec<Process>> {
        self.running()?.processes()
    }

    /// Changes its limits, as [`Container::update`], now and for the starts that follow.
    ///
    /// # Errors
    /// As of [`Container::update`]; the limits are those of before then.
    pub fn update(&self, limits: &Limits) -> Result<()> {
        self.said(self.limit_group(limits, |group| Ok(group.apply(limits)?)))
    }

    /// Changes when it is started again after its end, as `docker update --restart`: from its next end on if it runs, and for the starts that
    /// follow.
    ///
    /// ```no_run
    /// # fn main() -> isolate::Result<()> {
    /// isolate::Container::open("web")?.update_restart(isolate::Restart::OnFailure { most: Some(3) })?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound): it was removed.
    #[doc(alias = "update")]
    pub fn update_restart(&self, policy: Restart) -> Result<()> {
        self.said(self.update_restart_now(policy))
    }

    /// What it is, as any process sees it.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound): it was removed.
    pub fn inspect(&self) -> Result<ContainerInfo> {
        Container::find(&self.name)
    }

    /// Gives it another name, by which others on its networks find it from then on, whether it runs or not. Its host name stays, as does
    /// everything that runs in it. Other handles of it find it no more; [`open`](Container::open) by its [id](Self::id) does.
    ///
    /// Whoever is killed meanwhile, it has the one name or the other; what of the other is left the next [sweep](crate::sweep()) corrects.
    ///
    /// ```no_run
    /// # fn main() -> isolate::Result<()> {
    /// let old = isolate::Container::open("web")?.rename("web-old")?;
    /// assert_eq!(old.name(), "web-old");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) for a name that another has.
    pub fn rename(self, name: impl AsRef<str>) -> Result<Self> {
        let renamed = self.rename_now(name.as_ref());
        self.said(renamed)
    }

    /// Removes it with everything it has, its anonymous volumes as well.
    ///
    /// # Errors
    /// [`InUse`](ErrorKind::InUse) if it runs.
    pub fn remove(self) -> Result<()> {
        self.said(self.remove_now(false))
    }

    /// Kills it if it runs, and removes it, as `docker rm -f`.
    ///
    /// # Errors
    /// What could not be removed; the next [sweep](crate::sweep()) tries again.
    pub fn remove_by_force(self) -> Result<()> {
        self.said(self.remove_now(true))
    }

    fn keeper_directory(&self) -> PathBuf {
        self.directory.join("keeper")
    }

    fn kept(&self) -> Result<Kept> {
        let path = self.keeper_directory();
        Ok(Kept::new(File::open(&path).map_err(|e| Error::io(path.display(), &e))?))
    }

    fn started_kept(&self) -> Result<Kept> {
        self.record()?;
        match self.is_started() {
            true => self.kept(),
            false => Err(Error::new(ErrorKind::NotFound, "it has never run")),
        }
    }

    /// Whether a keeper was ever at work.
    fn is_started(&self) -> bool {
        self.keeper_directory().join("state").exists()
    }

    pub(crate) fn record(&self) -> Result<DetachedRecord> {
        let record =
            DetachedRecord::read(&self.directory)?.filter(|record| record.whole && record.id == self.id);
        record.ok_or_else(|| Error::new(ErrorKind::NotFound, "it is not there any more"))
    }

    /// While it is held nobody else starts, renames or removes it.
    fn lock(&self) -> Result<File> {
        let lock = store::wait_lock(&self.directory.join("lock"))?;
        // It may have been removed, and another made, meanwhile.
        self.record().map(|_| lock)
    }

    pub(crate) fn said<T>(&self, result: Result<T>) -> Result<T> {
        let whom = format!("container `{}`", self.name);
        // What was done by a view of it says so itself.
        result.map_err(|e| if e.to_string().starts_with(&whom) { e } else { e.of(whom) })
    }
}

/// Whether there is one of this name, whole or not.
pub(crate) fn is_there(name: &str) -> Result<bool> {
    let Ok(home) = home() else { return Ok(false) };
    let looked = std::fs::symlink_metadata(home.join(name));
    // One that cannot be looked at is there: what it has is not somebody else's.
    Ok(!looked.is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound))
}

fn not_running() -> Error {
    Error::new(ErrorKind::NotFound, "it does not run").with_hint("Detached::start starts it")
}

fn lost() -> Error {
    Error::new(ErrorKind::Lost, "nobody knows how it ended: its keeper or its monitor was killed")
}

/// Of the last run.
pub(crate) fn outcome(state: &KeptState) -> Result<Outcome> {
    let how = match state.end {
        Some(KeptEnd::Code(code)) => Ok(code),
        Some(KeptEnd::Signal(number)) => Err(Signal::try_from(number)?),
        // It could not be started again.
        Some(KeptEnd::Failed { .. }) => return Ok(Outcome::NeverStarted),
        _ => return Err(lost()),
    };
    Ok(Outcome::ended(how, state.timed_out, state.oom_kills))
}

fn usage(state: &KeptState) -> Usage {
    Usage {
        user: state.user,
        system: state.system,
        wall: state.ended.and_then(|end| end.duration_since(state.started).ok()).unwrap_or_default(),
        peak_memory: None,
        max_rss: isolate_cgroups::Bytes::new(state.max_rss),
        oom_kills: state.oom_kills,
    }
}
