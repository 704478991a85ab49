//! Limits in force: all that were asked for, or those of before.

use crate::cgroup::root;
use crate::directory::Directory;
use crate::mountinfo::Mounts;
use crate::name::Name;
use crate::setting::{self, Setting};
use crate::{Controller, Controllers, Error, ErrorKind, Limits, Result, kill, settings, v1, v2};

/// Which hierarchy has a controller.
#[derive(Clone, Copy)]
enum Place {
    V2,
    V1,
}

/// What is to be set: one value of a group, or all of a controller's on cgroup v1.
enum Value<'g> {
    One(&'g Directory, Setting),
    AllOf(Controller),
}

/// What was set before.
enum Before<'g> {
    One(&'g Directory, setting::Before),
    AllOf(Box<v1::Before>),
}

/// Sets limits: all of them, or none.
pub(crate) fn apply(name: &Name, group: &Directory, v1: &v1::Groups, limits: &Limits) -> Result<()> {
    limits.validate()?;
    let here = group.read("cgroup.controllers")?;
    let mut values = Vec::new();
    for controller in settings::controllers(limits) {
        let place = match v2::lists(&here, controller) {
            true => Place::V2,
            false => place(name, group, v1, controller)?,
        };
        let settings = match place {
            Place::V2 => settings::of(limits, controller, group)?,
            Place::V1 if matches!(controller, Controller::Cpuset | Controller::Io) => {
                v1::later::settings(limits, controller)?
            }
            Place::V1 => {
                values.push(Value::AllOf(controller));
                continue;
            }
        };
        let place = v1.find(controller).unwrap_or(group);
        values.extend(settings.into_iter().map(|setting| Value::One(place, setting)));
    }
    let mut before = Vec::new();
    let result = values.iter().try_for_each(|value| {
        let (controller, done) = match value {
            Value::One(group, setting) => {
                let mut held = Vec::new();
                let done = setting.carry_out(group, &mut held);
                before.extend(held.into_iter().map(|before| Before::One(group, before)));
                (setting.controller, done)
            }
            Value::AllOf(controller) => {
                before.push(Before::AllOf(Box::new(v1.before(*controller)?)));
                (*controller, v1.set(*controller, limits))
            }
        };
        done.map_err(|error| error.about(format_args!("{controller} limit")))
    });
    result.map_err(|error| {
        let put_back = before.iter().rev().map(|before| match before {
            Before::One(group, before) => before.put_back(group),
            Before::AllOf(before) => v1.put_back(before),
        });
        error.and(put_back.filter_map(Result::err).map(|error| error.about("not as before")))
    })
}

/// Which hierarchy enforces the limits of a controller that the group has not got yet on cgroup v2.
fn place(name: &Name, group: &Directory, v1: &v1::Groups, controller: Controller) -> Result<Place> {
    if v1.has(controller) {
        return Ok(Place::V1);
    }
    let mounts = Mounts::read()?;
    if v2::enable(&root(&mounts)?, name.parents(), controller)? {
        return Ok(Place::V2);
    }
    match v1.begin(&mounts, name, controller)? {
        Some(made) => follow(group, made).map(|()| Place::V1),
        None => Err(Controllers::among(&mounts)?.missing(controller)),
    }
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
