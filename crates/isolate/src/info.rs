//! What containers there are, seen from any process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::time::SystemTime;

use isolate_cgroups::{Cgroup, Glance, GroupState, Limits};
use isolate_namespaces::{Health, KeptStatus, Namespace, Restart};
use isolate_netns::Publish;
use serde::Serialize;

use crate::container::Container;
use crate::detached::{self, DetachedRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::mount::MountInfo;
use crate::name;
use crate::network::PlaceRecord;
use crate::outcome::Outcome;
use crate::parallel;
use crate::pod;
use crate::record::{self, Record};
use crate::store::Store;

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// It is being made, or taken back, or is a [detached](crate::Detached) one that has never run: no process of it runs.
    Created,
    /// Its processes run.
    Running,
    /// They stand still: [`Container::pause`].
    Paused,
    /// It has ended, and nobody owns what is left of it: the next [`sweep`](crate::sweep()) takes that back.
    Ended,
    /// A [detached](crate::Detached) one that has ended, and that its keeper will start again.
    Restarting,
    /// A detached one that has ended, and can be started again.
    Exited,
}

/// As Docker shows them: `running`.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Ended => "ended",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        })
    }
}

/// A container, as any process of its user sees it.
///
/// With [serde](https://docs.rs/serde) it can be written, as JSON for one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ContainerInfo {
    /// Its name.
    pub name: String,
    /// Twelve hexadecimal digits that no other has.
    pub id: String,
    /// What it is doing.
    pub state: State,
    /// Its first process in the caller's pid namespace, while there is one. For display: to signal it, use the container.
    pub pid: Option<u32>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Its program and arguments.
    #[serde(serialize_with = "crate::recorded::serialize")]
    pub command: Vec<OsString>,
    /// What its root is an image of.
    pub image: Option<String>,
    /// The [pod](crate::Pod) that it is a container of.
    pub pod: Option<String>,
    /// The digest of that image's manifest.
    pub image_digest: Option<String>,
    /// Its host name.
    pub hostname: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its places on networks, by the network's name.
    pub networks: BTreeMap<String, PlaceInfo>,
    /// Its published ports.
    pub published: Vec<Publish>,
    /// Its mounts, in the order in which they were said.
    pub mounts: Vec<MountInfo>,
    /// The volumes that it uses, by name.
    pub volumes: Vec<String>,
    /// Its limits, as they were said; those of a [`Container::update`] that another process made are not here.
    pub limits: Limits,
    /// Its control group, below the mount points of their file systems; of a detached one only while it runs.
    pub cgroup: Option<String>,
    /// What there is to tell of a detached one.
    pub detached: Option<DetachedInfo>,
}

/// What nobody's container has besides.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DetachedInfo {
    /// When it is started again.
    pub restart: Restart,
    /// How often its keeper has started it again since its last start.
    pub restarts: u64,
    /// What its health check says, while it runs, if it has one.
    pub health: Option<Health>,
    /// When it was started the last time.
    pub started: Option<SystemTime>,
    /// When its last run ended.
    pub ended: Option<SystemTime>,
    /// How that was; `None` also where nobody knows, since its keeper was killed.
    pub outcome: Option<Outcome>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Whether it is removed at its end.
    pub remove_at_end: bool,
}

/// A container's place on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlaceInfo {
    /// Its interface inside.
    pub interface: String,
    /// Its addresses: one of IPv4, and perhaps one of IPv6.
    pub addresses: Vec<IpAddr>,
    /// Other names that it is found by there.
    pub aliases: Vec<String>,
}

impl Container {
    /// All containers of this user, whoever started them, by name: as `docker ps`. Those that nobody owns any more are among them until they are swept.
    ///
    /// ```no_run
    /// use isolate::{Container, State};
    /// # fn main() -> isolate::Result<()> {
    /// for container in Container::list()? {
    ///     if container.labels.get("tier").is_some_and(|tier| tier == "web") && container.state == State::Running {
    ///         println!("{} {:?}", container.name, container.networks);
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What the state directory cannot be read for.
    pub fn list() -> Result<Vec<ContainerInfo>> {
        Ok(all()?.into_iter().filter_map(|(info, shares)| shares.is_none().then_some(info)).collect())
    }

    /// One container of this user by its name, whoever started it: as `docker inspect`. [`list`](Self::list) has all.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound).
    pub fn find(name: impl AsRef<str>) -> Result<ContainerInfo> {
        let name = name.as_ref();
        name::check(name)?;
        match one(name)? {
            Some((info, None)) => Ok(info),
            Some(_) => Err(pod::is_a_pod(name)),
            None => {
                let what = format!("container `{name}`: there is none of that name");
                Err(Error::new(ErrorKind::NotFound, what).with_hint("Container::list tells which there are"))
            }
        }
    }

    /// What it is, as any process sees it: [`find`](Self::find) by its name.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let container = isolate::Container::builder().command(["sleep", "9"]).start()?;
    /// println!("{}", serde_json::to_string_pretty(&container.inspect()?)?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What its record cannot be read for.
    pub fn inspect(&self) -> Result<ContainerInfo> {
        Self::find(self.name())
    }
}

/// What is known of it, and of a pod what its containers share.
type Known = (ContainerInfo, Option<Vec<Namespace>>);

/// All containers and pods, by name.
pub(crate) fn all() -> Result<Vec<Known>> {
    let store = Store::open()?;
    let guard = store.lock()?;
    let run = |key: &str| Record::read(&store.container(key)).ok().flatten().map(Box::new);
    let lasting = parallel::map(detached::directories()?, |path| {
        let record = DetachedRecord::read(&path).ok().flatten().filter(|record| record.whole)?;
        let run = run(&record.id);
        Some(Found::Lasting(Box::new(record), run))
    });
    let lasting: BTreeMap<_, _> =
        lasting.into_iter().flatten().map(|found| (found.key().to_owned(), found)).collect();
    let others = store.names()?.into_iter().filter(|name| !lasting.contains_key(name)).collect();
    let owned =
        parallel::map(others, |name| Some(Found::Owned(run(&name)?, store.is_unowned(&guard, &name))));
    // Until here none is renamed.
    drop(guard);
    let mut all: Vec<_> = lasting.into_values().chain(owned.into_iter().flatten()).collect();
    all.sort_by(|a, b| a.name().cmp(b.name()));
    let from = Vantage::new(store);
    parallel::map(all, |found| found.known(&from)).into_iter().collect()
}

/// One of them, by its name.
pub(crate) fn one(name: &str) -> Result<Option<Known>> {
    let store = Store::open()?;
    let guard = store.lock()?;
    let record = detached::find(name)?;
    let key = record.as_ref().map_or(name, |record| &record.id);
    let state = store.container(key);
    let run = Record::read(&state).map_err(|e| Error::io(state.display(), &e))?;
    let run = run.map(Box::new);
    let found = match record {
        Some(record) => Some(Found::Lasting(Box::new(record), run)),
        None => run
            .filter(|run| run.called.is_none())
            .map(|run| Found::Owned(run, store.is_unowned(&guard, name))),
    };
    drop(guard);
    found.map(|found| found.known(&Vantage::new(store))).transpose()
}

/// Where from containers are looked at.
struct Vantage {
    store: Store,
    groups: Option<Glance>,
    /// The caller's pid namespace.
    here: Option<u64>,
}

impl Vantage {
    fn new(store: Store) -> Self {
        Self { store, groups: Glance::new().ok(), here: record::counted_here() }
    }

    fn state(&self, run: &Record) -> GroupState {
        self.groups.as_ref().and_then(|groups| groups.state(&run.cgroup).ok()).unwrap_or_default()
    }

    /// The number of its first process, which its keeper has told, perhaps.
    fn first(&self, run: &Record, told: Option<u32>) -> Option<u32> {
        // Elsewhere that is another one.
        let counted = run.counted.is_some() && run.counted == self.here;
        told.filter(|_| counted).or_else(|| {
            let pids = self.groups.as_ref()?.pids(&run.cgroup).ok()?;
            match pids.is_empty() {
                // It has made groups of its own.
                true => Cgroup::open(&run.cgroup).ok().as_ref().and_then(first_process),
                false => first_of(pids),
            }
        })
    }
}

/// What was read of one.
enum Found {
    /// A detached one, and its run.
    Lasting(Box<DetachedRecord>, Option<Box<Record>>),
    /// Another one's run, and whether nobody owns it any more.
    Owned(Box<Record>, bool),
}

impl Found {
    /// What its run is known by.
    fn key(&self) -> &str {
        match self {
            Self::Lasting(record, _) => &record.id,
            Self::Owned(run, _) => &run.name,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Lasting(record, _) => &record.name,
            Self::Owned(run, _) => run.called(),
        }
    }

    fn known(self, from: &Vantage) -> Result<Known> {
        match self {
            Self::Lasting(record, run) => {
                let shares = record.shares.clone();
                let mut run = run.map(|run| (from.state(&run), *run));
                // What runs has an owner.
                if let Some((GroupState { populated: false, .. }, ended)) = &run {
                    let _guard = from.store.lock()?;
                    let owned = from.store.is_owned(&ended.name);
                    run = run.filter(|_| owned);
                }
                Ok((ContainerInfo::of_detached(*record, run, from)?, shares))
            }
            Self::Owned(run, dead) => {
                let shares = run.is_pod.then(|| run.shares.clone());
                let now = if dead { GroupState::default() } else { from.state(&run) };
                let mut info = ContainerInfo::of(*run, now, None, from);
                if dead {
                    info.state = State::Ended;
                }
                Ok((info, shares))
            }
        }
    }
}

impl ContainerInfo {
    /// `told` is the number of its first process, if its keeper has told.
    fn of(record: Record, now: GroupState, told: Option<u32>, from: &Vantage) -> Self {
        let state = match now {
            GroupState { populated: false, .. } => State::Created,
            GroupState { frozen: true, .. } => State::Paused,
            _ => State::Running,
        };
        Self {
            name: record.called().to_owned(),
            id: record.id().to_owned(),
            state,
            pid: now.populated.then(|| from.first(&record, told)).flatten(),
            created: record.created,
            command: record.command,
            image: record.source,
            pod: record.pod,
            image_digest: record.digest,
            hostname: record.hostname,
            labels: record.labels,
            networks: record.places.into_iter().map(PlaceInfo::of).collect(),
            published: record.published.iter().filter_map(|text| text.parse().ok()).collect(),
            mounts: record.mounts,
            volumes: record.volumes,
            limits: record.limits,
            cgroup: Some(record.cgroup),
            detached: None,
        }
    }

    /// With its run, while somebody owns that.
    fn of_detached(
        record: DetachedRecord,
        run: Option<(GroupState, Record)>,
        from: &Vantage,
    ) -> Result<Self> {
        let kept = record.state()?;
        let running = run.is_some();
        let mut info = match run {
            Some((now, run)) => Self::of(run, now, kept.as_ref().and_then(|kept| kept.pid), from),
            None => Self::of(record.as_run(), GroupState::default(), None, from),
        };
        let restarting = kept.as_ref().is_some_and(|kept| kept.status == KeptStatus::Restarting);
        info.state = match running {
            true if info.state == State::Created && restarting => State::Restarting,
            true => info.state,
            false if kept.is_some() => State::Exited,
            false => State::Created,
        };
        if !running {
            info.cgroup = None;
        }
        let description = record.description;
        // Its run may still be called otherwise.
        info.name = record.name;
        info.created = record.created;
        info.command = description.command;
        info.limits = description.limits;
        info.detached = Some(DetachedInfo {
            restart: description.restart,
            restarts: kept.as_ref().map_or(0, |kept| kept.restarts),
            health: kept.as_ref().and_then(|kept| kept.health).filter(|_| running),
            started: kept.as_ref().map(|kept| kept.started),
            ended: kept.as_ref().and_then(|kept| kept.ended),
            outcome: kept.as_ref().filter(|_| !running).and_then(|kept| detached::outcome(kept).ok()),
            terminal: description.terminal.is_some(),
            remove_at_end: description.remove_at_end,
        });
        Ok(info)
    }
}

impl PlaceInfo {
    /// With the network's name.
    fn of(place: PlaceRecord) -> (String, Self) {
        let PlaceRecord { network, interface, addresses, aliases, .. } = place;
        (network, Self { interface, addresses, aliases })
    }
}

/// The one that is process 1 of its pid namespace: the last number of `NSpid` (proc_pid_status(5)). Of a container in somebody else's pid
/// namespace, its oldest process.
pub(crate) fn first_process(group: &Cgroup) -> Option<u32> {
    first_of(group.pids().ok()?)
}

fn first_of(mut pids: Vec<u32>) -> Option<u32> {
    pids.sort_unstable();
    let is_first = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.is_some_and(|numbers| numbers.split_whitespace().skip(1).last() == Some("1"))
    };
    pids.iter().copied().find(is_first).or_else(|| pids.first().copied())
}
