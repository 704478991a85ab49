//! Names on a network: a table that its name server answers from, and the `/etc/hosts` of its containers.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use isolate_namespaces::Namespace;
use isolate_netns::{Names, serve};

use crate::error::{Error, Result};
use crate::files;
use crate::network::record::NetworkRecord;
use crate::record::Record;
use crate::store::{Guard, Store};

/// Of networks with more containers than this, `/etc/hosts` has the container's own names alone: the name server has all. Where there is
/// none, it has them all.
const PEERS: usize = 128;
/// The port of name servers.
const PORT: u16 = 53;

fn directory(store: &Store, network: &str) -> PathBuf {
    store.network(network).join("names")
}

/// A container is found from here on, by its name, its aliases and its short id; the name server runs.
pub(crate) fn join(store: &Store, guard: &Guard, network: &NetworkRecord, container: &Record) -> Result<()> {
    let place = container.places.iter().find(|place| place.network == network.name);
    let Some(place) = place.filter(|_| network.has_names()) else { return Ok(()) };
    let own = [container.called(), container.id()].into_iter();
    // A name of 64 characters is none that can be asked for. An alias is checked when the table is written.
    let own = own.filter(|name| Names::accepts(name)).chain(place.aliases.iter().map(String::as_str));
    let mut names = current(store, network)?;
    names.add(&container.name, own, place.addresses.iter().copied());
    names.write(&directory(store, &network.name))?;
    ensure_served(store, network)?;
    tell(store, guard, network, &names, Some(&container.name));
    Ok(())
}

/// The same by the name that it is called by now, on all its networks.
pub(crate) fn rename(store: &Store, guard: &Guard, container: &Record) -> Result<()> {
    for place in &container.places {
        if let Some(network) = NetworkRecord::read(&store.network(&place.network))? {
            join(store, guard, &network, container)?;
        }
    }
    rewrite(store, container, &container.name)
}

/// It is found no more.
pub(crate) fn leave(store: &Store, guard: &Guard, network: &NetworkRecord, container: &str) -> Result<()> {
    if !network.has_names() {
        return Ok(());
    }
    let mut names = current(store, network)?;
    if names.remove(container) {
        names.write(&directory(store, &network.name))?;
        tell(store, guard, network, &names, None);
    }
    Ok(())
}

/// The table of a network without containers, and its server, where it has one.
pub(crate) fn begin(store: &Store, _: &Guard, network: &NetworkRecord) -> Result<()> {
    if network.has_names() {
        current(store, network)?.write(&directory(store, &network.name))?;
        ensure_served(store, network)?;
    }
    Ok(())
}

/// The server ends.
pub(crate) fn end(store: &Store, network: &NetworkRecord) -> Result<()> {
    match network.has_names() && directory(store, &network.name).exists() {
        true => Ok(isolate_netns::end(&directory(store, &network.name))?),
        false => Ok(()),
    }
}

pub(crate) fn resolve(store: &Store, network: &str, name: &str) -> Result<Vec<IpAddr>> {
    Ok(Names::read(&directory(store, network))?.resolve(name))
}

fn ensure_served(store: &Store, network: &NetworkRecord) -> Result<()> {
    if !network.has_name_server() {
        return Ok(());
    }
    let gateways: Vec<_> = network.subnets.iter().map(|subnet| subnet.gateway).collect();
    serve(&directory(store, &network.name), &gateways, &[])?;
    Ok(())
}

/// The table with the host's resolvers as they are now.
fn current(store: &Store, network: &NetworkRecord) -> Result<Names> {
    let mut names = Names::read(&directory(store, &network.name))?;
    if names.members().next().is_none() {
        // Begun anew: what is the network's own.
        let subnets = network.subnets.iter();
        names =
            subnets.fold(Names::new(), |names, subnet| names.subnet(subnet.gateway, subnet.network.prefix()));
    }
    let resolvers = files::resolvers().into_iter().map(|address| SocketAddr::new(address, PORT));
    Ok(if network.internal { names.internal() } else { names.forward_to(resolvers) })
}

/// Writes `/etc/hosts` of all containers that are in the table, but for the one whose files are not there yet.
fn tell(store: &Store, guard: &Guard, network: &NetworkRecord, names: &Names, but: Option<&str>) {
    let members: Vec<_> = names.members().collect();
    // With one more than that all lose their neighbours' names; beyond it there is nothing to change.
    if members.len() > PEERS + 1 && network.has_name_server() {
        return;
    }
    for member in members.into_iter().filter(|member| Some(*member) != but) {
        // One that is just being made or removed has none.
        refresh(store, guard, member).ok();
    }
}

/// Writes what of a container's `/etc` tells of networks, if it is there.
pub(crate) fn refresh(store: &Store, _: &Guard, container: &str) -> Result<()> {
    let state = store.container(container);
    let failed = |e| Error::io(state.display(), &e);
    let Some(record) = Record::read(&state).map_err(failed)? else { return Ok(()) };
    rewrite(store, &record, container)?;
    if record.is_pod {
        // Its network is that of its containers.
        let is_on = |member: &Record| {
            member.pod.as_deref() == Some(record.called()) && member.shares.contains(&Namespace::Net)
        };
        store.records().iter().filter(|member| is_on(member)).for_each(|member| {
            // One that is just being made or removed has none.
            rewrite(store, &record, &member.name).ok();
        });
    }
    Ok(())
}

/// What a container's files tell of the network that is written down there.
fn rewrite(store: &Store, record: &Record, container: &str) -> Result<()> {
    let state = store.container(container);
    let resolv_conf = resolv_conf(store, record, !record.places.is_empty());
    let texts = [("hosts", hosts(store, record)), ("resolv.conf", resolv_conf)];
    for (name, text) in texts {
        let path = state.join(name);
        if fs::read_to_string(&path).is_ok_and(|there| there != text) {
            files::rewrite(&path, &text)?;
        }
    }
    Ok(())
}

/// Its own names and those of its networks.
pub(crate) fn hosts(store: &Store, record: &Record) -> String {
    let own: Vec<_> = record.places.iter().flat_map(|place| place.addresses.clone()).collect();
    let mut text = files::hosts(&record.hostname, record.called(), &own);
    for place in &record.places {
        let Ok(names) = Names::read(&directory(store, &place.network)) else { continue };
        if names.members().count() > PEERS && !place.macvlan {
            continue;
        }
        for (_, names, addresses) in names.entries().filter(|(id, ..)| *id != record.name) {
            addresses.iter().for_each(|address| text += &format!("{address} {}\n", names.join(" ")));
        }
    }
    text
}

/// The name servers of its networks, its way out first; without any, as on macvlan networks, those of the host, if they can be `reached`.
pub(crate) fn resolv_conf(store: &Store, record: &Record, reached: bool) -> String {
    let mut places: Vec<_> = record.places.iter().collect();
    places.sort_by_key(|place| (place.internal, place.metric()));
    let served = places.iter().filter_map(|place| {
        let network = NetworkRecord::read(&store.network(&place.network)).ok().flatten()?;
        network.has_name_server().then(|| network.subnet(false).map(|subnet| subnet.gateway))?
    });
    files::resolv_conf(reached, &served.collect::<Vec<_>>())
}
