//! Doors for the fuzzers: what is read of the kernel's files and of users' words.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use crate::devices::DeviceRule;
use crate::events::State;
use crate::stats::{Details, io, io_v1, key};
use crate::{Bytes, CpuStats, Pressure};

/// The files of a group: any text is taken, and what it means is bounded by its length.
pub fn group(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines = text.lines().count();
    assert!(io(&text).len() <= lines && Details::new(&text).iter().count() <= lines);
    let mut old = Vec::new();
    io_v1(&text, true, &mut old);
    assert!(old.len() <= lines);
    drop((CpuStats::parse(&text), Pressure::parse(&text), State::parse(&text), key(&text, "oom_kill")));
    drop(crate::name::Name::parse(Path::new(&*text)));
    same_again::<DeviceRule>(&text);
    // What is not whole in its unit is printed as less.
    if let Ok(bytes) = text.parse::<Bytes>() {
        assert!(bytes.to_string().parse::<Bytes>().is_ok_and(|again| again <= bytes), "{bytes}");
    }
}

fn same_again<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert!(value.to_string().parse::<T>().is_ok_and(|again| again == value), "{value}");
    }
}
