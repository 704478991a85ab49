//! Ranges of user and group ids for containers' user namespaces: 65,536 each, which nobody else on the machine has.
//!
//! A lease is a symbolic link in the state directory, from the first id of the range to the name of the container that has it, or to
//! the process that will start one with it.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::detached;
use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::store::{Guard, Store};

mod host;
pub(crate) mod pool;
pub(crate) mod subids;

/// Ids of a container: all that a system uses of itself, `nobody` (65534) included.
pub(crate) const COUNT: u32 = 65_536;
/// Ranges lie from here on, above those that systemd-nspawn takes (0x0008_0000 to 0x6fff_ffff),
pub(crate) const FIRST: u32 = 0x7000_0000;
/// and end below the range for foreign images (0x7ffe_0000; both: systemd's UIDS-GIDS.md) and 2³¹, from where on programs
/// that keep an id in a signed number go wrong.
const END: u32 = 0x7ffe_0000;
/// Holders that an error names.
const NAMED: usize = 5;

/// A range of ids, and the right to it.
#[derive(Debug)]
pub(crate) struct IdRange {
    /// The id outside that is 0 inside; a multiple of 65,536.
    pub(crate) base: u32,
    file: PathBuf,
}

/// Takes a range for the container `name`: the one from `wanted` on, or any that is free.
///
/// What `/etc/subuid`, `/etc/subgid`, `/etc/passwd` or `/etc/group` of the host give to somebody is not free.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] for a `wanted` that is no first id of a range; [`ErrorKind::InUse`] if that range, or every
/// one, is taken, with who has it; one of the four files that cannot be read.
pub(crate) fn take(store: &Store, guard: &Guard, name: &str, wanted: Option<u32>) -> Result<IdRange> {
    lease(&store.ids(), guard, &host::reserved()?, name, wanted)
}

/// The range of a detached container, which has it as long as it is there: leased again after the machine's end, and to nobody else; also
/// when it has another name now.
pub(crate) fn keep(store: &Store, guard: &Guard, name: &str, base: u32) -> Result<()> {
    let file = store.ids().join(base.to_string());
    match claim(&file, name)? || holder(&file) == name {
        true => Ok(()),
        false => IdRange { base, file }.hand_over(guard, name),
    }
}

/// It has it no more.
pub(crate) fn release(store: &Store, guard: &Guard, base: u32) -> Result<()> {
    IdRange { base, file: store.ids().join(base.to_string()) }.give_back(guard)
}

impl IdRange {
    /// From here on it is that of the container `name`.
    pub(crate) fn hand_over(&self, _: &Guard, name: &str) -> Result<()> {
        // Made aside and renamed: at no moment is it nobody's.
        let aside = self.file.with_extension("new");
        let _ = fs::remove_file(&aside);
        let handed = symlink(name, &aside).and_then(|()| fs::rename(&aside, &self.file));
        handed.map_err(|e| Error::io(self.file.display(), &e))
    }

    /// Gives the range back.
    pub(crate) fn give_back(self, _: &Guard) -> Result<()> {
        match fs::remove_file(&self.file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(self.file.display(), &e)),
            _ => Ok(()),
        }
    }
}

/// Gives back what containers have that are not there any more: their owner was killed between two calls.
pub(crate) fn sweep(store: &Store, _: &Guard) -> Result<()> {
    let leases = store.ids();
    let mut errors = Vec::new();
    errors.extend(pool::sweep(store).err());
    let failed = |e| Error::io(leases.display(), &e);
    for lease in fs::read_dir(&leases).map_err(failed)? {
        let lease = lease.map_err(failed)?;
        let holder = match fs::read_link(lease.path()) {
            // Whose it is cannot be told now.
            Err(e) if e.kind() != io::ErrorKind::InvalidInput => continue,
            read => read.unwrap_or_default().to_string_lossy().into_owned(),
        };
        let container =
            name::check(&holder).is_ok() && (!store.is_gone(&holder) || detached::is_there(&holder)?);
        // What is no number was put aside by who was killed handing a range over.
        let whole = lease.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        if whole && (container || pool::is_alive(store, &holder)) {
            continue;
        }
        if let Err(e) = fs::remove_file(lease.path())
            && e.kind() != io::ErrorKind::NotFound
        {
            errors.push(Error::io(lease.path().display(), &e));
        }
    }
    Error::all(errors)
}

/// The lock is held: nobody else takes one meanwhile.
fn lease(
    leases: &Path,
    _: &Guard,
    reserved: &[host::Reserved],
    name: &str,
    wanted: Option<u32>,
) -> Result<IdRange> {
    let file = |base: u32| leases.join(base.to_string());
    if let Some(base) = wanted {
        let taken = |by: String| {
            let what = format!("ids {base} to {}: {by} has them", base + (COUNT - 1));
            Err(Error::new(ErrorKind::InUse, what))
        };
        if base % COUNT != 0 || !(FIRST..END).contains(&base) {
            let what =
                format!("ids from {base} on: not a multiple of {COUNT} from {FIRST} to {}", END - COUNT);
            return Err(Error::new(ErrorKind::InvalidConfig, what));
        }
        if let Some(other) = reserved.iter().find(|other| other.overlaps(base)) {
            return taken(other.file.to_owned());
        }
        return match claim(&file(base), name)? {
            true => Ok(IdRange { base, file: file(base) }),
            false => taken(format!("container `{}`", holder(&file(base)))),
        };
    }
    // From a place that differs, so that a range is not used again at once: what was forgotten somewhere is nobody's then.
    let many = (END - FIRST) / COUNT;
    let start = u64::from_str_radix(&name::random(), 16).unwrap_or(0) as u32 % many;
    let mut others = 0;
    for n in 0..many {
        let base = FIRST + (start + n) % many * COUNT;
        if reserved.iter().any(|other| other.overlaps(base)) {
            others += 1;
        } else if claim(&file(base), name)? {
            return Ok(IdRange { base, file: file(base) });
        }
    }
    Err(exhausted(leases, many, others))
}

/// A link can be made only once.
fn claim(file: &Path, name: &str) -> Result<bool> {
    match symlink(name, file) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(Error::io(file.display(), &e)),
    }
}

fn holder(file: &Path) -> String {
    fs::read_link(file).unwrap_or_default().to_string_lossy().into_owned()
}

fn exhausted(leases: &Path, many: u32, others: u32) -> Error {
    let mut holders: Vec<_> =
        fs::read_dir(leases).into_iter().flatten().flatten().map(|lease| holder(&lease.path())).collect();
    holders.sort();
    let mut named: Vec<_> = holders.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
    if holders.len() > NAMED {
        named.push("…".into());
    }
    let what = format!(
        "all {many} ranges of {COUNT} ids from {FIRST} on are taken: {} by containers ({}), {others} by {}",
        holders.len(),
        named.join(", "),
        host::FILES
    );
    Error::new(ErrorKind::InUse, what).with_hint("remove containers that are not needed any more")
}

#[cfg(test)]
mod tests {
    use super::host::Reserved;
    use super::*;

    /// A state directory that goes with it.
    struct World(PathBuf, Store);

    impl World {
        fn new(test: &str) -> Self {
            let root = std::env::temp_dir().join(format!("ids-{test}-{}", std::process::id()));
            Self(root.clone(), Store::at(root).unwrap())
        }

        fn take(&self, name: &str, wanted: Option<u32>, reserved: &[Reserved]) -> Result<IdRange> {
            lease(&self.1.ids(), &self.1.lock().unwrap(), reserved, name, wanted)
        }

        fn taken(&self) -> usize {
            fs::read_dir(self.1.ids()).unwrap().count()
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn reserved(start: u32, count: u32) -> Reserved {
        Reserved { start, last: start + (count - 1), file: "/etc/subuid" }
    }

    #[test]
    fn ranges_differ_are_aligned_and_are_free_again_once_given_back() {
        let world = World::new("differ");
        let ranges: Vec<_> = (0..50).map(|n| world.take(&format!("c{n}"), None, &[]).unwrap()).collect();
        let mut bases: Vec<_> = ranges.iter().map(|range| range.base).collect();
        bases.sort_unstable();
        bases.dedup();
        assert_eq!(bases.len(), 50);
        assert!(bases.iter().all(|base| base % COUNT == 0 && (FIRST..=END - COUNT).contains(base)));
        for range in ranges {
            range.give_back(&world.1.lock().unwrap()).unwrap();
        }
        assert_eq!(world.taken(), 0);
    }

    #[test]
    fn a_range_that_is_wanted_is_that_one_or_an_error_that_names_who_has_it() {
        let world = World::new("wanted");
        let (base, last) = (FIRST + 5 * COUNT, END - COUNT);
        assert_eq!(world.take("a", Some(base), &[]).unwrap().base, base);
        assert_eq!(world.take("a", Some(last), &[]).unwrap().base, last);
        let error = world.take("b", Some(base), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert_eq!(error.to_string(), "ids 1879375872 to 1879441407: container `a` has them");
        let error = world.take("b", Some(FIRST), &[reserved(FIRST + 9, 1)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert!(error.to_string().contains("/etc/subuid has them"), "{error}");
        for bad in [0, FIRST + 1, FIRST - COUNT, END, u32::MAX] {
            let error = world.take("b", Some(bad), &[]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{bad}");
        }
    }

    #[test]
    fn what_the_host_gives_to_others_is_skipped_and_when_all_is_taken_the_error_says_by_whom() {
        let world = World::new("exhausted");
        // All but seven, and the ends of two of those: five are left.
        let others =
            [reserved(FIRST + 7 * COUNT, END - FIRST - 7 * COUNT), reserved(FIRST + 3 * COUNT - 1, 2)];
        let mut bases: Vec<_> =
            (0..5).map(|n| world.take(&format!("c{n}"), None, &others).unwrap().base).collect();
        bases.sort_unstable();
        assert_eq!(bases, [0, 1, 4, 5, 6].map(|n| FIRST + n * COUNT));
        let error = world.take("more", None, &others).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        let said = "all 4094 ranges of 65536 ids from 1879048192 on are taken: 5 by containers \
                    (`c0`, `c1`, `c2`, `c3`, `c4`), 4089 by /etc/subuid, /etc/subgid, /etc/passwd or /etc/group";
        assert_eq!(error.to_string(), said);
    }

    #[test]
    fn a_lease_without_a_container_is_swept_and_no_other() {
        let world = World::new("sweep");
        let guard = world.1.lock().unwrap();
        let _entry = world.1.create(&guard, "alive").unwrap();
        let alive = lease(&world.1.ids(), &guard, &[], "alive", None).unwrap();
        for name in ["dead", "..", "a/b"] {
            lease(&world.1.ids(), &guard, &[], name, None).unwrap();
        }
        assert_eq!(world.taken(), 4);
        sweep(&world.1, &guard).unwrap();
        assert_eq!(world.taken(), 1);
        assert_eq!(holder(&alive.file), "alive");
    }

    #[test]
    fn of_this_machine_a_range_can_be_taken() {
        let world = World::new("machine");
        let range = take(&world.1, &world.1.lock().unwrap(), "c", None).unwrap();
        assert_eq!(holder(&range.file), "c");
        range.give_back(&world.1.lock().unwrap()).unwrap();
    }
}
