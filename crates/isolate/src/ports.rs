//! Host ports, claimed before anything is made; who has one that is taken.

use isolate_netns::{ErrorKind as NetErrorKind, Publish, Reservation};

use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// All of them or none, for the container with this record's `name`; on IPv6 as well if it has an address of that.
pub(crate) fn reserve(
    publish: &[Publish],
    ipv6: bool,
    name: &str,
    store: &Store,
) -> Result<Vec<Reservation>> {
    let one = |publish: &Publish| {
        let claimed = if ipv6 { publish.reserve_both() } else { publish.reserve() };
        claimed.map_err(|error| explained(error, publish, name, store))
    };
    publish.iter().map(one).collect()
}

/// An error that names the container which has the port, where it is one.
pub(crate) fn explained(error: isolate_netns::Error, publish: &Publish, name: &str, store: &Store) -> Error {
    match holder(publish, name, store) {
        Some(name) if error.kind() == NetErrorKind::AddressInUse => {
            let port = publish.host_side();
            let what = format!("host port {port} is taken: container `{name}` has published it");
            Error::new(ErrorKind::InUse, what)
        }
        _ => error.into(),
    }
}

/// The other container that has the port: its socket is bound and does not listen, so that the kernel's tables are without it.
fn holder(publish: &Publish, name: &str, store: &Store) -> Option<String> {
    let has = |text: &String| text.parse().is_ok_and(|other| publish.conflicts_with(&other));
    let mut others = store.records().into_iter().filter(|record| record.name != name);
    others
        .find(|record| record.published.iter().chain(&record.claimed).any(has))
        .map(|record| record.called().to_owned())
}
