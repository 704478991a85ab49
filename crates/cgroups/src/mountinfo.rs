//! Where the hierarchies are mounted: proc_pid_mountinfo(5).

use std::cell::RefCell;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::rc::Rc;

use crate::{Error, ErrorKind, Result};

/// One mount of a control group hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mount {
    /// As `STATX_MNT_ID` tells it.
    pub(crate) id: u64,
    /// Major and minor number of the file system.
    pub(crate) device: (u32, u32),
    pub(crate) point: PathBuf,
    /// Which group is its root: `/`, or `/..` and the like in a cgroup namespace that is deeper.
    pub(crate) root: Vec<u8>,
    /// Of cgroup v1: its controllers. Of v2: `None`.
    pub(crate) controllers: Option<Vec<String>>,
    pub(crate) read_only: bool,
}

/// The control group hierarchies that the calling thread sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounts(Vec<Mount>);

impl Mounts {
    /// Does what is wanted with the mounts as this thread knows them, and where that fails because they are others by now, with those.
    ///
    /// Reading the table takes as long as making a group does. What was opened of a mount says whether it is the one that the table
    /// named ([`Directory`](crate::directory::Directory)): an old table is an error, and never another file system.
    pub(crate) fn with<T>(wanted: impl Fn(&Self) -> Result<T>) -> Result<T> {
        thread_local! {
            static KNOWN: RefCell<Option<Rc<Mounts>>> = const { RefCell::new(None) };
        }
        let known = KNOWN.with_borrow(Clone::clone);
        let done = known.as_ref().map(|known| wanted(known));
        match done {
            Some(Ok(done)) => Ok(done),
            done => {
                let now = Rc::new(Self::read()?);
                if let (Some(Err(error)), true) = (done, known.as_ref() == Some(&now)) {
                    return Err(error);
                }
                KNOWN.set(Some(Rc::clone(&now)));
                wanted(&now)
            }
        }
    }

    /// Of the calling *thread*: it may be in another mount namespace than the process's first.
    pub(crate) fn read() -> Result<Self> {
        const FILE: &str = "/proc/thread-self/mountinfo";
        let table = std::fs::read(FILE).map_err(|error| {
            Error::new(ErrorKind::Unsupported, format!("{FILE}: {error}"))
                .with_hint("mount -t proc proc /proc")
        })?;
        Ok(Self::parse(&table))
    }

    fn parse(table: &[u8]) -> Self {
        Self(table.split(|byte| *byte == b'\n').filter_map(parse_line).collect())
    }

    /// The mount of cgroup v2.
    pub(crate) fn v2(&self) -> Option<&Mount> {
        self.best(|mount| mount.controllers.is_none())
    }

    /// As [`v2`](Self::v2); without it nothing is to be had.
    pub(crate) fn unified(&self) -> Result<&Mount> {
        self.v2().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "cgroup v2 is not mounted")
                .with_hint("mount -t cgroup2 cgroup2 /sys/fs/cgroup")
        })
    }

    /// The mount of the cgroup v1 hierarchy with this controller.
    pub(crate) fn v1(&self, controller: &str) -> Option<&Mount> {
        self.best(|mount| {
            mount.controllers.as_ref().is_some_and(|names| names.iter().any(|name| name == controller))
        })
    }

    /// A mount of the whole hierarchy that can be written, if there is one.
    fn best(&self, wanted: impl Fn(&Mount) -> bool) -> Option<&Mount> {
        self.0
            .iter()
            .filter(|mount| wanted(mount))
            .min_by_key(|mount| (mount.read_only, mount.root != b"/", mount.root.len()))
    }
}

/// `36 35 98:0 /root /point rw,noatime master:1 - cgroup2 source rw,options`.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = text(fields.next()?).parse().ok()?;
    let device = text(fields.nth(1)?);
    let (major, minor) = device.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let root = fields.next()?;
    let point = fields.next()?;
    let options = fields.next()?;
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = fields.next()?;
    let super_options = fields.nth(1)?;
    let controllers = match kind {
        b"cgroup2" => None,
        b"cgroup" => Some(super_options.split(|byte| *byte == b',').map(text).collect()),
        _ => return None,
    };
    let read_only = options.split(|byte| *byte == b',').any(|option| option == b"ro");
    let point = PathBuf::from(OsString::from_vec(unescape(point)));
    Some(Mount { id, device, point, root: unescape(root), controllers, read_only })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn point(mount: Option<&Mount>) -> Option<&Path> {
        mount.map(|mount| &*mount.point)
    }

    #[test]
    fn a_hybrid_host_has_v2_apart_from_its_v1_controllers() {
        let mounts = Mounts::parse(
            b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
              32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 master:2 - cgroup cgroup rw,cpu,cpuacct\n\
              35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
              41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        assert_eq!(point(mounts.v2()), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(point(mounts.v1("cpu")), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(point(mounts.v1("memory")), Some(Path::new("/sys/fs/cgroup/memory")));
        assert_eq!(mounts.v1("pids"), None);
    }

    #[test]
    fn a_writable_mount_of_the_whole_hierarchy_is_taken_before_others() {
        let mounts = Mounts::parse(
            b"1 0 0:1 / /a ro - cgroup2 c rw\n\
              2 0 0:1 /part /b rw - cgroup2 c rw\n\
              3 0 0:1 / /c\\040d rw - cgroup2 c rw\n",
        );
        assert_eq!(point(mounts.v2()), Some(Path::new("/c d")));
    }

    #[test]
    fn the_hosts_mount_is_used_from_inside_a_cgroup_namespace() {
        let mounts = Mounts::parse(b"41 31 0:38 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert_eq!(point(mounts.v2()), Some(Path::new("/sys/fs/cgroup")));
    }

    #[test]
    fn lines_that_are_none_are_passed_over() {
        for table in
            [&b""[..], b"\n\n", b"1 2 3", b"1 2 3 / /x rw -", b"1 2 3 / /x rw - cgroup2", b"\xff\xfe - - -"]
        {
            assert_eq!(Mounts::parse(table).v2(), None);
        }
    }

    #[test]
    fn octal_escapes_are_undone_and_other_backslashes_stay() {
        assert_eq!(unescape(b"a\\040b\\134c\\9\\04"), b"a b\\c\\9\\04");
    }

    /// As the kernel does (mangle_path in fs/seq_file.c).
    fn escape(bytes: &[u8]) -> Vec<u8> {
        let one = |byte: &u8| match byte {
            b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
            byte => vec![*byte],
        };
        bytes.iter().flat_map(one).collect()
    }

    proptest! {
        #[test]
        fn a_mount_is_read_as_it_was(
            id: u32, device: (u32, u32), read_only: bool,
            root in proptest::collection::vec(1u8.., 0..12), point in proptest::collection::vec(1u8.., 0..12),
            controllers in proptest::option::of(proptest::collection::vec("[a-z_]{1,8}", 1..4)),
        ) {
            let mount = Mount {
                id: id.into(), device, root, read_only, controllers: controllers.clone(),
                point: PathBuf::from(OsString::from_vec(point.clone())),
            };
            let mut line = format!("{id} 1 {}:{} ", device.0, device.1).into_bytes();
            line.extend(escape(&mount.root));
            line.push(b' ');
            line.extend(escape(&point));
            let kind = if controllers.is_some() { "cgroup" } else { "cgroup2" };
            let rw = if read_only { "ro" } else { "rw" };
            let options = controllers.map_or("rw".to_owned(), |names| format!("rw,{}", names.join(",")));
            line.extend(format!(" {rw},relatime shared:7 - {kind} {kind} {options}").into_bytes());
            let read = parse_line(&line).unwrap();
            // The file system's own options are among the controllers, and no controller has their name.
            let only = |mount: &Mount| mount.controllers.clone().map(|names| names.into_iter().filter(|name| name != "rw").collect::<Vec<_>>());
            prop_assert_eq!(only(&read), only(&mount));
            prop_assert_eq!(Mount { controllers: None, ..read }, Mount { controllers: None, ..mount });
        }

        #[test]
        fn any_table_is_read_without_a_panic(table in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mounts = Mounts::parse(&table);
            let _ = (mounts.v2(), mounts.v1("cpu"));
        }
    }
}
