//! Hybrid hosts: controllers on cgroup v1 hierarchies, Documentation/admin-guide/cgroup-v1.

mod later;
mod settings;

use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use crate::directory::Directory;
use crate::mountinfo::{Mount, Mounts};
use crate::name::Name;
use crate::reader::{PEAK_V1 as PEAK, What};
use crate::{Controller, Error, ErrorKind, Result};

pub(crate) use settings::open as open_settings;

/// Those of the groups that are made with the group itself.
const CONTROLLERS: [Controller; 3] = [Controller::Memory, Controller::Cpu, Controller::Pids];

/// A group's namesakes in the hierarchies of cgroup v1 that have a controller of ours.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Vec<Group>,
    /// By [`later::CONTROLLERS`]: made when they are wanted.
    later: [OnceLock<Directory>; 2],
}

/// One directory; several controllers may be mounted together.
#[derive(Debug)]
struct Group {
    controllers: Vec<Controller>,
    directory: Directory,
}

impl Groups {
    /// Makes the groups; those made are removed again when one fails.
    pub(crate) fn create(mounts: &Mounts, name: &Name) -> Result<Self> {
        let mut made = Self::default();
        made.fill(mounts, name).inspect_err(|_| {
            for group in made.directories() {
                let _ = group.remove();
            }
        })?;
        Ok(made)
    }

    fn fill(&mut self, mounts: &Mounts, name: &Name) -> Result<()> {
        for (mount, controllers) in hierarchies(mounts) {
            let directory = Directory::make_below(mount, name.components())?;
            self.groups.push(Group { controllers, directory });
        }
        if name.parents().is_empty() {
            return Ok(());
        }
        // Where the group above is limited in them, so is what runs in this one.
        for (controller, place) in later::CONTROLLERS.into_iter().zip(&self.later) {
            let mount = mounts.v1(later::hierarchy(controller));
            if mount.is_some_and(|mount| Directory::below(mount, name.parents()).is_ok())
                && let Some(made) = later::make(mounts, name, controller)?
            {
                place.get_or_init(|| made);
            }
        }
        Ok(())
    }

    /// Those that are there.
    pub(crate) fn open(mounts: &Mounts, name: &Name) -> Result<Self> {
        let mut found = Vec::new();
        for (mount, controllers) in hierarchies(mounts) {
            match Directory::below(mount, name.components()) {
                Ok(directory) => found.push(Group { controllers, directory }),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let later = later::CONTROLLERS.map(|controller| {
            let mount = mounts.v1(later::hierarchy(controller));
            mount
                .and_then(|mount| Directory::below(mount, name.components()).ok())
                .map_or_else(OnceLock::new, OnceLock::from)
        });
        Ok(Self { groups: found, later })
    }

    /// What somebody has made meanwhile for a group below another, since that one was limited.
    pub(crate) fn look(&self, name: &Name) {
        if name.parents().is_empty() {
            return;
        }
        // What cannot be looked at is as before.
        let _ = Mounts::with(|mounts| {
            for (controller, place) in later::CONTROLLERS.into_iter().zip(&self.later) {
                let mount = mounts.v1(later::hierarchy(controller)).filter(|_| place.get().is_none());
                if let Some(found) = mount.and_then(|mount| Directory::below(mount, name.components()).ok()) {
                    place.get_or_init(|| found);
                }
            }
            Ok(())
        });
    }

    pub(crate) fn find(&self, controller: Controller) -> Option<&Directory> {
        let group = self.groups.iter().find(|group| group.controllers.contains(&controller));
        let later = || {
            later::CONTROLLERS.iter().position(|later| *later == controller).and_then(|n| self.later[n].get())
        };
        group.map(|group| &group.directory).or_else(later)
    }

    /// The group of a controller that is not there before it is wanted; `None` where it is not on cgroup v1.
    pub(crate) fn begin(
        &self,
        mounts: &Mounts,
        name: &Name,
        controller: Controller,
    ) -> Result<Option<&Directory>> {
        let place = later::CONTROLLERS.iter().zip(&self.later).find(|(later, _)| **later == controller);
        let Some((_, place)) = place else { return Ok(None) };
        match later::make(mounts, name, controller) {
            Ok(Some(made)) => Ok(Some(place.get_or_init(|| made))),
            // By another thread, just now.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && place.get().is_some() => {
                Ok(place.get())
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn directories(&self) -> impl Iterator<Item = &Directory> {
        self.groups.iter().map(|group| &group.directory).chain(self.later.iter().filter_map(OnceLock::get))
    }

    pub(crate) fn add(&self, pid: u32) -> Result<()> {
        self.directories().try_for_each(|group| group.write("cgroup.procs", &pid.to_string()))
    }

    pub(crate) fn join_files(&self) -> Result<Vec<OwnedFd>> {
        let open = |group: &Directory| {
            let refused = |errno| Error::os(group.path().join("tasks").display().to_string(), errno);
            group.open_write("tasks").map_err(refused)
        };
        self.directories().map(open).collect()
    }

    /// The files that tell what cgroup v2 has not got, in the order in which they are read.
    pub(crate) fn readings(&self) -> impl Iterator<Item = (What, &Directory, &'static str)> {
        use crate::reader::Memory::{Both, Current, DetailsV1, Failures, Limit, OomControl, Peak};
        const FILES: [(Controller, What, &str); 13] = [
            (Controller::Io, What::IoBytes, "blkio.throttle.io_service_bytes_recursive"),
            (Controller::Io, What::IoOperations, "blkio.throttle.io_serviced_recursive"),
            (Controller::Cpu, What::Throttling, "cpu.stat"),
            (Controller::Pids, What::PidsCurrent, "pids.current"),
            (Controller::Pids, What::PidsPeak, "pids.peak"),
            (Controller::Pids, What::PidsLimit, "pids.max"),
            (Controller::Memory, What::Memory(Current), "memory.usage_in_bytes"),
            (Controller::Memory, What::Memory(Peak), PEAK),
            (Controller::Memory, What::Memory(Limit), "memory.limit_in_bytes"),
            (Controller::Memory, What::Memory(Both), "memory.memsw.usage_in_bytes"),
            (Controller::Memory, What::Memory(OomControl), "memory.oom_control"),
            (Controller::Memory, What::Memory(Failures), "memory.failcnt"),
            (Controller::Memory, What::Memory(DetailsV1), "memory.stat"),
        ];
        FILES.into_iter().filter_map(|(controller, what, file)| Some((what, self.find(controller)?, file)))
    }
}

/// The hierarchies with a controller of ours, each once.
fn hierarchies(mounts: &Mounts) -> Vec<(&Mount, Vec<Controller>)> {
    let mut found: Vec<(&Mount, Vec<Controller>)> = Vec::new();
    for controller in CONTROLLERS {
        let Some(mount) = mounts.v1(controller.name()) else { continue };
        match found.iter_mut().find(|(known, _)| std::ptr::eq(*known, mount)) {
            Some((_, controllers)) => controllers.push(controller),
            None => found.push((mount, vec![controller])),
        }
    }
    found
}
