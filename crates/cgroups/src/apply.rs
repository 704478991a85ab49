//! Limits in force: all that were asked for, or those of before.

use crate::directory::Directory;
use crate::mountinfo::Mounts;
use crate::name::Name;
use crate::setting::Open;
use crate::{Controller, Controllers, Error, ErrorKind, Limits, Result, kill, settings, v1, v2};

/// Sets limits: all of them, or none. A `new` group has none so far.
pub(crate) fn apply(
    name: &Name,
    group: &Directory,
    v1: &v1::Groups,
    limits: &Limits,
    new: bool,
) -> Result<()> {
    limits.validate()?;
    let about = |controller, error: Error| error.about(format_args!("{controller} limit"));
    let mut here = None;
    let mut all: Vec<Open<'_>> = Vec::new();
    for controller in settings::controllers(limits) {
        let open = match v1.find(controller) {
            Some(old) => v1::open_settings(limits, controller, old, new),
            None => match open(limits, controller, group, new) {
                Ok((open, true)) => Ok(open),
                // A file that is not there: of a controller that has to be enabled, or of none.
                _ => match place(name, group, v1, controller, &mut here)? {
                    Some(old) => v1::open_settings(limits, controller, old, new),
                    None => open(limits, controller, group, new).map(|(open, _)| open),
                },
            },
        };
        all.extend(open.map_err(|error| about(controller, error))?);
    }
    for (n, setting) in all.iter().enumerate() {
        if let Err(error) = setting.carry_out() {
            let put_back = all.iter().take(n + 1).rev().map(Open::put_back);
            let error = about(setting.controller(), error);
            return Err(error.and(put_back.filter_map(Result::err).map(|error| error.about("not as before"))));
        }
    }
    Ok(())
}

/// The files of one controller on cgroup v2, and whether all are there.
fn open<'g>(
    limits: &Limits,
    controller: Controller,
    group: &'g Directory,
    new: bool,
) -> Result<(Vec<Open<'g>>, bool)> {
    let wanted = settings::of(limits, controller)?;
    let count = wanted.len();
    let open = wanted.into_iter().filter_map(|setting| setting.open(group, new).transpose());
    let open: Vec<_> = open.collect::<Result<_>>()?;
    let all = open.len() == count;
    Ok((open, all))
}

/// Gives the group controllers, limited or not.
pub(crate) fn enable(
    name: &Name,
    group: &Directory,
    v1: &v1::Groups,
    controllers: &[Controller],
) -> Result<()> {
    let mut here = None;
    controllers.iter().try_for_each(|controller| place(name, group, v1, *controller, &mut here).map(drop))
}

/// Where a controller's limits are set: in the group of cgroup v1 that is returned, or in that of cgroup v2. It is enabled there.
/// `here`: what the group has got on cgroup v2, once that was read.
fn place<'g>(
    name: &Name,
    group: &Directory,
    v1: &'g v1::Groups,
    controller: Controller,
    here: &mut Option<String>,
) -> Result<Option<&'g Directory>> {
    if let Some(old) = v1.find(controller) {
        return Ok(Some(old));
    }
    let here = match here {
        Some(here) => here,
        None => here.insert(group.read("cgroup.controllers")?),
    };
    if v2::lists(here, controller) {
        return Ok(None);
    }
    Mounts::with(|mounts| {
        if v2::enable(mounts, name.parents(), controller)? {
            return Ok(None);
        }
        match v1.begin(mounts, name, controller)? {
            Some(made) => follow(group, made).map(|()| Some(made)),
            None => Err(Controllers::among(mounts)?.missing(controller)),
        }
    })
}

/// Into a group that was made while processes were in the others: all of them, and what they fork meanwhile.
fn follow(group: &Directory, into: &Directory) -> Result<()> {
    const ROUNDS: u32 = 100;
    for _ in 0..ROUNDS {
        let there = kill::pids(into)?;
        let left: Vec<u32> = kill::pids(group)?.into_iter().filter(|pid| !there.contains(pid)).collect();
        if left.is_empty() {
            return Ok(());
        }
        for pid in left {
            match into.write("cgroup.procs", &pid.to_string()) {
                // It has ended.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                done => done?,
            }
        }
    }
    let what = format!("{}: its processes fork faster than they can be moved", into.path().display());
    Err(Error::new(ErrorKind::Busy, what).with_hint("freeze the group for that time"))
}
