//! Text in a room of fixed size: numbers, names of files, times. What does not fit is cut off.

use core::ffi::CStr;

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

    /// `2016-10-06T00:17:09.669794202Z`: UTC, in the calendar of Gregory, from ns since 1970.
    pub(crate) fn time(&mut self, ns: u64) -> &mut Self {
        let (seconds, days) = (ns / SECOND % DAY, ns / SECOND / DAY);
        // Years begin with March: the day that some have not is their last. Eras have 400 years.
        let days = days + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day_of_month = day - (153 * month + 2) / 5 + 1;
        let january = month >= 10;
        let year = year + era * 400 + january as u64;
        let month = if january { month - 9 } else { month + 3 };
        self.padded(year, 4).push(b"-").padded(month, 2).push(b"-").padded(day_of_month, 2).push(b"T");
        self.padded(seconds / 3600, 2).push(b":").padded(seconds / 60 % 60, 2).push(b":").padded(seconds % 60, 2);
        self.push(b".").padded(ns % SECOND, 9).push(b"Z")
    }
}

pub(crate) const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400;
