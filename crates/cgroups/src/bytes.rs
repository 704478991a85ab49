//! A size that carries its unit.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// A number of bytes.
///
/// ```
/// use isolate_cgroups::Bytes;
///
/// assert_eq!(Bytes::mib(256), "256m".parse()?);
/// assert_eq!(Bytes::mib(256).to_string(), "256 MiB");
/// # Ok::<(), isolate_cgroups::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Bytes(u64);

/// The units, largest first, with what a user may write for each.
const UNITS: [(&str, u64, &[&str]); 5] = [
    ("TiB", 1 << 40, &["t", "tb", "tib"]),
    ("GiB", 1 << 30, &["g", "gb", "gib"]),
    ("MiB", 1 << 20, &["m", "mb", "mib"]),
    ("KiB", 1 << 10, &["k", "kb", "kib"]),
    ("B", 1, &["", "b"]),
];

impl Bytes {
    /// No limit, where a size is one: it is written `unlimited`, and read from that and from `max`.
    pub const UNLIMITED: Self = Self(u64::MAX);

    /// As many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Units of 1024 bytes; saturates, short of [`UNLIMITED`](Self::UNLIMITED).
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(times(n, 1 << 10))
    }

    /// Units of 1024 KiB; saturates, short of [`UNLIMITED`](Self::UNLIMITED).
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(times(n, 1 << 20))
    }

    /// Units of 1024 MiB; saturates, short of [`UNLIMITED`](Self::UNLIMITED).
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(times(n, 1 << 30))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

const fn times(n: u64, unit: u64) -> u64 {
    match n.checked_mul(unit) {
        Some(bytes) => bytes,
        None => u64::MAX - 1,
    }
}

impl From<u64> for Bytes {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl From<Bytes> for u64 {
    fn from(bytes: Bytes) -> Self {
        bytes.0
    }
}

/// In the largest unit that fits, with one digit after the point where it is not whole: `256 MiB`, `1.5 GiB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::UNLIMITED {
            return f.pad("unlimited");
        }
        let (name, unit) = UNITS
            .iter()
            .find(|(_, unit, _)| self.0 >= *unit)
            .map_or(("B", 1), |(name, unit, _)| (*name, *unit));
        let text = if self.0.is_multiple_of(unit) {
            format!("{} {name}", self.0 / unit)
        } else {
            // In tenths, rounded down: a figure never looks larger than it is.
            let tenths = u128::from(self.0) * 10 / u128::from(unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        };
        f.pad(&text)
    }
}

/// `512`, `512b`, `64k`, `256m`, `256 MiB`, `1.5g`, `2TiB`: units of 1024, in either case, as Docker reads them.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for anything else, and for what does not fit in 64 bits.
impl FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!("size `{text}`: not a number of bytes"))
                .with_hint("write it like 512k, 256m, 1.5g or 256 MiB")
        };
        let trimmed = text.trim();
        if ["unlimited", "max"].contains(&trimmed) {
            return Ok(Self::UNLIMITED);
        }
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, suffix) = trimmed.split_at(digits);
        let suffix = suffix.trim_start().to_ascii_lowercase();
        let (_, unit, _) =
            UNITS.iter().find(|(_, _, names)| names.contains(&suffix.as_str())).ok_or_else(wrong)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let scale = 10u128.pow(fraction.len() as u32);
        let fraction: u128 = fraction.parse().map_err(|_| wrong())?;
        let bytes = u128::from(whole) * u128::from(*unit) + fraction * u128::from(*unit) / scale;
        u64::try_from(bytes).map(Self).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_written_in_the_largest_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (256 << 20, "256 MiB"),
            ((1 << 30) - 1, "1023.9 MiB"),
            (3 << 40, "3 TiB"),
            (u64::MAX - 1, "16777215.9 TiB"),
            (u64::MAX, "unlimited"),
        ] {
            assert_eq!(Bytes::new(bytes).to_string(), text);
        }
        assert_eq!(format!("[{:>8}]", Bytes::kib(1)), "[   1 KiB]");
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512b", 512),
            ("64K", 64 << 10),
            ("256m", 256 << 20),
            ("256 MiB", 256 << 20),
            ("1.5g", 3 << 29),
            (" 2TiB ", 2 << 40),
            ("unlimited", u64::MAX),
            ("max", u64::MAX),
        ] {
            assert_eq!(text.parse::<Bytes>().unwrap().get(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_its_text() {
        for text in
            ["", "m", "-1", "1x", "1.m", ".5m", "1..5m", "1 m m", "99999999999999999999", "17000000t", "∞"]
        {
            let error = text.parse::<Bytes>().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput, "{text}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn a_unit_that_overflows_saturates() {
        assert_eq!(Bytes::gib(u64::MAX).get(), u64::MAX - 1, "which is no limit that is taken");
    }

    proptest! {
        #[test]
        fn any_text_is_a_size_or_an_error_and_never_a_panic(text in ".{0,24}") {
            let _ = text.parse::<Bytes>();
        }

        #[test]
        fn a_whole_number_of_units_survives_writing_and_reading(n in 1u64..1024, unit in 0usize..5) {
            let size = Bytes::new(n * UNITS[unit].1);
            prop_assert_eq!(size.to_string().parse::<Bytes>().unwrap(), size);
        }
    }
}
