//! The objects of nf_tables as messages: tables, chains, rules, sets and their elements.

use netlink_packet_core::{DefaultNla, NetlinkSerializable};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, GenMessage, Hook, InetHookNumber, ListAttribute,
    NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute, SetElementList,
    SetElementMessage, SetFlags, SetMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};

use super::expression::Expression;
use crate::netlink::{NLM_F_CREATE, NLM_F_EXCL, Request, attributes};

/// The one table of this crate, of family `ip`.
pub(crate) const TABLE: &str = "isolate";

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

fn request(message: NfTablesMessage, flags: u16) -> Request {
    Request::new(in_family(message), flags)
}

fn in_family(message: impl Into<NetfilterMessageInner>) -> impl NetlinkSerializable {
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0), message)
}

pub(crate) fn new_table() -> Request {
    let message = TableMessage { attributes: vec![TableAttribute::Name(TABLE.into())] };
    request(NfTablesMessage::NewTable(message), NLM_F_CREATE | NLM_F_EXCL)
}

pub(crate) fn delete_table() -> Request {
    let message = TableMessage { attributes: vec![TableAttribute::Name(TABLE.into())] };
    request(NfTablesMessage::DeleteTable(message), 0)
}

pub(crate) fn get_generation() -> Request {
    request(NfTablesMessage::GetGen(GenMessage { attributes: vec![] }), 0)
}

/// What the answer to [`get_generation`] says.
pub(crate) fn generation(reply: &[u8]) -> Option<u32> {
    const NFTA_GEN_ID: u16 = 1;
    let (_, id) = attributes(reply.get(4..)?).find(|(kind, _)| *kind == NFTA_GEN_ID)?;
    Some(u32::from_be_bytes(id.try_into().ok()?))
}

/// All chains of all tables of the family, for [`super::foreign`].
pub(crate) fn get_chains() -> Request {
    request(NfTablesMessage::GetChain(ChainMessage { attributes: vec![] }), 0)
}

/// A chain at a hook, of type `filter` or `nat`; what it does not decide is let through.
pub(crate) fn base_chain(name: &str, kind: &str, hook: InetHookNumber, priority: i32) -> Request {
    let hook = vec![Hook::Number(hook.into()), Hook::Priority(priority.cast_unsigned())];
    let attributes = vec![
        ChainAttribute::Table(TABLE.into()),
        ChainAttribute::Name(name.into()),
        ChainAttribute::Hook(hook),
        ChainAttribute::Policy(NF_ACCEPT),
        ChainAttribute::Type(kind.into()),
    ];
    request(NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE)
}

/// A chain that others go on in.
pub(crate) fn chain(name: &str) -> Request {
    let attributes = vec![ChainAttribute::Table(TABLE.into()), ChainAttribute::Name(name.into())];
    request(NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE)
}

pub(crate) fn rule(chain: &str, expressions: Vec<Expression>) -> Request {
    let attributes = vec![
        RuleAttribute::Table(TABLE.into()),
        RuleAttribute::Chain(chain.into()),
        RuleAttribute::Expressions(expressions),
    ];
    request(NfTablesMessage::NewRule(RuleMessage { attributes }), NLM_F_CREATE | NLM_F_APPEND)
}

/// What the elements of a set or map are: lengths for the kernel, types for whoever lists it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set {
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
        request(NfTablesMessage::NewSet(SetMessage { attributes }), NLM_F_CREATE)
    }

    /// Adds elements; what is there already is no error unless `flags` has `NLM_F_EXCL`.
    pub(crate) fn add(&self, elements: &[Element], flags: u16) -> Vec<Request> {
        let messages = self.with_elements(elements, true).map(NfTablesMessage::NewSetElement);
        messages.map(|message| request(message, NLM_F_CREATE | flags)).collect()
    }

    /// Deletes elements; one that is not there is refused (ENOENT).
    pub(crate) fn delete(&self, elements: &[Element]) -> Vec<Request> {
        let messages = self.with_elements(elements, false).map(NfTablesMessage::DeleteSetElement);
        messages.map(|message| request(message, 0)).collect()
    }

    /// Asks for all elements; [`elements`] reads the answers.
    pub(crate) fn list(&self) -> Request {
        let attributes = vec![SetElementList::Table(TABLE.into()), SetElementList::Set(self.name.into())];
        request(NfTablesMessage::GetSetElement(SetElementMessage { attributes }), 0)
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

    const MAP: Set = Set { name: "m", id: 1, key: (1, 8), data: Some((2, 4)) };

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
        // struct nlmsghdr and struct nfgenmsg: NFT_MSG_NEWSETELEM, family ip
        assert_eq!(bytes[4..8], [12, 10, 0x01, 0x06], "request, create, exclusive");
        assert_eq!(bytes[16..20], [2, 0, 0, 0]);
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
