//! The objects of nf_tables as messages: tables, chains, rules, sets and their elements.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, GenMessage, Hook, InetHookNumber, ListAttribute,
    NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute, SetElementList,
    SetElementMessage, SetFlags, SetMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use super::expression::Expression;
use crate::netlink::{NLM_F_CREATE, Request, attributes};

/// The name of this crate's tables.
pub(crate) const TABLE: &str = "isolate";

/// Which packets a table sees: nft(8), "address families".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// What is routed, or goes to or comes from the host, of both versions of IP.
    Inet,
    /// What passes a bridge.
    Bridge,
    /// Another program's: what is listed of IPv4 alone.
    Ip,
    /// The same of IPv6.
    Ip6,
}

impl Family {
    const fn number(self) -> NetfilterProtoFamily {
        match self {
            Self::Inet => NetfilterProtoFamily::Inet,
            Self::Bridge => NetfilterProtoFamily::Bridge,
            Self::Ip => NetfilterProtoFamily::IPv4,
            Self::Ip6 => NetfilterProtoFamily::IPv6,
        }
    }

    /// As nft(8) writes it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Bridge => "bridge",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        }
    }
}

const NLM_F_APPEND: u16 = 0x800;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u8 = 16;
const NFNL_BATCH_GENID: u16 = 1;
const NF_ACCEPT: u32 = 1;
/// One attribute holds at most 64 KiB: so many elements go into a message.
const ELEMENTS_A_MESSAGE: usize = 256;

/// The start of a batch; with a generation, the kernel refuses it (ERESTART) if anything changed since.
pub(crate) fn begin(generation: Option<u32>) -> Request {
    let attributes = generation.map(|id| DefaultNla::new(NFNL_BATCH_GENID, id.to_be_bytes().to_vec()));
    frame(ControlMessage::Other {
        message_type: NFNL_MSG_BATCH_BEGIN,
        attributes: attributes.into_iter().collect(),
    })
}

pub(crate) fn end() -> Request {
    frame(ControlMessage::BatchEnd)
}

fn frame(message: ControlMessage) -> Request {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, NFNL_SUBSYS_NFTABLES);
    Request::new(NetfilterMessage::new(header, message), 0)
}

fn request(family: Family, message: NfTablesMessage, flags: u16) -> Request {
    let header = NetfilterHeader::new(family.number(), 0, 0);
    Request::new(NetfilterMessage::new(header, message), flags)
}

/// With `NLM_F_EXCL`, one that is there already is refused (EEXIST).
pub(crate) fn new_table(family: Family, flags: u16) -> Request {
    let message = TableMessage { attributes: vec![TableAttribute::Name(TABLE.into())] };
    request(family, NfTablesMessage::NewTable(message), NLM_F_CREATE | flags)
}

pub(crate) fn delete_table(family: Family) -> Request {
    let message = TableMessage { attributes: vec![TableAttribute::Name(TABLE.into())] };
    request(family, NfTablesMessage::DeleteTable(message), 0)
}

pub(crate) fn get_generation() -> Request {
    request(Family::Inet, NfTablesMessage::GetGen(GenMessage { attributes: vec![] }), 0)
}

/// What the answer to [`get_generation`] says.
pub(crate) fn generation(reply: &[u8]) -> Option<u32> {
    const NFTA_GEN_ID: u16 = 1;
    let (_, id) = attributes(reply.get(4..)?).find(|(kind, _)| *kind == NFTA_GEN_ID)?;
    Some(u32::from_be_bytes(id.try_into().ok()?))
}

/// All chains of all tables of the family.
pub(crate) fn get_chains(family: Family) -> Request {
    request(family, NfTablesMessage::GetChain(ChainMessage { attributes: vec![] }), 0)
}

/// All rules of the chain.
pub(crate) fn get_rules(family: Family, table: &str, chain: &str) -> Request {
    let attributes = vec![RuleAttribute::Table(table.into()), RuleAttribute::Chain(chain.into())];
    request(family, NfTablesMessage::GetRule(RuleMessage { attributes }), 0)
}

/// A chain at a hook, of type `filter` or `nat`; what it does not decide is let through.
pub(crate) fn base_chain(
    family: Family,
    name: &str,
    kind: &str,
    hook: InetHookNumber,
    priority: i32,
) -> Request {
    let hook = vec![Hook::Number(hook.into()), Hook::Priority(priority.cast_unsigned())];
    let attributes = vec![
        ChainAttribute::Table(TABLE.into()),
        ChainAttribute::Name(name.into()),
        ChainAttribute::Hook(hook),
        ChainAttribute::Policy(NF_ACCEPT),
        ChainAttribute::Type(kind.into()),
    ];
    request(family, NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE)
}

/// A chain that others go on in.
pub(crate) fn chain(family: Family, name: &str) -> Request {
    let attributes = vec![ChainAttribute::Table(TABLE.into()), ChainAttribute::Name(name.into())];
    request(family, NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE)
}

/// Empties a chain.
pub(crate) fn flush_chain(family: Family, name: &str) -> Request {
    let attributes = vec![RuleAttribute::Table(TABLE.into()), RuleAttribute::Chain(name.into())];
    request(family, NfTablesMessage::DeleteRule(RuleMessage { attributes }), 0)
}

/// A rule at the end of a chain of ours.
pub(crate) fn rule(family: Family, chain: &str, expressions: Vec<Expression>) -> Request {
    let attributes = vec![
        RuleAttribute::Table(TABLE.into()),
        RuleAttribute::Chain(chain.into()),
        RuleAttribute::Expressions(expressions),
    ];
    request(family, NfTablesMessage::NewRule(RuleMessage { attributes }), NLM_F_CREATE | NLM_F_APPEND)
}

/// A rule before all others of anybody's chain, with a comment.
pub(crate) fn first_rule(
    family: Family,
    (table, chain): (&str, &str),
    comment: &str,
    expressions: Vec<Expression>,
) -> Request {
    let attributes = vec![
        RuleAttribute::Table(table.into()),
        RuleAttribute::Chain(chain.into()),
        RuleAttribute::Expressions(expressions),
        RuleAttribute::UserData(comment_data(comment)),
    ];
    request(family, NfTablesMessage::NewRule(RuleMessage { attributes }), NLM_F_CREATE)
}

/// A comment as nft(8) keeps it with a rule: type (`NFTNL_UDATA_RULE_COMMENT`), length with the NUL, text.
pub(crate) fn comment_data(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    [&[0, length], comment.as_bytes(), &[0]].concat()
}

pub(crate) fn delete_rule(family: Family, (table, chain): (&str, &str), handle: u64) -> Request {
    let attributes = vec![
        RuleAttribute::Table(table.into()),
        RuleAttribute::Chain(chain.into()),
        RuleAttribute::Handle(handle),
    ];
    request(family, NfTablesMessage::DeleteRule(RuleMessage { attributes }), 0)
}

/// What the elements of a set or map are: lengths for the kernel, types for whoever lists it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set {
    pub(crate) family: Family,
    pub(crate) name: &'static str,
    pub(crate) id: u32,
    /// Type and length of the key.
    pub(crate) key: (u32, u32),
    /// The same of what a map leads to.
    pub(crate) data: Option<(u32, u32)>,
}

impl Set {
    pub(crate) fn create(&self) -> Request {
        let flags = if self.data.is_some() { SetFlags::Map } else { SetFlags::empty() };
        let mut attributes = vec![
            SetAttribute::Table(TABLE.into()),
            SetAttribute::Name(self.name.into()),
            SetAttribute::Flags(flags),
            SetAttribute::KeyType(self.key.0),
            SetAttribute::KeyLen(self.key.1),
            SetAttribute::Id(self.id),
        ];
        if let Some((kind, length)) = self.data {
            attributes.extend([SetAttribute::DataType(kind), SetAttribute::DataLen(length)]);
        }
        request(self.family, NfTablesMessage::NewSet(SetMessage { attributes }), NLM_F_CREATE)
    }

    /// Adds elements; what is there already is no error unless `flags` has `NLM_F_EXCL`.
    pub(crate) fn add(&self, elements: &[Element], flags: u16) -> Vec<Request> {
        let messages = self.with_elements(elements, true).map(NfTablesMessage::NewSetElement);
        messages.map(|message| request(self.family, message, NLM_F_CREATE | flags)).collect()
    }

    /// Deletes elements; one that is not there is refused (ENOENT).
    pub(crate) fn delete(&self, elements: &[Element]) -> Vec<Request> {
        let messages = self.with_elements(elements, false).map(NfTablesMessage::DeleteSetElement);
        messages.map(|message| request(self.family, message, 0)).collect()
    }

    /// Asks for all elements; [`elements`] reads the answers.
    pub(crate) fn list(&self) -> Request {
        let attributes = vec![SetElementList::Table(TABLE.into()), SetElementList::Set(self.name.into())];
        request(self.family, NfTablesMessage::GetSetElement(SetElementMessage { attributes }), 0)
    }

    fn with_elements(&self, elements: &[Element], data: bool) -> impl Iterator<Item = SetElementMessage> {
        elements.chunks(ELEMENTS_A_MESSAGE).map(move |chunk| {
            let elements =
                chunk.iter().map(|element| ListAttribute::Element(element.attributes(data))).collect();
            let (table, set) = (SetElementList::Table(TABLE.into()), SetElementList::Set(self.name.into()));
            SetElementMessage { attributes: vec![table, set, SetElementList::Elements(elements)] }
        })
    }
}

/// An element: its key, and what it leads to in a map (empty in a set).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

impl Element {
    fn attributes(&self, data: bool) -> Vec<SetElementAttribute> {
        let key = SetElementAttribute::Key(DataAttribute::Value(self.key.clone()));
        let value = (data && !self.data.is_empty()).then(|| DataAttribute::Value(self.data.clone()));
        [key].into_iter().chain(value.map(SetElementAttribute::Data)).collect()
    }
}

/// The elements in one answer to [`Set::list`].
pub(crate) fn elements(reply: &[u8]) -> Vec<Element> {
    const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
    const NFTA_SET_ELEM_KEY: u16 = 1;
    const NFTA_SET_ELEM_DATA: u16 = 2;
    let value = |element: &[u8], wanted: u16| {
        let (_, nested) = attributes(element).find(|(kind, _)| *kind == wanted)?;
        attributes(nested).next().map(|(_, value)| value.to_vec())
    };
    let lists = attributes(reply.get(4..).unwrap_or_default());
    let lists = lists.filter(|(kind, _)| *kind == NFTA_SET_ELEM_LIST_ELEMENTS);
    let elements = lists.flat_map(|(_, list)| attributes(list)).filter_map(|(_, element)| {
        let data = value(element, NFTA_SET_ELEM_DATA).unwrap_or_default();
        Some(Element { key: value(element, NFTA_SET_ELEM_KEY)?, data })
    });
    elements.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::NLM_F_EXCL;

    const MAP: Set = Set { family: Family::Inet, name: "m", id: 1, key: (1, 8), data: Some((2, 4)) };

    #[rustfmt::skip]
    const ELEMENTS: [u8; 32] = [
        0x20, 0, 3, 0x80, 0x1c, 0, 1, 0x80,
        0x0c + 4 - 4, 0, 1, 0x80, 8, 0, 1, 0, 1, 2, 3, 4,
        0x0c, 0, 2, 0x80, 8, 0, 1, 0, 5, 6, 7, 8,
    ];

    #[test]
    fn an_element_is_one_message_of_a_map() {
        let element = Element { key: vec![1, 2, 3, 4], data: vec![5, 6, 7, 8] };
        let added = MAP.add(&[element], NLM_F_EXCL);
        let [request] = added.as_slice() else { panic!("{added:?}") };
        let bytes = request.bytes();
        // struct nlmsghdr and struct nfgenmsg: NFT_MSG_NEWSETELEM, family inet
        assert_eq!(bytes[4..8], [12, 10, 0x01, 0x06], "request, create, exclusive");
        assert_eq!(bytes[16..20], [1, 0, 0, 0]);
        assert_eq!(bytes[20..32], *b"\x0c\0\x01\0isolate\0");
        assert_eq!(bytes[32..40], *b"\x06\0\x02\0m\0\0\0");
        assert_eq!(bytes[40..], ELEMENTS);
    }

    #[test]
    fn elements_are_read_as_they_are_written() {
        let reply = [&[2, 0, 0, 0], &ELEMENTS[..]].concat();
        assert_eq!(elements(&reply), [Element { key: vec![1, 2, 3, 4], data: vec![5, 6, 7, 8] }]);
        assert_eq!(elements(&reply[..20]), [], "cut off");
    }

    #[test]
    fn a_batch_can_be_bound_to_a_generation() {
        assert_eq!(begin(Some(7)).bytes()[16..], [0, 0, 0, 10, 8, 0, 1, 0, 0, 0, 0, 7]);
        assert_eq!(begin(None).bytes()[4..8], [16, 0, 1, 0]);
        assert_eq!(end().bytes()[4..6], [17, 0]);
    }

    #[test]
    fn many_elements_take_several_messages() {
        let element = Element { key: vec![0; 16], data: vec![] };
        assert_eq!(MAP.add(&vec![element; 1000], 0).len(), 4);
    }
}
