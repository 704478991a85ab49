//! An overlay as parameters of a mount.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::error::{Error, Result};
use crate::overlay::{Overlay, Switches};

/// One parameter of a mount: `key=value`, or a flag where there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parameter {
    /// Its name.
    pub key: &'static str,
    /// Its value, if it has one.
    pub value: Option<OsString>,
}

/// The longest value that fsconfig(2) takes.
pub(crate) const LONGEST: usize = 255;

/// The kernel makes no overlay of one layer that takes no writes.
pub(crate) fn refuse_single(overlay: &Overlay) -> Result<()> {
    match (overlay.layers.as_slice(), &overlay.upper) {
        ([only], None) => {
            Err(Error::invalid(format!("layer {}: one alone makes no overlay", only.display()))
                .with_hint("Overlay::mount gives a read-only view of it; or add a layer or an upper one"))
        }
        _ => Ok(()),
    }
}

/// Since Linux 6.7: each layer on its own, as it is.
pub(crate) fn appended(overlay: &Overlay) -> Result<Vec<Parameter>> {
    let mut parameters = Vec::new();
    for layer in overlay.layers.iter().rev() {
        parameters
            .push(Parameter { key: "lowerdir+", value: Some(short(layer.as_os_str().to_owned(), layer)?) });
    }
    parameters.extend(rest(overlay)?);
    Ok(parameters)
}

/// Before: all layers in one value, with `:` between them.
pub(crate) fn joined(overlay: &Overlay) -> Result<Vec<Parameter>> {
    if let Some((what, comma)) =
        overlay.directories().find(|(_, path)| path.as_os_str().as_bytes().contains(&b','))
    {
        return Err(Error::invalid(format!(
            "{what} {}: a comma in a path wants Linux 6.7 here",
            comma.display()
        )));
    }
    let value = lowerdir(overlay);
    if value.len() > LONGEST {
        let what =
            format!("layers: {} bytes of paths, more than {LONGEST}, want Linux 6.7 here", value.len());
        return Err(
            Error::invalid(what).with_hint("shorter paths, or Overlay::mount, which takes a page of them")
        );
    }
    let mut parameters = vec![Parameter { key: "lowerdir", value: Some(value) }];
    parameters.extend(rest(overlay)?);
    Ok(parameters)
}

/// All layers as one value, topmost first.
pub(crate) fn lowerdir(overlay: &Overlay) -> OsString {
    let layers: Vec<_> = overlay.layers.iter().rev().map(|layer| escape(layer.as_os_str(), b"\\:")).collect();
    OsString::from_vec(layers.join(&b':'))
}

fn rest(overlay: &Overlay) -> Result<Vec<Parameter>> {
    let mut parameters = Vec::new();
    let mut flag = |key| parameters.push(Parameter { key, value: None });
    if overlay.volatile && overlay.upper.is_some() {
        flag("volatile");
    }
    if overlay.userxattr {
        flag("userxattr");
    }
    for (key, value) in switches(overlay) {
        parameters.push(Parameter { key, value: Some(value.into()) });
    }
    if let Some(upper) = &overlay.upper {
        for (key, path) in [("upperdir", &upper.directory), ("workdir", &upper.work)] {
            // The kernel takes a backslash in these two for an escape.
            let value = OsString::from_vec(escape(path.as_os_str(), b"\\"));
            parameters.push(Parameter { key, value: Some(short(value, path)?) });
        }
    }
    Ok(parameters)
}

/// What was said of the kernel's own choices.
pub(crate) fn switches(overlay: &Overlay) -> impl Iterator<Item = (&'static str, &'static str)> {
    let Switches { index, metacopy, redirect_dir, xino } = overlay.switches;
    let all = [("index", index), ("metacopy", metacopy), ("redirect_dir", redirect_dir), ("xino", xino)];
    // With userxattr no directory is redirected, and the kernel wants that not even said.
    let said = all.into_iter().filter(|(key, _)| !overlay.userxattr || *key != "redirect_dir");
    said.filter_map(|(key, on)| Some((key, if on? { "on" } else { "off" })))
}

/// With a backslash before each of these characters.
pub(crate) fn escape(text: &OsStr, special: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if special.contains(&byte) {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    escaped
}

fn short(value: OsString, path: &Path) -> Result<OsString> {
    if value.len() <= LONGEST {
        return Ok(value);
    }
    let what = format!(
        "layer {}: {} bytes, more than the {LONGEST} that fsconfig(2) takes",
        path.display(),
        value.len()
    );
    Err(Error::invalid(what).with_hint("a shorter path, or Overlay::mount"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::mount::options;

    fn values(parameters: &[Parameter]) -> Vec<String> {
        let text = |p: &Parameter| match &p.value {
            Some(value) => format!("{}={}", p.key, value.display()),
            None => p.key.to_owned(),
        };
        parameters.iter().map(text).collect()
    }

    #[test]
    fn layers_go_topmost_first_and_unescaped_one_by_one() {
        let overlay = Overlay::on("/base").layer("/a:b,c\\d").writable("/u\\p", "/w").volatile(true);
        let expected =
            ["lowerdir+=/a:b,c\\d", "lowerdir+=/base", "volatile", "upperdir=/u\\\\p", "workdir=/w"];
        assert_eq!(values(&appended(&overlay).unwrap()), expected);
    }

    #[test]
    fn layers_in_one_value_are_escaped_and_a_comma_is_refused() {
        let overlay = Overlay::on("/base").layer("/a:b\\c").userxattr(true);
        assert_eq!(values(&joined(&overlay).unwrap()), ["lowerdir=/a\\:b\\\\c:/base", "userxattr"]);
        assert!(joined(&Overlay::on("/a,b")).unwrap_err().to_string().contains("/a,b"));
    }

    #[test]
    fn the_kernels_choices_are_said_only_where_the_caller_did() {
        let overlay =
            Overlay::on("/a").layer("/b").index(false).metacopy(false).redirect_dir(true).xino(true);
        let expected = ["lowerdir=/b:/a", "index=off", "metacopy=off", "redirect_dir=on", "xino=on"];
        assert_eq!(values(&joined(&overlay).unwrap()), expected);
        assert_eq!(options(&overlay).to_str(), Some(&*expected.join(",")));
    }

    #[test]
    fn what_is_too_long_for_the_kernel_is_named() {
        let long = format!("/{}", "x".repeat(255));
        assert!(appended(&Overlay::on(&long)).unwrap_err().to_string().contains("256 bytes"));
        assert!(joined(&Overlay::on(&long[..200]).layer(&long[..100])).is_err());
    }

    /// As ovl_next_opt and ovl_parse_param_split_lowerdirs of Linux do it: what a backslash stands before separates nothing.
    fn split(text: &[u8], separator: u8) -> Vec<Vec<u8>> {
        let mut parts = vec![Vec::new()];
        let mut escaped = false;
        for &byte in text {
            if byte == separator && !escaped {
                parts.push(Vec::new());
            } else if let Some(part) = parts.last_mut() {
                part.push(byte);
            }
            escaped = byte == b'\\' && !escaped;
        }
        parts
    }

    /// As ovl_unescape does it.
    fn unescape(text: &[u8]) -> PathBuf {
        let mut bytes = text.iter();
        let next = || {
            bytes.next().map(|&byte| if byte == b'\\' { bytes.next().copied().unwrap_or(0) } else { byte })
        };
        OsString::from_vec(std::iter::from_fn(next).collect()).into()
    }

    /// Rich in what means something.
    fn path() -> impl Strategy<Value = PathBuf> {
        let byte = prop_oneof![prop::sample::select(b"\\:,=/+ \n".to_vec()), 1..=255u8];
        vec(byte, 1..40).prop_map(|bytes| OsString::from_vec(bytes).into())
    }

    fn overlay() -> impl Strategy<Value = Overlay> {
        let flags = (any::<bool>(), any::<bool>());
        (path(), vec(path(), 0..8), prop::option::of((path(), path())), flags).prop_map(
            |(base, above, upper, flags)| {
                let overlay = Overlay::on(base).layers(above).volatile(flags.0).userxattr(flags.1);
                match upper {
                    Some((upper, work)) => overlay.writable(upper, work),
                    None => overlay,
                }
            },
        )
    }

    /// Key and value of each, as the kernel would see them; layers bottom first.
    fn assert_read_back(overlay: &Overlay, mut read: Vec<(String, Vec<u8>)>, mut layers: Vec<PathBuf>) {
        layers.reverse();
        assert_eq!(layers, overlay.layers);
        let mut expected = Vec::new();
        if let Some(upper) = &overlay.upper {
            expected.extend([("upperdir", upper.directory.clone()), ("workdir", upper.work.clone())]);
            expected.extend(overlay.volatile.then(|| ("volatile", PathBuf::new())));
        }
        expected.extend(overlay.userxattr.then(|| ("userxattr", PathBuf::new())));
        expected.sort();
        read.sort();
        let read: Vec<_> = read.iter().map(|(key, value)| (key.as_str(), unescape(value))).collect();
        assert_eq!(read, expected);
    }

    proptest! {
        #[test]
        fn mount_2_reads_back_any_paths(overlay in overlay()) {
            let pair = |option: Vec<u8>| {
                let mut parts = option.splitn(2, |byte| *byte == b'=').map(<[u8]>::to_vec);
                let key = String::from_utf8(parts.next().unwrap()).unwrap();
                (key, parts.next().unwrap_or_default())
            };
            let mut read: Vec<_> = split(options(&overlay).as_bytes(), b',').into_iter().map(pair).collect();
            let (key, layers) = read.remove(0);
            assert_eq!(key, "lowerdir");
            assert_read_back(&overlay, read, split(&layers, b':').iter().map(|layer| unescape(layer)).collect());
        }

        #[test]
        fn fsconfig_reads_back_any_paths_that_it_takes(overlay in overlay()) {
            let split_off = |parameters: Vec<Parameter>| {
                let pair = |p: Parameter| (p.key.to_owned(), p.value.unwrap_or_default().into_vec());
                let all = parameters.into_iter().map(pair);
                let (layers, rest): (Vec<_>, Vec<_>) = all.partition(|(key, _)| key.starts_with("lowerdir"));
                assert!(rest.iter().chain(&layers).all(|(_, value)| value.len() <= LONGEST));
                (layers, rest)
            };
            let (layers, rest) = split_off(appended(&overlay).unwrap());
            assert_read_back(&overlay, rest, layers.into_iter().map(|(_, path)| OsString::from_vec(path).into()).collect());
            let commas = overlay.directories().any(|(_, path)| path.as_os_str().as_bytes().contains(&b','));
            match joined(&overlay) {
                Ok(parameters) => {
                    assert!(!commas);
                    let (layers, rest) = split_off(parameters);
                    let layers = split(&layers[0].1, b':');
                    assert_read_back(&overlay, rest, layers.iter().map(|layer| unescape(layer)).collect());
                }
                Err(_) => assert!(commas || lowerdir(&overlay).len() > LONGEST),
            }
        }
    }

    #[test]
    fn volatile_means_nothing_without_an_upper_layer() {
        assert_eq!(values(&appended(&Overlay::on("/base").volatile(true)).unwrap()), ["lowerdir+=/base"]);
    }
}
