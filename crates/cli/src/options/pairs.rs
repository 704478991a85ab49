//! `KEY=VALUE`, and lists of them.

use std::convert::Infallible;

/// A name and what it is set to.
pub(crate) type Pair = (String, String);

/// `KEY=VALUE`; `KEY` alone is set to nothing.
pub(crate) fn pair(text: &str) -> Result<Pair, Infallible> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    Ok((key.to_owned(), value.to_owned()))
}

/// `key=value,key,key=value`: each part, with its value if it has one.
pub(crate) fn list(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let split = |part| match str::split_once(part, '=') {
        Some((key, value)) => (key, Some(value)),
        None => (part, None),
    };
    text.split(',').map(split)
}

/// The value of a switch: there without one, or a truth as Go reads it.
pub(crate) fn switch(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!("{key} is true or false, not `{other}`")),
    }
}

/// A value that must be there.
pub(crate) fn wanted<'a>(key: &str, value: Option<&'a str>) -> Result<&'a str, String> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| format!("{key} wants a value: {key}=…"))
}

/// The same, read.
pub(crate) fn read<T: std::str::FromStr<Err: std::fmt::Display>>(
    key: &str,
    value: Option<&str>,
) -> Result<T, String> {
    wanted(key, value)?.parse().map_err(|e| format!("{key}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_keys_with_and_without_values() {
        let all: Vec<_> = list("a=b=c,d,e=").collect();
        assert_eq!(all, [("a", Some("b=c")), ("d", None), ("e", Some(""))]);
    }

    #[test]
    fn a_switch_is_on_where_it_stands_alone() {
        assert_eq!(switch("ro", None), Ok(true));
        assert_eq!(switch("ro", Some("false")), Ok(false));
        assert!(switch("ro", Some("maybe")).unwrap_err().contains("maybe"));
        assert!(wanted("src", Some("")).is_err());
    }
}
