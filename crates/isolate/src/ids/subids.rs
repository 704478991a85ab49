//! `/etc/subuid` and `/etc/subgid`: ranges of ids that users may give to their user namespaces (subuid(5)).

use crate::user::passwd::{id, lines, number};

/// A line: whose it is (a name or a number), and its ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub owner: &'a [u8],
    pub start: u32,
    pub count: u32,
}

/// The ranges of the user with this name or number, as `(first id, count)`, in their order.
pub(crate) fn subids(text: &[u8], name: &str, uid: u32) -> Vec<(u32, u32)> {
    entries(text)
        .filter(|entry| entry.owner == name.as_bytes() || id(entry.owner) == Some(uid))
        .map(|entry| (entry.start, entry.count))
        .collect()
}

/// All lines that are ranges: at least one id, none beyond the last one.
pub(crate) fn entries(text: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let (owner, start, count) = (fields.next()?, id(fields.next()?)?, number(fields.next()?)?);
        let last = start.checked_add(count.checked_sub(1)?)?;
        let one = !owner.is_empty() && fields.next().is_none() && last < u32::MAX;
        one.then_some(Entry { owner, start, count })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_ranges_of_its_name_and_of_its_number() {
        let text = b"# comment\nann:100000:65536\nbob:165536:65536\n1000:300000:10\nann:500000:1\n";
        assert_eq!(subids(text, "ann", 1000), [(100_000, 65_536), (300_000, 10), (500_000, 1)]);
        assert_eq!(subids(text, "bob", 7), [(165_536, 65_536)]);
        assert_eq!(subids(text, "", 7), []);
    }

    #[test]
    fn what_is_no_range_of_ids_is_skipped() {
        for line in [
            "ann",
            "ann:1",
            "ann::1",
            "ann:1:",
            "ann:1:0",
            "ann:-1:5",
            "ann:1:+5",
            ":1:5",
            "ann:1:5:6",
            "ann:4294967295:1",
            "ann:4294967294:2",
            "ann:1:4294967295",
            "ann:4294967296:1",
            "ann:x:y",
            "an\0n:1:2",
        ] {
            assert_eq!(entries(line.as_bytes()).count(), 0, "{line:?}");
        }
        let most = entries(b"ann:4294967294:1\nann:0:4294967295").map(|entry| entry.count);
        assert_eq!(most.collect::<Vec<_>>(), [1, u32::MAX]);
    }
}
