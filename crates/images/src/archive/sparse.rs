//! Files with holes, in GNU tar's four formats: its manual, "Storing Sparse Files".

use std::io::Read;

use tar::{GnuExtSparseHeader, GnuHeader};

use super::{BLOCK, fill};

/// Offset and length of what is stored.
pub(super) type Segment = (u64, u64);

/// In memory 16 bytes each.
const MOST: usize = 1 << 18;

/// The old format: four in the header, 21 in each block behind it.
pub(super) fn of_gnu(header: &GnuHeader, reader: &mut impl Read) -> Result<Vec<Segment>, String> {
    let wrong = || "a sparse map that is none".to_owned();
    let mut segments = Vec::new();
    let mut take = |parts: &[tar::GnuSparseHeader]| {
        for part in parts.iter().filter(|part| !part.is_empty()) {
            segments.push((part.offset().map_err(|_| wrong())?, part.length().map_err(|_| wrong())?));
        }
        if segments.len() > MOST { Err(wrong()) } else { Ok(()) }
    };
    take(&header.sparse)?;
    let mut more = header.is_extended();
    while more {
        let mut extended = GnuExtSparseHeader::new();
        if fill(reader, extended.as_mut_bytes()).map_err(|e| e.to_string())? < BLOCK {
            return Err(wrong());
        }
        take(&extended.sparse)?;
        more = extended.is_extended();
    }
    Ok(segments)
}

/// Format 1.0: numbers before the data, one a line, in whole blocks. Also how many bytes that is.
pub(super) fn in_data(reader: &mut impl Read, left: u64) -> Result<(Vec<Segment>, u64), String> {
    let wrong = || "a sparse map that is none".to_owned();
    let (mut text, mut taken) = (Vec::new(), 0_u64);
    let mut numbers: Vec<u64> = Vec::new();
    loop {
        let wanted = numbers.first().map(|count| count.saturating_mul(2).saturating_add(1));
        if wanted.is_some_and(|wanted| numbers.len() as u64 >= wanted) {
            break;
        }
        if wanted.is_some_and(|wanted| wanted > 2 * MOST as u64) || taken + BLOCK as u64 > left {
            return Err(wrong());
        }
        let mut block = [0; BLOCK];
        if fill(reader, &mut block).map_err(|e| e.to_string())? < BLOCK {
            return Err(wrong());
        }
        taken += BLOCK as u64;
        for byte in block {
            let full = numbers.first().is_some_and(|count| numbers.len() as u64 > count.saturating_mul(2));
            match byte {
                _ if full => break,
                b'0'..=b'9' if text.len() < 20 => text.push(byte),
                b'\n' => {
                    let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
                    numbers.push(number.ok_or_else(wrong)?);
                    text.clear();
                }
                _ => return Err(wrong()),
            }
        }
    }
    let pairs = numbers.get(1..).unwrap_or_default().chunks_exact(2);
    Ok((pairs.filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect(), taken))
}

/// One after the other, within the file, and all of what is stored.
pub(super) fn check(segments: &[Segment], stored: u64, real: u64) -> Result<(), String> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for &(offset, length) in segments {
        if offset < end {
            return Err("a sparse map whose parts overlap".to_owned());
        }
        end = offset.checked_add(length).ok_or("a sparse map beyond its file")?;
        sum += length;
    }
    match end <= real && sum == stored {
        true => Ok(()),
        false => Err("a sparse map that is of another file".to_owned()),
    }
}
