//! The expressions that rules are made of (nft(8), linux/netfilter/nf_tables.h).
//!
//! `netlink-packet-netfilter` has types for some; the others (nat, masquerade, connection tracking, fib) go
//! through its `Other`.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Lookup, Meta,
    MetaKey, Operator, Payload, Register, Verdict, VerdictAttribute,
};

pub(crate) type Expression = ListAttribute<ExpressionAttribute>;

/// Fields of four bytes, side by side, make the key of a concatenation. A name of an interface and an address of IPv6 take four of
/// them.
pub(crate) const KEY: [Register; 6] = [
    Register::Reg32_00,
    Register::Reg32_01,
    Register::Reg32_02,
    Register::Reg32_03,
    Register::Reg32_04,
    Register::Reg32_05,
];
/// Where a map puts an address.
const ADDRESS: Register = Register::Reg32_08;

/// A version of IP, as far as packets differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Four,
    Six,
}

impl Version {
    pub(crate) const BOTH: [Self; 2] = [Self::Four, Self::Six];

    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
    const fn number(self) -> u8 {
        match self {
            Self::Four => 2,
            Self::Six => 10,
        }
    }

    /// Where a packet's header has source and destination, and how long they are.
    const fn addresses(self) -> (u32, u32, u32) {
        match self {
            Self::Four => (12, 16, 4),
            Self::Six => (8, 24, 16),
        }
    }

    /// Goes on if the packet is of this version.
    pub(crate) fn is(self) -> [Expression; 2] {
        [meta(MetaKey::Nfproto, Register::Reg1), is(Register::Reg1, &[self.number()])]
    }

    /// The loopback's addresses, as a first byte or in full.
    const fn loopback(self) -> &'static [u8] {
        match self {
            Self::Four => &[127],
            Self::Six => &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        }
    }
}

const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const LINK_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// Connection states, as bits (`NF_CT_STATE_BIT`).
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// Connection status: its destination was translated (`IPS_DST_NAT`).
const DST_NAT: u32 = 1 << 5;
const NFT_LOOKUP_F_INV: u32 = 1;
const NFTA_FIB_F_SADDR: u32 = 1;
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
/// An address of this host (linux/rtnetlink.h).
const RTN_LOCAL: u32 = 2;

/// Loads what `key` names about the packet.
pub(crate) fn meta(key: MetaKey, to: Register) -> Expression {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(to)]).into()
}

/// Loads the address that the packet goes to.
pub(crate) fn destination_address(version: Version, to: Register) -> Expression {
    let (_, at, length) = version.addresses();
    payload(NETWORK_HEADER, at, length, to)
}

/// Loads the address that the packet comes from.
pub(crate) fn source_address(version: Version, to: Register) -> Expression {
    let (at, _, length) = version.addresses();
    payload(NETWORK_HEADER, at, length, to)
}

/// Loads the MAC address that the frame comes from.
pub(crate) fn source_mac(to: Register) -> Expression {
    payload(LINK_HEADER, 6, 6, to)
}

/// Loads the IPv4 address that an ARP packet says is its sender's (RFC 826).
pub(crate) fn arp_sender(to: Register) -> Expression {
    payload(NETWORK_HEADER, 14, 4, to)
}

/// Loads the address that a neighbour advertisement is about (RFC 4861, 4.4).
pub(crate) fn advertised_target(to: Register) -> Expression {
    payload(TRANSPORT_HEADER, 8, 16, to)
}

/// Goes on if the frame is of this protocol, by its number of linux/if_ether.h.
pub(crate) fn ether_type(number: u16) -> [Expression; 2] {
    [meta(MetaKey::EtherTypeProtocol, Register::Reg1), is(Register::Reg1, &number.to_be_bytes())]
}

/// Goes on if it is an ICMPv6 message of this type.
pub(crate) fn icmpv6(kind: u8) -> [Expression; 4] {
    const ICMPV6: u8 = 58;
    [
        meta(MetaKey::L4Proto, Register::Reg1),
        is(Register::Reg1, &[ICMPV6]),
        payload(TRANSPORT_HEADER, 0, 1, Register::Reg1),
        is(Register::Reg1, &[kind]),
    ]
}

/// Goes on if the packet comes from the loopback's addresses.
pub(crate) fn from_loopback(version: Version) -> [Expression; 2] {
    let (at, ..) = version.addresses();
    loopback(version, at)
}

/// Goes on if the packet goes to them.
pub(crate) fn to_loopback(version: Version) -> [Expression; 2] {
    let (_, at, _) = version.addresses();
    loopback(version, at)
}

fn loopback(version: Version, at: u32) -> [Expression; 2] {
    let address = version.loopback();
    let length = if address.len() == 1 { 1 } else { 16 };
    [payload(NETWORK_HEADER, at, length, Register::Reg1), is(Register::Reg1, address)]
}

/// Loads the port that the packet goes to.
pub(crate) fn destination_port(to: Register) -> Expression {
    payload(TRANSPORT_HEADER, 2, 2, to)
}

fn payload(base: u32, offset: u32, length: u32, to: Register) -> Expression {
    let (base, offset, length) = (Payload::Base(base), Payload::Offset(offset), Payload::Len(length));
    Expressions::Payload(vec![Payload::DestinationRegister(to), base, offset, length]).into()
}

/// Goes on if the register holds `value`.
pub(crate) fn is(register: Register, value: &[u8]) -> Expression {
    compare(register, Operator::Equal, value)
}

/// Goes on if the register holds anything else.
pub(crate) fn is_not(register: Register, value: &[u8]) -> Expression {
    compare(register, Operator::NotEqual, value)
}

fn compare(register: Register, operator: Operator, value: &[u8]) -> Expression {
    let data = Cmp::Data(DataAttribute::Value(value.to_vec()));
    Expressions::Cmp(vec![Cmp::SourceRegister(register), Cmp::Op(operator), data]).into()
}

/// Goes on if what stands from the register on is an element of the set.
pub(crate) fn in_set(register: Register, set: &str) -> Expression {
    Expressions::Lookup(vec![Lookup::Set(set.into()), Lookup::SourceRegister(register)]).into()
}

/// Goes on if it is none.
pub(crate) fn not_in_set(register: Register, set: &str) -> Expression {
    let inverted = Lookup::Flags(NFT_LOOKUP_F_INV);
    Expressions::Lookup(vec![Lookup::Set(set.into()), Lookup::SourceRegister(register), inverted]).into()
}

/// Goes on if the map has the key, with the address and the port that it leads to for [`dnat`].
pub(crate) fn mapped(register: Register, map: &str) -> Expression {
    let to = Lookup::DestinationRegister(ADDRESS);
    Expressions::Lookup(vec![Lookup::Set(map.into()), Lookup::SourceRegister(register), to]).into()
}

/// Translates the destination to what [`mapped`] found.
pub(crate) fn dnat(version: Version) -> Expression {
    const TYPE: u16 = 1;
    const FAMILY: u16 = 2;
    const REG_ADDR_MIN: u16 = 3;
    const REG_PROTO_MIN: u16 = 5;
    const NFT_NAT_DNAT: u32 = 1;
    let port = match version {
        Version::Four => Register::Reg32_09,
        Version::Six => Register::Reg32_12,
    };
    let registers = [number(REG_ADDR_MIN, ADDRESS.into()), number(REG_PROTO_MIN, port.into())];
    let kind = [number(TYPE, NFT_NAT_DNAT), number(FAMILY, version.number().into())];
    other("nat", kind.into_iter().chain(registers))
}

/// Translates the source to the address of the link that the packet leaves by.
pub(crate) fn masquerade() -> Expression {
    other("masq", [])
}

/// Goes on if the packet belongs to a connection that was let through before.
pub(crate) fn established() -> [Expression; 3] {
    const NFT_CT_STATE: u32 = 0;
    connection_has(NFT_CT_STATE, ESTABLISHED_OR_RELATED)
}

/// Goes on if the destination of its connection was translated: somebody published this.
pub(crate) fn was_dnat() -> [Expression; 3] {
    const NFT_CT_STATUS: u32 = 2;
    connection_has(NFT_CT_STATUS, DST_NAT)
}

fn connection_has(key: u32, bits: u32) -> [Expression; 3] {
    const DREG: u16 = 1;
    const KEY: u16 = 2;
    let register = Register::Reg1;
    let masked = Expressions::Bitwise(vec![
        Bitwise::SourceRegister(register),
        Bitwise::DestinationRegister(register),
        Bitwise::Length(4),
        Bitwise::Mask(DataAttribute::Value(bits.to_ne_bytes().to_vec())),
        Bitwise::Xor(DataAttribute::Value(vec![0; 4])),
    ]);
    [other("ct", [number(KEY, key), number(DREG, register.into())]), masked.into(), is_not(register, &[0; 4])]
}

/// Goes on if the packet is for an address of this host (`fib daddr type local`).
pub(crate) fn for_this_host() -> [Expression; 2] {
    const NFTA_FIB_F_DADDR: u32 = 2;
    [fib(NFTA_FIB_F_DADDR, NFT_FIB_RESULT_ADDRTYPE), is(Register::Reg1, &RTN_LOCAL.to_ne_bytes())]
}

/// Goes on if the packet has another's address for its source (`fib saddr type != local`).
pub(crate) fn not_from_this_host() -> [Expression; 2] {
    [fib(NFTA_FIB_F_SADDR, NFT_FIB_RESULT_ADDRTYPE), is_not(Register::Reg1, &RTN_LOCAL.to_ne_bytes())]
}

/// Goes on if this host would not answer the packet's source by the link that it came by
/// (`fib saddr . iif oif missing`): a forged address.
pub(crate) fn forged_source() -> [Expression; 2] {
    const NFTA_FIB_F_IIF: u32 = 8;
    const NFT_FIB_RESULT_OIF: u32 = 1;
    [fib(NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF, NFT_FIB_RESULT_OIF), is(Register::Reg1, &[0; 4])]
}

fn fib(flags: u32, result: u32) -> Expression {
    const DREG: u16 = 1;
    const RESULT: u16 = 2;
    const FLAGS: u16 = 3;
    other("fib", [number(DREG, Register::Reg1.into()), number(RESULT, result), number(FLAGS, flags)])
}

pub(crate) fn accept() -> Expression {
    verdict(vec![VerdictAttribute::Code(Verdict::Other(NF_ACCEPT))])
}

pub(crate) fn drop() -> Expression {
    verdict(vec![VerdictAttribute::Code(Verdict::Other(NF_DROP))])
}

/// Goes on in another chain of the table, for good.
pub(crate) fn goto(chain: &str) -> Expression {
    verdict(vec![VerdictAttribute::Code(Verdict::Goto), VerdictAttribute::Chain(chain.into())])
}

fn verdict(verdict: Vec<VerdictAttribute>) -> Expression {
    let data = Immediate::Data(DataAttribute::Verdict(verdict));
    Expressions::Immediate(vec![Immediate::DestinationRegister(Register::Verdict), data]).into()
}

fn other(kind: &str, attributes: impl IntoIterator<Item = DefaultNla>) -> Expression {
    Expressions::Other { expression_type: kind.into(), attributes: attributes.into_iter().collect() }.into()
}

/// A number, as nf_tables wants all of them: most significant byte first.
fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

/// A name of an interface as it is compared: 16 bytes.
pub(crate) fn interface(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(libc::IFNAMSIZ, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;

    use super::*;

    fn bytes(expression: Expression) -> Vec<u8> {
        let list = [expression];
        let mut bytes = vec![0; list.as_slice().buffer_len()];
        list.as_slice().emit(&mut bytes);
        bytes
    }

    /// As `nft --debug=netlink,mnl` shows them for `dnat ip to … map` and for `masquerade`.
    #[test]
    fn nat_is_written_as_nft_writes_it() {
        #[rustfmt::skip]
        let expected = [
            0x34, 0, 1, 0x80, 8, 0, 1, 0, b'n', b'a', b't', 0, 0x28 - 4, 0, 2, 0x80, 8, 0, 1, 0, 0, 0, 0, 1,
            8, 0, 2, 0, 0, 0, 0, 2, 8, 0, 3, 0, 0, 0, 0, 16, 8, 0, 5, 0, 0, 0, 0, 17,
        ];
        let mut expected = expected.to_vec();
        expected[0] = u8::try_from(expected.len()).unwrap();
        assert_eq!(bytes(dnat(Version::Four)), expected);
        assert_eq!(
            bytes(masquerade()),
            [20, 0, 1, 0x80, 9, 0, 1, 0, b'm', b'a', b's', b'q', 0, 0, 0, 0, 4, 0, 2, 0x80]
        );
    }

    #[test]
    fn a_name_of_an_interface_is_compared_in_full() {
        assert_eq!(interface("lo"), *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }
}
