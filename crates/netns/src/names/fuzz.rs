//! The way from a message to its answer, with what holds for each.

use std::net::IpAddr;
use std::sync::OnceLock;

use super::message::{EDNS, HEADER, PLAIN, Query, answers, question, renumber};
use super::reply::{Turns, Verdict, Way, answer, failed, room};
use super::store::{decode, encode};
use super::table::{MAGIC, Table};
use super::{Names, check};

fn good() -> Names {
    let mut names = Names::new()
        .forward_to([([192, 0, 2, 53], 53).into()])
        .subnet([172, 30, 0, 1].into(), 16)
        .host(["gateway"], [[172, 30, 0, 1].into()]);
    names.add("1", ["db", "store"], ["172.30.0.2", "fd00::2"].iter().filter_map(|a| a.parse().ok()));
    names.add("2", ["web", "store"], [IpAddr::from([172, 30, 0, 3])]);
    names.add("3", ["store"], (0..=255).map(|n| IpAddr::from([172, 30, 1, n])));
    names
}

/// What can be written is read as the same.
fn read_again(bytes: &[u8]) {
    if let Some(names) = decode(bytes)
        && check::check(&names).is_ok()
    {
        let again = encode(&names, 0);
        assert!(decode(&again).is_some_and(|other| other == names), "{names:?}");
    }
}

/// A table of other bytes begins right, so that the rest is looked at, too.
pub(crate) fn answered(message: &[u8], other: Option<&[u8]>, by_stream: bool) {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    let made;
    let bytes = match other {
        Some(bytes) => {
            made = [&MAGIC, bytes].concat();
            read_again(&made);
            &made
        }
        None => GOOD.get_or_init(|| encode(&good(), 0)),
    };
    let table = Table::new(bytes).unwrap_or(Table::EMPTY);
    let way = if by_stream { Way::Stream } else { Way::Datagram };
    let mut out = vec![0; if by_stream { 8192 } else { 2048 }];
    let mut turns = Turns::new();
    match answer(&table, message, way, &mut turns, &mut out) {
        Verdict::Silence => {
            assert!(message.len() < HEADER || message[2] & 0x80 != 0, "a query without an answer");
        }
        Verdict::Answer(length) => {
            assert_eq!(out[..2], message[..2], "another number");
            assert!(out[2] & 0x80 != 0, "no response");
            assert!(by_stream || length <= PLAIN.max(EDNS.into()), "{length} bytes by UDP");
            if let Ok(query) = Query::parse(message) {
                assert!(answers(&out[..length], query.id, query.question));
                assert!(by_stream || length <= query.room());
            }
        }
        Verdict::Forward => {
            assert!(question(message).is_some() && room(message) >= PLAIN);
            let mut message = message.to_vec();
            renumber(&mut message, 1);
            let length = failed(&message, 2, true, &mut out[..PLAIN]);
            assert_eq!(out[..2], [0, 1]);
            assert!((HEADER..=PLAIN).contains(&length), "{length} bytes");
        }
    }
}
