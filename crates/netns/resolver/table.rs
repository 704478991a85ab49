//! The table of a network's names as it lies in its file: read in place, whatever its bytes are. The library writes it.
//!
//! Little-endian numbers. Addresses have 16 bytes, those of IPv4 are mapped (RFC 4291, 2.5.5.2). After the header follow,
//! without gaps: upstreams, subnets, names (sorted by text), owners (sorted by address), the pool of addresses, the text that
//! names and owners point into, and the members, which only the library reads.

/// The first bytes of a table, its version among them.
pub(crate) const MAGIC: [u8; 8] = *b"isonam\x00\x01";
/// Bytes of the header: magic, flags, and eight counts or lengths of 32 bits.
pub(crate) const HEADER: usize = 40;
/// Flag: nothing is forwarded.
pub(crate) const INTERNAL: u32 = 1;
/// Flag: the server shall end.
pub(crate) const ENDED: u32 = 2;
/// Bytes of one upstream: address, scope, port, two unused.
pub(crate) const UPSTREAM: usize = 24;
/// Bytes of one subnet: address, prefix of the 128 bits, three unused.
pub(crate) const SUBNET: usize = 20;
/// Bytes of one name: where its text is, its length, number of addresses, the first one's place in the pool.
pub(crate) const NAME: usize = 12;
/// Bytes of one owner of an address: address, where its text is, its length, two unused.
pub(crate) const OWNER: usize = 24;
/// Bytes of an address.
pub(crate) const ADDRESS: usize = 16;

/// An IPv6 address, or an IPv4 one mapped into it.
pub(crate) type Address = [u8; ADDRESS];

/// The first twelve bytes of a mapped IPv4 address.
pub(crate) const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// The four bytes of an IPv4 address.
pub(crate) fn ipv4(address: &Address) -> Option<[u8; 4]> {
    let (before, last) = address.split_last_chunk::<4>()?;
    (before == MAPPED).then_some(*last)
}

/// The mapped form of an IPv4 address.
pub(crate) fn mapped(address: [u8; 4]) -> Address {
    let mut all = [0; ADDRESS];
    for (to, from) in all.iter_mut().zip(MAPPED.iter().chain(&address)) {
        *to = *from;
    }
    all
}

/// A server that queries are forwarded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    pub(crate) address: Address,
    /// Of a link-local IPv6 address: the link's index.
    pub(crate) scope: u32,
    pub(crate) port: u16,
}

/// A table that has been looked through far enough: its sections lie inside the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table<'a> {
    pub(crate) flags: u32,
    upstreams: &'a [u8],
    subnets: &'a [u8],
    names: &'a [u8],
    owners: &'a [u8],
    pool: &'a [u8],
    text: &'a [u8],
    members: &'a [u8],
}

impl<'a> Table<'a> {
    pub(crate) const EMPTY: Self = Self {
        flags: 0,
        upstreams: &[],
        subnets: &[],
        names: &[],
        owners: &[],
        pool: &[],
        text: &[],
        members: &[],
    };

    /// `None` if it is no table, or one that ends too early.
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        if bytes.get(..MAGIC.len())? != MAGIC {
            return None;
        }
        let mut rest = bytes.get(HEADER..)?;
        let mut take = |field: usize, size: usize| {
            let length = (number(bytes, 12 + 4 * field)? as usize).checked_mul(size)?;
            let (section, after) = rest.split_at_checked(length)?;
            rest = after;
            Some(section)
        };
        Some(Self {
            flags: number(bytes, 8)?,
            upstreams: take(0, UPSTREAM)?,
            subnets: take(1, SUBNET)?,
            names: take(2, NAME)?,
            owners: take(3, OWNER)?,
            pool: take(4, ADDRESS)?,
            text: take(5, 1)?,
            members: take(6, 1)?,
        })
    }

    /// Whether this flag is set.
    pub(crate) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn upstreams(&self) -> usize {
        self.upstreams.len() / UPSTREAM
    }

    pub(crate) fn upstream(&self, n: usize) -> Option<Upstream> {
        let record = record(self.upstreams, n, UPSTREAM)?;
        Some(Upstream {
            address: *record.first_chunk()?,
            scope: number(record, 16)?,
            port: half(record, 20)?,
        })
    }

    pub(crate) fn subnet(&self, n: usize) -> Option<(Address, u8)> {
        let record = record(self.subnets, n, SUBNET)?;
        Some((*record.first_chunk()?, *record.get(16)?))
    }

    /// What only the library reads: who has which names and addresses.
    pub(crate) fn members(&self) -> &'a [u8] {
        self.members
    }

    /// The addresses of a name in lower case without a dot at its end; one after the other, 16 bytes each.
    pub(crate) fn find(&self, name: &[u8]) -> Option<&'a [Address]> {
        let record = search(self.names, NAME, |record| {
            text(self.text, number(record, 0), half(record, 4)).unwrap_or_default().cmp(name)
        })?;
        let (count, first) = (half(record, 6)? as usize, number(record, 8)? as usize);
        let start = first.checked_mul(ADDRESS)?;
        let end = count.checked_mul(ADDRESS)?.checked_add(start)?;
        Some(self.pool.get(start..end)?.as_chunks().0)
    }

    /// The first name of who has the address.
    pub(crate) fn owner(&self, address: &Address) -> Option<&'a [u8]> {
        let record =
            search(self.owners, OWNER, |record| record.get(..ADDRESS).unwrap_or_default().cmp(&address[..]))?;
        text(self.text, number(record, 16), half(record, 20))
    }

    /// Whether one of the network's subnets has the address.
    pub(crate) fn covers(&self, address: &Address) -> bool {
        self.subnets.chunks_exact(SUBNET).any(|subnet| {
            let prefix = subnet.get(ADDRESS).copied().unwrap_or(u8::MAX);
            within(subnet, prefix, address)
        })
    }
}

/// Whether the first `prefix` bits are the same. Of 128 at most.
fn within(subnet: &[u8], prefix: u8, address: &Address) -> bool {
    let mut left = prefix;
    for (one, other) in subnet.iter().zip(address) {
        let bits = left.min(8);
        let mask = !(0xff_u16 >> bits) as u8;
        if (one ^ other) & mask != 0 {
            return false;
        }
        left -= bits;
    }
    left == 0
}

/// The record that `order` finds equal, among sorted ones.
fn search(section: &[u8], size: usize, order: impl Fn(&[u8]) -> core::cmp::Ordering) -> Option<&[u8]> {
    let (mut low, mut high) = (0, section.len().checked_div(size)?);
    while low < high {
        let middle = low + (high - low) / 2;
        let record = record(section, middle, size)?;
        match order(record) {
            core::cmp::Ordering::Equal => return Some(record),
            core::cmp::Ordering::Less => low = middle + 1,
            core::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}

fn record(section: &[u8], n: usize, size: usize) -> Option<&[u8]> {
    let start = n.checked_mul(size)?;
    section.get(start..start.checked_add(size)?)
}

fn text(all: &[u8], offset: Option<u32>, length: Option<u16>) -> Option<&[u8]> {
    let start = offset? as usize;
    all.get(start..start.checked_add(length? as usize)?)
}

pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
