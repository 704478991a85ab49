//! Whether the host forwarded packets before there were networks: what was off is off again after the last.

use std::fs;
use std::io;

use isolate_netns::{is_forwarding, stop_forwarding};

use crate::error::{Error, Result};
use crate::network::record::NetworkRecord;
use crate::store::{Guard, Store};

/// For each version of IP, what it was before the first network of that version: 0 or 1.
const FILES: [(bool, &str); 2] = [(false, "forwarding4"), (true, "forwarding6")];

/// Before a network switches it on, of IPv6 if it has that.
pub(super) fn remember(store: &Store, _: &Guard, with_ipv6: bool) -> Result<()> {
    for (ipv6, file) in FILES {
        let path = store.file(file);
        // Empty: who made it was killed before it switched anything.
        let known = fs::read(&path).is_ok_and(|was| !was.is_empty());
        if ipv6 <= with_ipv6 && !known {
            let was = if is_forwarding(ipv6)? { "1" } else { "0" };
            fs::write(&path, was).map_err(|e| Error::io(path.display(), &e))?;
        }
    }
    Ok(())
}

/// After the last network that is routed: those of macvlans are not.
pub(super) fn restore(store: &Store, _: &Guard) -> Result<()> {
    let networks = store.networks();
    let failed = |e| Error::io(networks.display(), &e);
    let is_macvlan = |record: NetworkRecord| record.parent.is_some();
    for left in fs::read_dir(&networks).map_err(failed)? {
        let left = left.map_err(failed)?;
        if !NetworkRecord::read(&left.path()).is_ok_and(|found| found.is_some_and(is_macvlan)) {
            return Ok(());
        }
    }
    for (ipv6, file) in FILES {
        let path = store.file(file);
        let was = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(|e| Error::io(path.display(), &e))?,
        };
        if was == b"0" && is_forwarding(ipv6)? {
            stop_forwarding(ipv6)?;
        }
        fs::remove_file(&path).map_err(|e| Error::io(path.display(), &e))?;
    }
    Ok(())
}
