//! Text in a room of fixed size: numbers, names of files, times. What does not fit is cut off.

use core::ffi::CStr;

use crate::calendar;
use crate::call::string;

pub(crate) struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

/// Whatever is short: one size, so that its code is there once.
pub(crate) type Short = Text<64>;

impl<const N: usize> Text<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }

    /// With the NUL that is always kept free.
    pub(crate) fn name(&self) -> &CStr {
        string(&self.bytes)
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> &mut Self {
        for byte in bytes {
            if self.length + 1 < N
                && let Some(place) = self.bytes.get_mut(self.length)
            {
                *place = *byte;
                self.length += 1;
            }
        }
        self
    }

    pub(crate) fn number(&mut self, value: u64) -> &mut Self {
        self.padded(value, 1)
    }

    /// With zeroes in front, up to so many digits.
    pub(crate) fn padded(&mut self, value: u64, digits: usize) -> &mut Self {
        let mut text = [b'0'; 20];
        let (mut rest, mut used) = (value, 0);
        for place in text.iter_mut().rev() {
            if rest == 0 && used >= digits {
                break;
            }
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
            used += 1;
        }
        self.push(text.get(20 - used..).unwrap_or(&[]))
    }

    /// A line `key value`.
    pub(crate) fn pair(&mut self, key: &[u8], value: u64) -> &mut Self {
        self.push(key).push(b" ").number(value).push(b"\n")
    }

    /// A line `key SECONDS.NANOSECONDS`.
    pub(crate) fn moment(&mut self, key: &[u8], ns: u64) -> &mut Self {
        self.push(key).push(b" ").number(ns / SECOND).push(b".").padded(ns % SECOND, 9).push(b"\n")
    }

    /// `2016-10-06T00:17:09.669794202Z`: UTC, from ns since 1970.
    pub(crate) fn time(&mut self, ns: u64) -> &mut Self {
        let [year, month, day, hour, minute, second] = calendar::utc(ns / SECOND);
        self.padded(year, 4);
        for (mark, value) in
            [b"-", b"-", b"T", b":", b":"].into_iter().zip([month, day, hour, minute, second])
        {
            self.push(mark).padded(value, 2);
        }
        self.push(b".").padded(ns % SECOND, 9).push(b"Z")
    }
}

pub(crate) const SECOND: u64 = 1_000_000_000;
