//! The networks of a detached container: while it runs, and for the starts that follow.

use std::collections::BTreeMap;
use std::net::IpAddr;

use isolate_netns::{Bandwidth, Counted, Problem, Publish};

use super::{Detached, DetachedRecord, View};
use crate::attach::{Attach, Mode};
use crate::error::{Error, ErrorKind, Result};
use crate::pod;

impl Detached {
    /// Puts it on one more network, as [`Container::connect`](crate::Container::connect): at once if it runs, and at its starts from now on.
    /// Gives the addresses that it has there; none if it does not run.
    ///
    /// # Errors
    /// As of [`Container::connect`](crate::Container::connect). Nothing is changed then.
    pub fn connect(&self, attach: impl Into<Attach>) -> Result<Vec<IpAddr>> {
        self.said(self.connect_to(attach.into()))
    }

    /// Takes it off a network, by name: at once if it runs, and for good.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it is not on that network.
    pub fn disconnect(&self, network: &str) -> Result<()> {
        self.said(self.disconnect_from(network))
    }

    /// Publishes one more port, or a range, as [`Container::publish`](crate::Container::publish): at once if it runs, and at its starts from
    /// now on. Its keeper holds the claim on the host's port as long as it runs. Gives what is published, with the host port that the
    /// kernel picked where that was left to it; if it does not run, each start picks one.
    ///
    /// ```no_run
    /// # fn main() -> isolate::Result<()> {
    /// let web = isolate::Container::open("web")?;
    /// web.publish((9000, 8080))?;
    /// web.unpublish((9000, 8080))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As there. Nothing is published then.
    pub fn publish(&self, publish: impl Into<Publish>) -> Result<Vec<Publish>> {
        self.said(self.publish_and_write(publish.into()))
    }

    /// Takes a published port back, or a range: at once if it runs, and for good. Connections that are open go on. The claim on the host's
    /// port is held until it has ended: so long nobody else gets the port, and it can have it again.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it is not published.
    pub fn unpublish(&self, publish: impl Into<Publish>) -> Result<()> {
        self.said(self.unpublish_and_write(publish.into()))
    }

    /// Limits how fast it sends and receives by a network that it is on, as [`Container::limit_network`](crate::Container::limit_network),
    /// until it ends.
    ///
    /// # Errors
    /// As there.
    pub fn limit_network(&self, network: &str, bandwidth: Bandwidth) -> Result<()> {
        self.on_networks()?.limit_network(network, bandwidth)
    }

    /// What has passed its interfaces, as [`Container::network_stats`](crate::Container::network_stats).
    ///
    /// # Errors
    /// As there.
    pub fn network_stats(&self) -> Result<BTreeMap<String, [Counted; 2]>> {
        self.on_networks()?.network_stats()
    }

    /// What is missing of its networks, as [`Container::check_network`](crate::Container::check_network).
    ///
    /// # Errors
    /// As there.
    pub fn check_network(&self) -> Result<Vec<Problem>> {
        self.on_networks()?.check_network()
    }

    /// Makes all of that whole again.
    ///
    /// # Errors
    /// As of [`Container::repair_network`](crate::Container::repair_network).
    pub fn repair_network(&self) -> Result<()> {
        self.on_networks()?.repair_network()
    }

    fn on_networks(&self) -> Result<View> {
        let view = self.running()?;
        self.said(view.know_places(&view.undo().record.places).map(|()| view))
    }

    fn publish_and_write(&self, publish: Publish) -> Result<Vec<Publish>> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        if record.networks().is_empty() {
            let what = format!("cannot publish {publish}: the container is not on a bridge");
            return Err(Error::new(ErrorKind::InvalidConfig, what).with_hint("Detached::connect"));
        }
        // Also of nothing but this it is no reason to be on a bridge.
        record.description.networks = record.description.attaches();
        let mut published: Vec<_> = publish.each().collect();
        let taken = |one: &&Publish| record.description.publish.iter().any(|other| other.conflicts_with(one));
        if let Some(taken) = published.iter().find(taken) {
            let what = format!("host port {} is taken: it is published already", taken.host_side());
            return Err(Error::new(ErrorKind::InUse, what));
        }
        if self.runs()? {
            let view = self.view(&record, true)?;
            view.know_places(&view.undo().record.places)?;
            published = view.publish_kept(&published, &self.kept()?)?;
        }
        record.description.publish.extend(&published);
        record.write(&self.directory).map(|()| published)
    }

    fn unpublish_and_write(&self, publish: Publish) -> Result<()> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        record.description.networks = record.description.attaches();
        let view = if self.runs()? { Some(self.view(&record, true)?) } else { None };
        if let Some(view) = &view {
            view.know_places(&view.undo().record.places)?;
        }
        for one in publish.each() {
            let all = &mut record.description.publish;
            // Of one whose host port is picked at each start, that which was.
            let said = all.iter().position(|other| *other == one);
            let said = said.or_else(|| all.iter().position(|other| picks(other, &one)));
            let live = view.as_ref().map(|view| view.unpublish_now(one));
            match (said, live) {
                (_, Some(Err(e))) if e.kind() != ErrorKind::NotFound => return Err(e),
                (None, Some(Err(_)) | None) => {
                    return Err(Error::new(ErrorKind::NotFound, format!("{one} is not published")));
                }
                _ => {}
            }
            said.map(|n| all.remove(n));
        }
        record.write(&self.directory)
    }

    fn connect_to(&self, attach: Attach) -> Result<Vec<IpAddr>> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        let mut networks = record.networks();
        if networks.iter().any(|other| other.network() == attach.network()) {
            let what = format!("it is on network `{}` already", attach.network());
            return Err(Error::new(ErrorKind::InvalidConfig, what));
        }
        let described = pod::seen(&record.description)?;
        let own = described.attaches().iter().all(|other| matches!(other.mode, Mode::Bridge | Mode::None));
        if attach.mode != Mode::Bridge || !own {
            let what = "only a container with a network namespace of its own is connected to networks";
            return Err(Error::new(ErrorKind::InvalidConfig, what));
        }
        let view = if self.runs()? { Some(self.view(&record, true)?) } else { None };
        let addresses = match &view {
            Some(view) => {
                view.know_places(&view.undo().record.places)?;
                let addresses = view.connect(attach.clone())?;
                record.addresses.insert(attach.network().to_owned(), addresses.clone());
                addresses
            }
            None => {
                drop(crate::network::Network::open(attach.network())?);
                Vec::new()
            }
        };
        networks.push(attach);
        record.description.networks = networks;
        record.write(&self.directory).map(|()| addresses)
    }

    fn disconnect_from(&self, network: &str) -> Result<()> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        let mut networks = record.networks();
        let before = networks.len();
        networks.retain(|attach| attach.network() != network);
        if networks.len() == before {
            return Err(Error::new(ErrorKind::NotFound, format!("it is not on network `{network}`")));
        }
        if self.runs()? {
            let view = self.view(&record, true)?;
            view.know_places(&view.undo().record.places)?;
            view.disconnect(network)?;
        }
        record.addresses.remove(network);
        if networks.is_empty() {
            networks.push(Attach::none());
        }
        record.description.networks = networks;
        record.write(&self.directory)
    }
}

/// Whether a host port that is left to the kernel has come to be this one.
fn picks(said: &Publish, one: &Publish) -> bool {
    let what = |publish: &Publish| (publish.address(), publish.container_port(), publish.protocol());
    said.host_port() == 0 && what(said) == what(one)
}

impl DetachedRecord {
    /// The networks of bridges and macvlans that it is on when it runs.
    fn networks(&self) -> Vec<Attach> {
        self.description.attaches().into_iter().filter(|attach| attach.mode == Mode::Bridge).collect()
    }
}
