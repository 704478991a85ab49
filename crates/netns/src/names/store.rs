//! The table as a file: written for the server, read back as a value.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::table::{self, Table};
use super::{Host, Names, check};
use crate::{Error, ErrorKind, Result};

/// The file in its directory.
pub(super) const FILE: &str = "names";
/// Room for the next one, where the file system has none: a name can go from a network also when that is full.
const SPARE: &str = ".names.spare";
const PAGE: usize = 4096;
/// Its places are numbers of 32 bits, and nobody needs as many names.
const MOST_BYTES: usize = 64 << 20;

impl Names {
    /// What was written to the directory last; nothing, where nothing was.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) for a file that is no table of this version; else what the kernel refused.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            bytes => {
                bytes.map_err(|error| Error::io(format!("table of names {}", path.display()), &error))?
            }
        };
        decode(&bytes).ok_or_else(|| {
            let what = format!("{}: not a table of names, or of another version", path.display());
            Error::new(ErrorKind::Conflict, what)
        })
    }

    /// Puts it in the place of what the directory has, which is made if it is missing (0755). A query that comes after this is
    /// answered out of it; whoever reads at the same time sees the old or the new one, whole.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a name that a host cannot have, and which one; for an address that no host
    /// has, a prefix that is too long, or more than 65,535 hosts. Else what the kernel refused. Nothing is changed then.
    pub fn write(&self, directory: &Path) -> Result<()> {
        check::check(self)?;
        let bytes = encode(self, 0);
        match bytes.len() <= MOST_BYTES {
            true => replace(directory, &bytes),
            false => Err(Error::invalid(format!("a table of {} bytes: at most {MOST_BYTES}", bytes.len()))),
        }
    }
}

/// Tells the server of the directory to end.
pub(super) fn write_end(directory: &Path) -> Result<()> {
    replace(directory, &encode(&Names::default(), table::ENDED))
}

fn replace(directory: &Path, bytes: &[u8]) -> Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let wrong = |error: io::Error| Error::io(format!("table of names in {}", directory.display()), &error);
    if !directory.is_dir() {
        DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(wrong)?;
        // Whatever the umask: the server is nobody.
        fs::set_permissions(directory, Permissions::from_mode(0o755)).map_err(wrong)?;
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let new = directory.join(format!(".{FILE}.{}.{number}", std::process::id()));
    let spare = directory.join(SPARE);
    let full =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let written = match write_new(&new, bytes) {
        Err(error) if full(&error) => {
            // Taken before it is written: nobody else has it.
            fs::rename(&spare, &new).map_err(|_| error).and_then(|()| write_new(&new, bytes))
        }
        written => written,
    };
    let written = written.and_then(|()| fs::rename(&new, directory.join(FILE)));
    if written.is_err() {
        fs::remove_file(&new).ok();
    } else if fs::metadata(&spare).map_or(0, |metadata| metadata.len()) < bytes.len() as u64 {
        fs::write(&spare, vec![0; bytes.len().next_multiple_of(PAGE)]).ok();
    }
    written.map_err(wrong)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // One that was left by a process of the same number is nobody's. What room it has it keeps until it is written.
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.set_permissions(Permissions::from_mode(0o644))
}

fn bits(address: IpAddr) -> table::Address {
    match address {
        IpAddr::V4(v4) => table::mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn address(bits: table::Address) -> IpAddr {
    Ipv6Addr::from(bits).to_canonical()
}

/// Text, each piece once.
#[derive(Default)]
struct Text<'a> {
    bytes: Vec<u8>,
    places: BTreeMap<&'a str, u32>,
}

impl<'a> Text<'a> {
    fn place(&mut self, text: &'a str) -> u32 {
        *self.places.entry(text).or_insert_with(|| {
            let place = self.bytes.len() as u32;
            self.bytes.extend(text.bytes());
            place
        })
    }
}

/// The bytes of a table: see `resolver/table.rs`. What they count fits: it was checked.
pub(super) fn encode(names: &Names, more_flags: u32) -> Vec<u8> {
    let mut by_name: BTreeMap<&str, Vec<table::Address>> = BTreeMap::new();
    let mut owners: BTreeMap<table::Address, &str> = BTreeMap::new();
    for host in &names.hosts {
        for name in &host.names {
            let all = by_name.entry(name).or_default();
            for address in &host.addresses {
                if !all.contains(&bits(*address)) {
                    all.push(bits(*address));
                }
            }
        }
        for address in &host.addresses {
            if let Some(name) = host.names.first() {
                owners.entry(bits(*address)).or_insert(name);
            }
        }
    }
    let (mut text, mut pool) = (Text::default(), Vec::new());
    let mut sections: [Vec<u8>; 7] = Default::default();
    let [upstreams, subnets, named, owned, addresses, texts, members] = &mut sections;
    for upstream in &names.upstreams {
        let scope = if let SocketAddr::V6(v6) = upstream { v6.scope_id() } else { 0 };
        upstreams.extend(bits(upstream.ip()));
        upstreams.extend(scope.to_le_bytes());
        upstreams.extend(upstream.port().to_le_bytes());
        upstreams.extend([0; 2]);
    }
    for (address, prefix) in &names.subnets {
        subnets.extend(bits(*address));
        subnets.extend([if address.is_ipv4() { prefix.saturating_add(96) } else { *prefix }, 0, 0, 0]);
    }
    for (name, all) in &by_name {
        named.extend(text.place(name).to_le_bytes());
        named.extend((name.len() as u16).to_le_bytes());
        // A name of more than 65,535 addresses has some of them.
        let all = all.get(..all.len().min(u16::MAX as usize)).unwrap_or_default();
        named.extend((all.len() as u16).to_le_bytes());
        named.extend((pool.len() as u32).to_le_bytes());
        pool.extend(all);
    }
    for (address, name) in &owners {
        owned.extend(address);
        owned.extend(text.place(name).to_le_bytes());
        owned.extend((name.len() as u16).to_le_bytes());
        owned.extend([0; 2]);
    }
    addresses.extend(pool.as_flattened());
    *texts = text.bytes;
    names.hosts.iter().for_each(|host| encode_host(host, members));

    let flags = more_flags | if names.internal { table::INTERNAL } else { 0 };
    let sizes = [table::UPSTREAM, table::SUBNET, table::NAME, table::OWNER, table::ADDRESS, 1, 1];
    let mut all = table::MAGIC.to_vec();
    all.extend(flags.to_le_bytes());
    for (section, size) in sections.iter().zip(sizes) {
        all.extend(((section.len() / size) as u32).to_le_bytes());
    }
    all.extend(sections.into_iter().flatten());
    all
}

/// One for an id and its length, then the id, then counts of names and addresses, the names behind their lengths, the addresses.
fn encode_host(host: &Host, out: &mut Vec<u8>) {
    let id = host.id.as_deref().unwrap_or_default();
    out.extend([u8::from(host.id.is_some()), id.len() as u8]);
    out.extend(id.bytes());
    out.extend((host.names.len() as u16).to_le_bytes());
    out.extend((host.addresses.len() as u16).to_le_bytes());
    for name in &host.names {
        out.push(name.len() as u8);
        out.extend(name.bytes());
    }
    host.addresses.iter().for_each(|address| out.extend(bits(*address)));
}

pub(super) fn decode(bytes: &[u8]) -> Option<Names> {
    let table = Table::new(bytes)?;
    let upstreams = (0..).map_while(|n| table.upstream(n)).map(|upstream| match address(upstream.address) {
        IpAddr::V6(ip) => SocketAddrV6::new(ip, upstream.port, 0, upstream.scope).into(),
        ip => SocketAddr::new(ip, upstream.port),
    });
    let subnets = (0..).map_while(|n| table.subnet(n)).map(|(bits, prefix)| {
        match (table::ipv4(&bits), prefix.checked_sub(96)) {
            (Some(v4), Some(short)) => (v4.into(), short),
            _ => (Ipv6Addr::from(bits).into(), prefix),
        }
    });
    let mut hosts = Vec::new();
    let mut rest = table.members();
    while !rest.is_empty() {
        hosts.push(decode_host(&mut rest)?);
    }
    Some(Names {
        internal: table.has(table::INTERNAL),
        upstreams: upstreams.collect(),
        subnets: subnets.collect(),
        hosts,
    })
}

fn decode_host(rest: &mut &[u8]) -> Option<Host> {
    let has_id = *take(rest, 1)?.first()? != 0;
    let id = text(rest)?;
    let (names, addresses) = (table::half(take(rest, 2)?, 0)?, table::half(take(rest, 2)?, 0)?);
    let names = (0..names).map(|_| text(rest)).collect::<Option<_>>()?;
    let addresses =
        (0..addresses).map(|_| Some(address(*take(rest, 16)?.first_chunk()?))).collect::<Option<_>>()?;
    Some(Host { id: has_id.then_some(id), names, addresses })
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = *take(rest, 1)?.first()?;
    String::from_utf8(take(rest, length.into())?.to_vec()).ok()
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}
