//! `/etc/passwd` and `/etc/group` as an image has them: any bytes are a list of entries, in one pass.
//!
//! passwd(5), group(5). As in glibc a line that is no entry is skipped, and white space before it and `#` lines are none. Unlike
//! Docker an empty number is not 0: such a line is no entry.

/// Longer lines are no entries.
const LONGEST_LINE: usize = 64 << 10;
/// PATH_MAX without its NUL (path_resolution(7)).
const LONGEST_PATH: usize = 4095;

/// An entry of `/etc/passwd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account<'a> {
    pub name: &'a [u8],
    pub uid: u32,
    pub gid: u32,
    /// Absolute; `/` where the entry has none that can be.
    pub home: &'a [u8],
}

/// An entry of `/etc/group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupEntry<'a> {
    pub name: &'a [u8],
    pub gid: u32,
    members: &'a [u8],
}

/// The entries of `/etc/passwd` in their order: the first that matches counts.
pub(crate) fn accounts(text: &[u8]) -> impl Iterator<Item = Account<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let (uid, gid) = (id(fields.nth(1)?)?, id(fields.next()?)?);
        let home = fields.nth(1).filter(|home| home.starts_with(b"/") && home.len() <= LONGEST_PATH);
        Some(Account { name, uid, gid, home: home.unwrap_or(b"/") })
    })
}

/// The entries of `/etc/group` in their order: the first that matches counts.
pub(crate) fn groups(text: &[u8]) -> impl Iterator<Item = GroupEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = id(fields.nth(1)?)?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or_default() })
    })
}

impl GroupEntry<'_> {
    /// Whether the user of this name is listed as a member.
    pub(crate) fn has(&self, user: &[u8]) -> bool {
        self.members.split(|&byte| byte == b',').any(|member| member.trim_ascii() == user)
    }
}

/// Lines that can be entries of files like these.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n')
        .filter(|line| line.len() <= LONGEST_LINE && !line.contains(&0))
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
}

/// A number in decimal digits that is an id: -1 is none.
pub(crate) fn id(digits: &[u8]) -> Option<u32> {
    number(digits).filter(|&id| id != u32::MAX)
}

/// A number in decimal digits.
pub(crate) fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_its_numbers_and_an_absolute_home() {
        let text =
            b"root:x:0:0:root:/root:/bin/sh\n  app:x:7:8:\xff\xfe:/srv\nbare:x:9:10\nrel:x:1:1::home:\n";
        let read: Vec<_> = accounts(text).map(|a| (a.name, a.uid, a.gid, a.home)).collect();
        let wanted: [(&[u8], u32, u32, &[u8]); 4] = [
            (b"root", 0, 0, b"/root"),
            (b"app", 7, 8, b"/srv"),
            (b"bare", 9, 10, b"/"),
            (b"rel", 1, 1, b"/"),
        ];
        assert_eq!(read, wanted);
    }

    #[test]
    fn a_line_that_is_no_entry_is_skipped() {
        let long = [b"long:x:1:1:", &*vec![b'g'; LONGEST_LINE], b":/:\n"].concat();
        for text in [
            b"".as_slice(),
            b"\n\n\n",
            b"a",
            b"a:x",
            b"a:x:1",
            b"a:x::1:::",
            b":x:1:1:::",
            b"a:x:-1:1:::",
            b"a:x:+1:1:::",
            b"a:x:1 :1:::",
            b"a:x:4294967295:1:::",
            b"a:x:1:4294967295:::",
            b"a:x:4294967296:1:::",
            b"a:x:99999999999999999999999:1:::",
            b"#a:x:1:1:::",
            b"a\0:x:1:1:::",
            b"+::::::",
            &long,
        ] {
            assert_eq!(accounts(text).count(), 0, "{}", text.escape_ascii());
            // And the next one counts.
            let and = [text, b"\nb:x:2:2:::\n"].concat();
            assert_eq!(accounts(&and).map(|a| a.uid).collect::<Vec<_>>(), [2], "{}", text.escape_ascii());
        }
    }

    #[test]
    fn members_are_whole_names() {
        let group = groups(b"adm:x:4:root, app,apple,\n").next().unwrap();
        assert_eq!((group.name, group.gid), (b"adm".as_slice(), 4));
        assert!(group.has(b"app") && group.has(b"root") && !group.has(b"ap"));
        assert!(!groups(b"x:x:1").next().unwrap().has(b"app"), "no members at all");
    }
}
