//! Namespaces of a detached container, for others: by its id, until one of them is started.

use std::borrow::Cow;

use super::{Detached, records};
use crate::builder::ContainerBuilder;
use crate::error::{Error, ErrorKind, Result};
use crate::origin::{From, Origin};

impl std::convert::From<&Detached> for Origin {
    fn from(other: &Detached) -> Self {
        Self(From::Detached(other.id().to_owned()))
    }
}

impl ContainerBuilder {
    /// The same with the process of each detached container whose namespaces it shares: its own, which runs then, or another one `instead`.
    pub(crate) fn with_processes(&self, instead: Option<u32>) -> Result<Cow<'_, Self>> {
        let mut said = Cow::Borrowed(self);
        let is_detached = |origin: &Origin| matches!(origin.0, From::Detached(_));
        let attached = self.networks.iter().filter_map(|attach| attach.origin.as_ref());
        if !self.namespaces.values().chain(attached).any(is_detached) {
            return Ok(said);
        }
        let own = said.to_mut();
        let attached = own.networks.iter_mut().filter_map(|attach| attach.origin.as_mut());
        for origin in own.namespaces.values_mut().chain(attached) {
            if let From::Detached(id) = &origin.0 {
                origin.0 = process(id, instead)?;
            }
        }
        Ok(said)
    }
}

fn process(id: &str, instead: Option<u32>) -> Result<From> {
    let record = records()?.into_iter().find(|record| record.id == id).ok_or_else(|| {
        let what = format!("container {id}, whose namespaces it shares, is not there any more");
        Error::new(ErrorKind::NotFound, what)
    })?;
    let other = Detached::of(&record)?;
    let view = other.said(other.view(&record, instead.is_none()))?;
    Ok(From::Container { pid: instead.unwrap_or_else(|| view.pid()), user: view.root_outside() })
}
