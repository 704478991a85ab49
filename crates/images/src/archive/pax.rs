//! Extended headers: pax(1), "pax Extended Header". A record is `LENGTH KEY=VALUE\n`, with any bytes in the value.

use super::sparse::Segment;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// What the records before an entry say of it.
#[derive(Default)]
pub(super) struct Records {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Sparse,
    any: bool,
}

/// GNU tar's records of sparse files: its manual, "Storing Sparse Files", formats 0.0, 0.1 and 1.0.
#[derive(Default)]
pub(super) struct Sparse {
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    /// In the records: 0.0 and 0.1.
    pub map: Option<Vec<Segment>>,
    /// Before the data: 1.0.
    pub in_data: bool,
}

impl Records {
    pub(super) fn is_empty(&self) -> bool {
        !self.any
    }

    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        let wrong = || "an extended header that is none".to_owned();
        self.any = true;
        while !bytes.is_empty() {
            // Some writers fill up with NULs.
            if bytes.iter().all(|byte| *byte == 0) {
                break;
            }
            let space =
                bytes.iter().position(|byte| *byte == b' ').filter(|at| *at < 20).ok_or_else(wrong)?;
            let length = bytes
                .get(..space)
                .and_then(decimal)
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(wrong)?;
            let record = bytes.get(space + 1..length).ok_or_else(wrong)?;
            let [record @ .., b'\n'] = record else { return Err(wrong()) };
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
            let (key, value) = record.split_at(equals);
            self.set(key, value.get(1..).unwrap_or_default())?;
            bytes = bytes.get(length..).unwrap_or_default();
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let number = || decimal(value).ok_or_else(|| format!("a {} that is no number", super::shown(key)));
        // A record without a value takes back what an earlier one said.
        let kept = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.path = kept.map(Into::into),
            b"linkpath" => self.link = kept.map(Into::into),
            b"size" => self.size = kept.map(|_| number()).transpose()?,
            b"uid" => self.uid = kept.map(|_| number()).transpose()?,
            b"gid" => self.gid = kept.map(|_| number()).transpose()?,
            b"mtime" => {
                let time = |value| time(value).ok_or_else(|| "a time that is no number".to_owned());
                self.mtime = kept.map(time).transpose()?;
            }
            b"GNU.sparse.name" => self.sparse.name = kept.map(Into::into),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse.real_size = Some(number()?),
            b"GNU.sparse.major" => self.sparse.in_data = number()? == 1,
            b"GNU.sparse.map" => {
                let numbers: Option<Vec<u64>> = value.split(|byte| *byte == b',').map(decimal).collect();
                let numbers =
                    numbers.filter(|numbers| numbers.len() % 2 == 0).ok_or("a sparse map that is none")?;
                let pairs = numbers.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?)));
                self.sparse.map = Some(pairs.collect());
            }
            b"GNU.sparse.offset" => self.sparse.map.get_or_insert_default().push((number()?, 0)),
            b"GNU.sparse.numbytes" => {
                let last = self.sparse.map.as_mut().and_then(|map| map.last_mut());
                last.ok_or("a sparse map that is none")?.1 = number()?;
            }
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.retain(|(other, _)| other != name);
                    self.xattrs.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        Ok(())
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

/// Seconds with a fraction, before 1970 too: -0.25 is a quarter second before.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(dot) => (text.get(..dot)?, text.get(dot + 1..)?),
        None => (text, &[][..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_parts_of_seconds_are_read() {
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"-0.25"), Some((-1, 750_000_000)));
        assert_eq!(time(b"-3"), Some((-3, 0)));
        assert_eq!(time(b"1.0000000019"), Some((1, 1)));
        for bad in [&b""[..], b"x", b"1.x", b"99999999999999999999", b"--1", b"+1"] {
            assert_eq!(time(bad), None);
        }
    }

    #[test]
    fn a_value_may_be_of_any_bytes() {
        let mut records = Records::default();
        records.read(b"28 SCHILY.xattr.user.a=\n=\n\0\n").unwrap();
        assert_eq!(records.xattrs, [(b"user.a".to_vec(), b"\n=\n\0".to_vec())]);
        for bad in ["x", "5 a=b", "0 a=b\n", "99999999999999999999 a=b\n", "6 ab=c", "4 a\n", "-1 a=\n"] {
            assert!(Records::default().read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
