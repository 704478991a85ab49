//! Doors for `cargo xtask fuzz`: there with `--cfg fuzzing` alone. What they promise is checked here, for any input.

/// A datagram for the name server, with a table: a good one for an even first byte, else one made of the second half of what
/// is left.
pub fn names(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    if first % 2 == 0 {
        crate::names::fuzz(rest, None, first / 2 % 2 == 0);
    } else {
        let (query, table) = rest.split_at(rest.len() / 2);
        crate::names::fuzz(query, Some(table), first / 2 % 2 == 0);
    }
}
