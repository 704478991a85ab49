//! What may stand in a table.

use std::net::IpAddr;

use super::Names;
use crate::{Error, Result};

/// Most bytes of an id.
const ID: usize = 255;
/// Most hosts of a table, and names or addresses of one of them.
const HOSTS: usize = 65_535;
const EACH: usize = 1024;

pub(super) fn check(names: &Names) -> Result<()> {
    for (address, prefix) in &names.subnets {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if *prefix > bits {
            return Err(Error::invalid(format!("subnet {address}/{prefix}: of {bits} bits at most")));
        }
    }
    if names.hosts.len() > HOSTS {
        return Err(Error::invalid(format!("{} hosts: a network has at most {HOSTS}", names.hosts.len())));
    }
    for host in &names.hosts {
        host.names.iter().try_for_each(|own| name(own))?;
        let id = host.id.as_deref().or(host.names.first().map(String::as_str)).unwrap_or_default();
        if id.len() > ID {
            return Err(Error::invalid(format!("id `{}`: over {ID} bytes", id.escape_debug())));
        }
        if host.names.len() > EACH || host.addresses.len() > EACH {
            return Err(Error::invalid(format!("`{id}`: over {EACH} names or addresses")));
        }
        host.addresses.iter().try_for_each(|address| check_address(id, *address))?;
    }
    Ok(())
}

pub(super) fn name(name: &str) -> Result<()> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > 253 {
        "it is over 253 bytes"
    } else if !name.bytes().all(|byte| letter(byte) || byte == b'.') {
        "it has something else than letters, digits, `-`, `_` and dots"
    } else if name.split('.').any(str::is_empty) {
        "there is nothing before or behind a dot of it"
    } else if name.split('.').any(|label| label.len() > 63) {
        "a part of it is over 63 bytes"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("`{}` cannot be a host's name: {why}", name.escape_debug())))
}

fn check_address(id: &str, address: IpAddr) -> Result<()> {
    match address.is_unspecified() || address.is_multicast() {
        true => Err(Error::invalid(format!("`{id}`: {address} is no address of a host"))),
        false => Ok(()),
    }
}
