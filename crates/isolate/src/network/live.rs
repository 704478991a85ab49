//! A running container's networks and ports, changed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use isolate_namespaces::{Kept, Namespace};
use isolate_netns::{Bandwidth, Counted, NetworkNamespace, Problem, Publish, Reservation};

use crate::attach::{Attach, Mode};
use crate::container::Container;
use crate::error::{Error, ErrorKind, Result};
use crate::network::{self, Network, Place, PlaceRecord, macvlan, names};
use crate::parcel;
use crate::ports;

impl Network {
    /// Connects a running container, as `docker network connect`: it gets one more interface, addresses, and the names of this network.
    /// [`Container::connect`] has the options. The addresses that it got.
    ///
    /// ```no_run
    /// # use isolate::{Container, Network};
    /// # fn main() -> isolate::Result<()> {
    /// let (web, db) = (Network::create("web")?, Network::create("db")?);
    /// let app = Container::builder().network(&web).command(["sleep", "100"]).start()?;
    /// db.connect(&app)?;
    /// db.disconnect(&app)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Container::connect`].
    pub fn connect(&self, container: &Container) -> Result<Vec<IpAddr>> {
        container.connect(self)
    }

    /// Disconnects it again: see [`Container::disconnect`].
    ///
    /// # Errors
    /// As there.
    pub fn disconnect(&self, container: &Container) -> Result<()> {
        container.disconnect(self.name())
    }
}

impl Container {
    /// Connects it to one more network while it runs. Its default route stays where it is, unless the new place has a higher
    /// [priority](Attach::priority).
    ///
    /// # Errors
    /// - [`InvalidConfig`](ErrorKind::InvalidConfig): it is on that network, the attachment is not one to a bridge, or the container's
    ///   network namespace is not its own.
    /// - [`NotFound`](ErrorKind::NotFound): there is no such network.
    /// - [`InUse`](ErrorKind::InUse): an address that somebody has, or a network that is full.
    ///
    /// Nothing is changed then.
    pub fn connect(&self, attach: impl Into<Attach>) -> Result<Vec<IpAddr>> {
        self.connect_to(&attach.into()).map_err(|e| self.said(e))
    }

    /// Takes it off a network, by name: its interface there goes, with addresses and names; what is published by it is published by the
    /// network that is its way out then, if there is one. Other networks do not notice.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it is not on that network.
    pub fn disconnect(&self, network: &str) -> Result<()> {
        self.disconnect_from(network).map_err(|e| self.said(e))
    }

    /// Publishes one more port, or a range, while it runs. The caller's process holds the claim on the host's port: when that ends before
    /// the container does, the port still leads to it, but another program can bind it.
    ///
    /// # Errors
    /// As of [`ContainerBuilder::publish`](crate::ContainerBuilder::publish) at a start.
    pub fn publish(&mut self, publish: impl Into<Publish>) -> Result<Vec<Publish>> {
        let published = self.publish_now(publish.into()).map_err(|e| self.said(e))?;
        self.published_mut().extend(&published);
        Ok(published)
    }

    /// Takes a published port back, one of [`published`](Self::published). Connections that are open go on.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it is not published.
    pub fn unpublish(&mut self, publish: impl Into<Publish>) -> Result<()> {
        let publish = publish.into();
        self.unpublish_now(publish).map_err(|e| self.said(e))?;
        self.published_mut().retain(|other| *other != publish);
        Ok(())
    }

    /// Limits how fast it sends and receives by a network it is on, in place of what was said before.
    ///
    /// ```no_run
    /// # let container = isolate::Container::builder().command(["sleep", "9"]).start()?;
    /// use isolate::Bandwidth;
    ///
    /// container.limit_network("isolate0", Bandwidth::new().down(50_000_000))?; // bit/s
    /// container.limit_network("isolate0", Bandwidth::new())?; // no limit
    /// # Ok::<(), isolate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it is not on that network; [`Unsupported`](ErrorKind::Unsupported) on a macvlan network; else
    /// as [`Port::limit`](isolate_netns::Port::limit).
    pub fn limit_network(&self, network: &str, bandwidth: Bandwidth) -> Result<()> {
        self.limit_now(network, bandwidth).map_err(|e| self.said(e))
    }

    /// What has passed its interfaces, as it sees it: by each network's name, received and sent.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn network_stats(&self) -> Result<BTreeMap<String, [Counted; 2]>> {
        let places = self.undo().places();
        let counted = places.iter().filter_map(|place| {
            let counters = place.link.counters(&|| self.inside_namespace()).map_err(|e| self.said(e));
            Some(counters.transpose()?.map(|counters| (place.record.network.clone(), counters)))
        });
        counted.collect()
    }

    /// What of its networks' rules somebody took away, and which chain of another program is in the way; of a macvlan, whether it and its
    /// parent are there, and the parent up. Nothing in order is nothing to tell.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn check_network(&self) -> Result<Vec<Problem>> {
        let mut problems = Vec::new();
        for place in self.undo().places().iter() {
            problems.extend(place.link.check(&|| self.inside_namespace()).map_err(|e| self.said(e))?);
        }
        Ok(problems)
    }

    /// Makes all of that whole again. A macvlan that went with its parent is made anew once that is there; a parent that is down stays so.
    ///
    /// # Errors
    /// What the kernel refused; [`NotFound`](ErrorKind::NotFound) while a parent is not there.
    pub fn repair_network(&self) -> Result<()> {
        for Place { record, link, .. } in self.undo().places().iter_mut() {
            link.repair(record, &|| self.inside_namespace()).map_err(|e| self.said(e))?;
        }
        Ok(())
    }

    fn connect_to(&self, attach: &Attach) -> Result<Vec<IpAddr>> {
        let own = self.inside().mode != Mode::Shared && self.inside().kinds.contains(&Namespace::Net);
        if attach.mode != Mode::Bridge || !own || self.inside().mode == Mode::Pasta {
            let what = "only a container with a network namespace of its own is connected to networks";
            return Err(Error::new(ErrorKind::InvalidConfig, what));
        }
        let undo = self.undo();
        let guard = undo.store.lock()?;
        let mut record = undo.read_record()?;
        if record.places.iter().any(|place| place.network == attach.network()) {
            let what = format!("it is on network `{}` already", attach.network());
            return Err(Error::new(ErrorKind::InvalidConfig, what));
        }
        let network = network::find(&undo.store, &guard, attach.network())?;
        let order = record.places.iter().map(|place| place.order + 1).max().unwrap_or(0);
        let mut place = Place::take(&undo.store, &guard, &network, &mut record, attach, order, false)?;
        let connected = undo
            .write_record(&record)
            .and_then(|()| names::join(&undo.store, &guard, &network, &record))
            .and_then(|()| self.connect_place(&mut place));
        let addresses = place.record.addresses.clone();
        if let Err(e) = connected {
            record.places.retain(|other| other.network != network.name);
            place.link.disconnect(&|| self.inside_namespace()).ok();
            place.leave(&undo.store, &guard, &record.name).ok();
            undo.write_record(&record).ok();
            return Err(e);
        }
        undo.places().push(place);
        names::refresh(&undo.store, &guard, &record.name)?;
        Ok(addresses)
    }

    /// A pair that it was disconnected from a moment ago may have the name still: it is deleted in the background.
    fn connect_place(&self, place: &mut Place) -> Result<()> {
        const MOMENT: Duration = Duration::from_secs(2);
        let there = Some(rustix::io::Errno::EXIST.raw_os_error());
        let (namespace, begun) = (self.namespace()?, Instant::now());
        loop {
            match place.connect(&namespace) {
                Err(e) if e.raw_os_error() == there && begun.elapsed() < MOMENT => {
                    thread::sleep(Duration::from_millis(5));
                }
                result => return result,
            }
        }
    }

    fn disconnect_from(&self, network: &str) -> Result<()> {
        let undo = self.undo();
        let guard = undo.store.lock()?;
        let mut places = undo.places();
        let n = places.iter().position(|place| place.record.network == network);
        let n =
            n.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("it is not on network `{network}`")))?;
        let mut place = places.remove(n);
        let published = place.link.port().map(isolate_netns::Port::published).unwrap_or_default();
        let mut errors = Vec::new();
        // Who disconnects what somebody else has started is often a command that ends then.
        let taken_off = match undo.seen.is_some() {
            true => place.link.remove(&|| self.inside_namespace()),
            false => place.link.disconnect(&|| self.inside_namespace()),
        };
        errors.extend(taken_off.err());
        let mut record = undo.read_record()?;
        record.places.retain(|other| other.network != network);
        errors.extend(undo.write_record(&record).err());
        errors.extend(place.leave(&undo.store, &guard, &record.name).err());
        errors.extend(names::refresh(&undo.store, &guard, &record.name).err());
        if let (false, Some(port)) = (published.is_empty(), network::way_out(&places)) {
            errors.extend(port.publish_claimed(&published).err().map(Error::from));
        }
        Error::all(errors)
    }

    fn limit_now(&self, network: &str, bandwidth: Bandwidth) -> Result<()> {
        let undo = self.undo();
        let _guard = undo.store.lock()?;
        let places = undo.places();
        let place = places.iter().find(|place| place.record.network == network);
        if place.is_some_and(|place| place.record.macvlan) {
            return macvlan::check_bandwidth(network, bandwidth);
        }
        let port = place.and_then(|place| place.link.port());
        let port =
            port.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("it is not on network `{network}`")))?;
        let mut record = undo.read_record()?;
        for place in record.places.iter_mut().filter(|place| place.network == network) {
            // Whoever sweeps looks for a link that was there once, too.
            (place.up, place.down) = (bandwidth.get_up().or(place.up), bandwidth.get_down());
        }
        undo.write_record(&record)?;
        Ok(port.limit(bandwidth)?)
    }

    fn publish_now(&self, publish: Publish) -> Result<Vec<Publish>> {
        let mut published = Vec::new();
        {
            let places = self.undo().places();
            let port = network::way_in(&places, &publish)?;
            for one in publish.each() {
                match port.publish(one) {
                    Ok(one) => published.push(one),
                    Err(e) => {
                        published.iter().for_each(|one| _ = port.unpublish(one));
                        return Err(ports::explained(e, &one, &self.undo().record.name, &self.undo().store));
                    }
                }
            }
        }
        self.write_published().map(|()| published)
    }

    pub(crate) fn unpublish_now(&self, publish: Publish) -> Result<()> {
        {
            let places = self.undo().places();
            let has =
                |place: &&Place| place.link.port().is_some_and(|port| port.published().contains(&publish));
            match places.iter().find(has).and_then(|place| place.link.port()) {
                Some(port) => port.unpublish(publish)?,
                None => return Err(Error::new(ErrorKind::NotFound, format!("{publish} is not published"))),
            }
        }
        self.write_published()
    }

    /// The same as [`publish_now`](Self::publish_now) of one that somebody else has started: its keeper holds the claims from here on. One
    /// that it has already it gives to nobody, and it does again.
    pub(crate) fn publish_kept(&self, publish: &[Publish], kept: &Kept) -> Result<Vec<Publish>> {
        let undo = self.undo();
        let published = {
            let places = undo.places();
            let Some(first) = publish.first() else { return Ok(Vec::new()) };
            let port = network::way_in(&places, first)?;
            let mut record = undo.read_record()?;
            let claimed: Vec<Publish> = record.claimed.iter().filter_map(|text| text.parse().ok()).collect();
            let is_claimed =
                |one: &&Publish| claimed.iter().any(|other| other.host_side() == one.host_side());
            let (old, new): (Vec<&Publish>, Vec<&Publish>) = publish.iter().partition(is_claimed);
            if let Some(taken) =
                old.iter().find(|one| port.published().iter().any(|other| other.conflicts_with(one)))
            {
                let what = format!("host port {} is taken: it is published already", taken.host_side());
                return Err(Error::new(ErrorKind::InUse, what));
            }
            let new: Vec<Publish> = new.into_iter().copied().collect();
            let claims = ports::reserve(&new, port.addresses().len() > 1, &record.name, &undo.store)?;
            let all: Vec<_> =
                old.into_iter().copied().chain(claims.iter().map(Reservation::publish)).collect();
            record.claimed.extend(claims.iter().map(|claim| claim.publish().to_string()));
            let sockets: Vec<_> = claims.iter().flat_map(Reservation::fds).collect();
            let parcel =
                parcel::of(&sockets).map_err(|e| Error::io("cannot keep the published ports", &e))?;
            parcel.map_or(Ok(()), |parcel| kept.hold(parcel))?;
            undo.write_record(&record)?;
            port.publish_claimed(&all)?;
            all
        };
        self.write_published().map(|()| published)
    }

    /// What is published, into its record: others say by it who has a port.
    fn write_published(&self) -> Result<()> {
        let undo = self.undo();
        let _guard = undo.store.lock()?;
        let mut record = undo.read_record()?;
        let places = undo.places();
        let ports = places.iter().filter_map(|place| place.link.port());
        record.published =
            ports.flat_map(|port| port.published()).map(|publish| publish.to_string()).collect();
        drop(places);
        undo.write_record(&record)
    }

    /// The places that it has, and what is published by them, of a container that somebody else has started.
    pub(crate) fn know_places(&self, places: &[PlaceRecord]) -> Result<()> {
        let undo = self.undo();
        let mut known = undo.places();
        for record in places {
            known.push(Place::open(&undo.store, record, &|| self.inside_namespace())?);
        }
        if let Some(port) = network::way_out(&known) {
            self.published().iter().try_for_each(|publish| port.knows(*publish))?;
        }
        Ok(())
    }

    /// Its network namespace. The number of its first process is its as long as that has not ended, which the descriptor tells.
    fn namespace(&self) -> Result<NetworkNamespace> {
        let namespace = NetworkNamespace::of_pid(self.pid())?;
        match self.has_ended()? {
            false => Ok(namespace),
            true => Err(Error::new(ErrorKind::NotFound, "it has ended")),
        }
    }

    /// The same, and none once it has ended.
    fn inside_namespace(&self) -> Result<Option<NetworkNamespace>> {
        match self.namespace() {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }
}
