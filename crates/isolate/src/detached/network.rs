//! The networks of a detached container: while it runs, and for the starts that follow.

use std::collections::BTreeMap;
use std::net::IpAddr;

use isolate_netns::{Bandwidth, Counted, Problem};

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

impl DetachedRecord {
    /// The networks of bridges and macvlans that it is on when it runs.
    fn networks(&self) -> Vec<Attach> {
        self.description.attaches().into_iter().filter(|attach| attach.mode == Mode::Bridge).collect()
    }
}
