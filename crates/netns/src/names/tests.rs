//! The pure half: tables, messages, and what is answered. Messages are composed and read by another implementation, too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use simple_dns::SimpleDnsError::{InvalidClass, InvalidQClass, InvalidQType};
use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

use super::message::{self, Edns, Query, Text};
use super::reply::{Turns, Verdict, Way, answer, failed, reverse, room};
use super::store::{decode, encode};
use super::table::{ENDED, Table, mapped};
use super::{Names, check};
use crate::ErrorKind;

fn some() -> Names {
    let mut names = Names::new()
        .forward_to(["192.0.2.53:53".parse().unwrap(), "[fe80::1%3]:5353".parse().unwrap()])
        .subnet([172, 30, 0, 1].into(), 16)
        .subnet("fd00::1".parse().unwrap(), 64)
        .host(["gateway", "host.internal"], [[172, 30, 0, 1].into()]);
    names.add("1", ["Db", "db.net.", "store"], ["172.30.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]);
    names.add("2", ["web", "store"], [[172, 30, 0, 3].into()]);
    names
}

fn query(name: &str, kind: TYPE, edns: Option<u16>) -> Vec<u8> {
    let mut packet = Packet::new_query(77);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new_unchecked(name);
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    *packet.opt_mut() = edns.map(|size| OPT { opt_codes: Vec::new(), udp_packet_size: size, version: 0 });
    packet.build_bytes_vec().unwrap()
}

fn ask_by(names: &Names, query: &[u8], way: Way, turns: &mut Turns) -> (Verdict, Vec<u8>) {
    let bytes = encode(names, 0);
    let mut out = vec![0xaa; 65_535];
    let verdict = answer(&Table::new(&bytes).unwrap(), query, way, turns, &mut out);
    out.truncate(if let Verdict::Answer(length) = verdict { length } else { 0 });
    (verdict, out)
}

fn ask(names: &Names, query: &[u8]) -> (Verdict, Vec<u8>) {
    ask_by(names, query, Way::Datagram, &mut Turns::new())
}

fn addresses(reply: &[u8]) -> Vec<IpAddr> {
    let packet = Packet::parse(reply).unwrap();
    assert!(packet.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE));
    let read = |data: &RData<'_>| match data {
        RData::A(a) => Ipv4Addr::from(a.address).into(),
        RData::AAAA(a) => Ipv6Addr::from(a.address).into(),
        other => panic!("{other:?}"),
    };
    packet.answers.iter().map(|record| read(&record.rdata)).collect()
}

fn code(reply: &[u8]) -> RCODE {
    Packet::parse(reply).unwrap().rcode()
}

#[test]
fn a_table_is_read_as_it_was_written() {
    let names = some().internal();
    assert_eq!(decode(&encode(&names, 0)).unwrap(), names);
    assert_eq!(decode(&encode(&names, ENDED)).unwrap(), names);
    assert_eq!(decode(&encode(&Names::new(), 0)).unwrap(), Names::new());
    assert_eq!(decode(b""), None);
}

#[test]
fn a_directory_keeps_the_last_table() {
    let directory = std::env::temp_dir().join(format!("isolate-names-{}", std::process::id()));
    assert_eq!(Names::read(&directory).unwrap(), Names::new());
    some().write(&directory).unwrap();
    assert_eq!(Names::read(&directory).unwrap(), some());
    Names::new().write(&directory).unwrap();
    assert_eq!(Names::read(&directory).unwrap(), Names::new());
    let files = std::fs::read_dir(&directory).unwrap();
    assert_eq!(files.count(), 2, "it, and room for the next one");
    std::fs::write(directory.join("names"), "something else").unwrap();
    assert_eq!(Names::read(&directory).unwrap_err().kind(), ErrorKind::Conflict);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn members_are_added_replaced_and_removed() {
    let mut names = some();
    assert_eq!(
        names.resolve("STORE."),
        ["172.30.0.2", "fd00::2", "172.30.0.3"].map(|a| a.parse::<IpAddr>().unwrap())
    );
    assert_eq!(names.members().collect::<Vec<_>>(), ["1", "2"]);
    names.add("1", ["cache"], [IpAddr::from([172, 30, 0, 9])]);
    assert_eq!(names.resolve("store"), [IpAddr::from([172, 30, 0, 3])]);
    assert!(names.remove("2") && !names.remove("2"));
    assert!(names.resolve("web").is_empty());
    assert_eq!(names.resolve("gateway"), [IpAddr::from([172, 30, 0, 1])], "no member takes it away");
}

#[test]
fn what_no_host_can_have_is_refused_by_name() {
    let long = "a".repeat(64);
    let longer = format!("{}a", "a.".repeat(127));
    for name in ["", ".", "a..b", ".a", "a b", "ä", "a/b", "a\0", &long, &longer] {
        let error = check::check(&Names::new().host([name], [])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&*name.escape_debug().to_string()), "{error}");
    }
    for name in ["a", "_http._tcp.a-b", "0", &long[1..], &longer[2..]] {
        check::check(&Names::new().host([name], [])).unwrap();
    }
    assert!(check::check(&Names::new().subnet([10, 0, 0, 0].into(), 33)).is_err());
    assert!(check::check(&Names::new().host(["a"], [Ipv4Addr::UNSPECIFIED.into()])).is_err());
}

#[test]
fn names_are_answered_and_never_asked_for_elsewhere() {
    let names = some();
    let (_, reply) = ask(&names, &query("DB.net", TYPE::A, None));
    assert_eq!(addresses(&reply), [IpAddr::from([172, 30, 0, 2])]);
    let packet = Packet::parse(&reply).unwrap();
    assert!(packet.id() == 77 && packet.opt().is_none());
    assert!(packet.has_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_DESIRED));
    assert_eq!(packet.answers[0].ttl, 1);
    assert_eq!(packet.questions[0].qname.to_string(), "DB.net", "as it was asked");
    let (_, reply) = ask(&names, &query("db", TYPE::AAAA, None));
    assert_eq!(addresses(&reply), ["fd00::2".parse::<IpAddr>().unwrap()]);
    for (name, kind) in [("web", TYPE::AAAA), ("web", TYPE::MX), ("db", TYPE::Unknown(65))] {
        let (_, reply) = ask(&names, &query(name, kind, None));
        assert_eq!((code(&reply), addresses(&reply).len()), (RCODE::NoError, 0), "{name}");
    }
    let mut any = query("db", TYPE::A, None);
    let at = any.len() - 3;
    any[at] = 255;
    assert_eq!(addresses(&ask(&names, &any).1).len(), 2);
    any[at] = 252;
    assert_eq!(code(&ask(&names, &any).1), RCODE::Refused, "a transfer of the zone");
    for name in ["d", "dbx", "x.db", "example.com", ""] {
        assert_eq!(ask(&names, &query(name, TYPE::A, None)).0, Verdict::Forward, "{name}");
    }
    // A dot that is part of a label is not one between two.
    let dotted = [&query("", TYPE::A, None)[..12], b"\x06db.net\0\0\x01\0\x01"].concat();
    assert_eq!(ask(&names, &dotted).0, Verdict::Forward);
}

#[test]
fn addresses_have_names_and_those_of_the_network_are_nobody_elses() {
    let names = some();
    let long = format!("2.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
    for (name, is) in
        [("2.0.30.172.in-addr.arpa", "db"), ("1.0.30.172.IN-ADDR.ARPA", "gateway"), (&long, "db")]
    {
        let (_, reply) = ask(&names, &query(name, TYPE::PTR, None));
        let packet = Packet::parse(&reply).unwrap();
        assert!(matches!(&packet.answers[0].rdata, RData::PTR(ptr) if ptr.0.to_string() == is), "{name}");
    }
    let (_, reply) = ask(&names, &query("2.0.30.172.in-addr.arpa", TYPE::TXT, None));
    assert_eq!((code(&reply), addresses(&reply).len()), (RCODE::NoError, 0));
    assert_eq!(code(&ask(&names, &query("9.9.30.172.in-addr.arpa", TYPE::PTR, None)).1), RCODE::NameError);
    for name in ["9.9.31.172.in-addr.arpa", "9.30.172.in-addr.arpa", "09.9.30.172.in-addr.arpa"] {
        assert_eq!(ask(&names, &query(name, TYPE::PTR, None)).0, Verdict::Forward, "{name}");
    }
    assert_eq!(reverse(b"4.3.2.1.in-addr.arpa"), Some(mapped([1, 2, 3, 4])));
    for name in ["4.3.2.1.5.in-addr.arpa", "256.3.2.1.in-addr.arpa", "in-addr.arpa", "f.ip6.arpa"] {
        assert_eq!(reverse(name.as_bytes()), None, "{name}");
    }
}

#[test]
fn what_is_not_known_and_cannot_be_asked_for() {
    let internal = some().internal();
    assert_eq!(code(&ask(&internal, &query("example.com", TYPE::A, None)).1), RCODE::NameError);
    assert_eq!(code(&ask(&Names::new(), &query("example.com", TYPE::A, None)).1), RCODE::ServerFailure);
}

#[test]
fn several_addresses_take_turns_by_type() {
    let names = some();
    let mut turns = Turns::new();
    let mut first =
        |kind| addresses(&ask_by(&names, &query("store", kind, None), Way::Datagram, &mut turns).1)[0];
    let seen: Vec<_> = (0..4)
        .map(|_| {
            // As getaddrinfo(3) asks: for both, each time.
            first(TYPE::AAAA);
            first(TYPE::A)
        })
        .collect();
    assert!(seen[0] != seen[1] && seen[0] == seen[2] && seen[1] == seen[3], "{seen:?}");
}

#[test]
fn an_answer_is_as_short_as_the_client_wants_it() {
    let many = (0..200).map(|n| IpAddr::from([172, 30, 1, n]));
    let names = Names::new().host(["many"], many);
    for (edns, most) in [(None, 512), (Some(100), 512), (Some(700), 700), (Some(4096), 1232)] {
        let (_, reply) = ask(&names, &query("many", TYPE::A, edns));
        let packet = Packet::parse(&reply).unwrap();
        assert!(reply.len() <= most && reply.len() > most - 17, "{}", reply.len());
        assert!(packet.has_flags(PacketFlag::TRUNCATION));
        assert_eq!(packet.opt().map(|opt| opt.udp_packet_size), edns.map(|_| 1232));
    }
    let (_, reply) = ask_by(&names, &query("many", TYPE::A, None), Way::Stream, &mut Turns::new());
    assert_eq!(addresses(&reply).len(), 200);
    assert!(!Packet::parse(&reply).unwrap().has_flags(PacketFlag::TRUNCATION));
}

#[test]
fn what_is_no_query_is_answered_so_or_not_at_all() {
    let names = some();
    let good = query("db", TYPE::A, Some(1232));
    let with = |at: usize, byte: u8| {
        let mut changed = good.clone();
        changed[at] = byte;
        ask(&names, &changed)
    };
    assert_eq!(with(2, 0x81).0, Verdict::Silence, "a response");
    assert_eq!(ask(&names, &good[..11]).0, Verdict::Silence, "less than a header");
    assert_eq!(code(&with(2, 0x29).1), RCODE::NotImplemented, "an update");
    for (at, byte) in [(5, 0), (5, 2), (12, 0xc0), (12, 0x40), (11, 2), (11, 0), (12, 63)] {
        assert_eq!(code(&with(at, byte).1), RCODE::FormatError, "{at}: {byte}");
    }
    for length in 12..good.len() {
        assert_eq!(code(&ask(&names, &good[..length]).1), RCODE::FormatError, "{length}");
    }
    let (_, reply) = with(good.len() - 5, 1);
    assert_eq!(
        (reply[3] & 15, &reply[reply.len() - 11..]),
        (0, &b"\0\0\x29\x04\xd0\x01\0\0\0\0\0"[..]),
        "BADVERS"
    );
    let twice = [&good[..11], b"\x02", &good[12..], &good[good.len() - 11..]].concat();
    assert_eq!(code(&ask(&names, &twice).1), RCODE::FormatError, "two OPT records");
}

#[test]
fn a_failure_has_the_clients_question_and_number() {
    let mut out = [0; 512];
    let length = failed(&query("a.b", TYPE::A, Some(512)), 2, true, &mut out);
    let packet = Packet::parse(&out[..length]).unwrap();
    assert_eq!((packet.id(), packet.rcode(), packet.questions.len()), (77, RCODE::ServerFailure, 1));
    assert!(packet.has_flags(PacketFlag::TRUNCATION) && packet.opt().is_some());
    assert_eq!(failed(b"?", 2, false, &mut out), 0);
    message::renumber(&mut out, 0x0102);
    assert_eq!(out[..2], [1, 2]);
    message::renumber(&mut out[..1], 0);
    for (edns, most) in [(None, 512), (Some(4), 512), (Some(4000), 4000)] {
        assert_eq!(room(&query("a.b", TYPE::A, edns)), most);
    }
    assert!(Table::EMPTY.find(b"a").is_none() && !Table::EMPTY.covers(&[0; 16]));
}

#[test]
fn only_the_answer_to_the_question_answers_it() {
    let asked = query("a.b", TYPE::A, None);
    let question = message::question(&asked).unwrap();
    let mut reply = query("A.b", TYPE::A, None);
    assert!(!message::answers(&reply, 77, question), "it is a query");
    reply[2] |= 0x80;
    assert!(message::answers(&reply, 77, question));
    assert!(!message::answers(&reply, 78, question));
    reply[13] = b'c';
    assert!(!message::answers(&reply, 77, question));
    assert!(!message::answers(&reply[..5], 77, question));
}

fn label() -> impl Strategy<Value = String> {
    "[a-z0-9_-]{1,20}"
}

fn name() -> impl Strategy<Value = String> {
    proptest::collection::vec(label(), 1..5).prop_map(|labels| labels.join("."))
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| IpAddr::from([
            octets[0] % 223 + 1,
            octets[1],
            octets[2],
            octets[3]
        ])),
        any::<[u8; 15]>().prop_map(|rest| {
            let mut octets = [0xfd; 16];
            octets[1..].copy_from_slice(&rest);
            IpAddr::from(octets)
        }),
    ]
}

fn any_names() -> impl Strategy<Value = Names> {
    let host = (
        proptest::option::of("[a-z]{0,4}"),
        proptest::collection::vec(name(), 0..4),
        proptest::collection::vec(ip(), 0..4),
    );
    let hosts = proptest::collection::vec(host, 0..12);
    let upstreams = proptest::collection::vec((ip(), any::<u16>()).prop_map(SocketAddr::from), 0..4);
    (hosts, upstreams, any::<bool>(), proptest::collection::vec((ip(), 0..33u8), 0..3)).prop_map(
        |(hosts, upstreams, internal, subnets)| {
            let mut names = Names::new().forward_to(upstreams);
            if internal {
                names = names.internal();
            }
            for (address, prefix) in subnets {
                names = names.subnet(address, prefix);
            }
            for (id, host, addresses) in hosts {
                match id {
                    Some(id) => names.add(&id, host, addresses),
                    None => names = names.host(host, addresses),
                }
            }
            names
        },
    )
}

proptest! {
    #[test]
    fn any_table_is_read_as_it_was_written_and_finds_what_it_has(names in any_names(), other in name()) {
        check::check(&names).unwrap();
        let bytes = encode(&names, 0);
        prop_assert_eq!(&decode(&bytes).unwrap(), &names);
        let table = Table::new(&bytes).unwrap();
        for name in names.hosts.iter().flat_map(|host| &host.names).chain([&other]) {
            let found = table.find(name.as_bytes()).unwrap_or_default();
            let found: Vec<_> = found.iter().map(|bits| Ipv6Addr::from(*bits).to_canonical()).collect();
            prop_assert_eq!(found, names.resolve(name));
        }
        for host in &names.hosts {
            for address in &host.addresses {
                let bits = match address { IpAddr::V4(v4) => v4.to_ipv6_mapped(), IpAddr::V6(v6) => *v6 };
                let owner = names.hosts.iter().filter(|host| host.addresses.contains(address));
                let owner = owner.filter_map(|host| host.names.first()).next().map(|name| name.as_bytes());
                prop_assert_eq!(table.owner(&bits.octets()), owner);
            }
        }
    }

    #[test]
    fn a_broken_table_breaks_nothing(
        names in any_names(), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        end in any::<prop::sample::Index>(), name in name(), address in any::<[u8; 16]>(), n in any::<usize>(),
    ) {
        let mut bytes = encode(&names, 0);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - end.index(bytes.len()) / 8);
        decode(&bytes);
        if let Some(table) = Table::new(&bytes) {
            std::hint::black_box((table.find(name.as_bytes()), table.owner(&address), table.covers(&address)));
            std::hint::black_box((table.upstream(n), table.subnet(n)));
            let mut out = [0; 600];
            answer(&table, &query(&name, TYPE::A, Some(600)), Way::Datagram, &mut Turns::new(), &mut out);
        }
    }

    #[test]
    fn a_query_is_read_as_others_write_it(name in name(), kind in 1..=300u16, edns in proptest::option::of(any::<u16>())) {
        let bytes = query(&name, TYPE::from(kind), edns);
        let read = Query::parse(&bytes).unwrap();
        prop_assert_eq!((read.id, read.kind, read.class), (77, kind, 1));
        prop_assert_eq!(read.edns, edns.map(|size| Edns { size, version: 0, dnssec: 0 }));
        let text = Text::of(read.name).unwrap();
        prop_assert_eq!(std::str::from_utf8(text.bytes()).unwrap(), name);
    }

    #[test]
    fn any_bytes_have_an_answer_that_others_can_read_or_none(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), way in prop_oneof![Just(Way::Datagram), Just(Way::Stream)],
    ) {
        check_answer(&bytes, way);
    }

    #[test]
    fn almost_a_query_has_an_answer_that_others_can_read_or_none(
        name in prop_oneof![name(), Just("store".to_owned()), Just("2.0.30.172.in-addr.arpa".to_owned())],
        kind in prop_oneof![Just(1), Just(28), Just(12), 0..300u16], edns in proptest::option::of(any::<u16>()),
        at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = query(&name, TYPE::from(kind), edns);
        check_answer(&bytes, Way::Datagram);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        check_answer(&bytes, Way::Datagram);
    }
}

fn check_answer(bytes: &[u8], way: Way) {
    let (verdict, reply) = ask_by(&some(), bytes, way, &mut Turns::new());
    match verdict {
        Verdict::Answer(_) => {
            assert!(reply[..2] == bytes[..2] && reply[2] & 0x80 != 0);
            match Packet::parse(&reply) {
                Ok(_) => {}
                // What was asked for comes back, and the other implementation does not know all of it.
                Err(InvalidQType(_) | InvalidQClass(_) | InvalidClass(_)) => {}
                Err(error) => panic!("{error}: {reply:?}"),
            }
            assert!(way == Way::Stream || reply.len() <= 1232);
        }
        Verdict::Forward => assert!(message::question(bytes).is_some()),
        Verdict::Silence => assert!(bytes.len() < 12 || bytes[2] & 0x80 != 0),
    }
}
