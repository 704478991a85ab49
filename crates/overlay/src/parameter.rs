//! An overlay as parameters of a mount.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::error::{Error, Result};
use crate::overlay::Overlay;

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
        ([only], None) => Err(Error::invalid(format!("layer {}: one alone makes no overlay", only.display()))
            .with_hint("Overlay::mount gives a read-only view of it; or add a layer or an upper one")),
        _ => Ok(()),
    }
}

/// Since Linux 6.5: each layer on its own, as it is.
pub(crate) fn appended(overlay: &Overlay) -> Result<Vec<Parameter>> {
    let mut parameters = Vec::new();
    for layer in overlay.layers.iter().rev() {
        parameters.push(Parameter { key: "lowerdir+", value: Some(short(layer.as_os_str().to_owned(), layer)?) });
    }
    parameters.extend(rest(overlay)?);
    Ok(parameters)
}

/// Before: all layers in one value, with `:` between them.
pub(crate) fn joined(overlay: &Overlay) -> Result<Vec<Parameter>> {
    if let Some(comma) = overlay.layers.iter().find(|layer| layer.as_os_str().as_bytes().contains(&b',')) {
        return Err(Error::invalid(format!("layer {}: a comma in a path wants Linux 6.5 here", comma.display())));
    }
    let value = lowerdir(overlay);
    if value.len() > LONGEST {
        let what = format!("layers: {} bytes of paths, more than {LONGEST}, want Linux 6.5 here", value.len());
        return Err(Error::invalid(what).with_hint("shorter paths, or Overlay::mount, which takes a page of them"));
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
    if let Some(upper) = &overlay.upper {
        for (key, path) in [("upperdir", &upper.directory), ("workdir", &upper.work)] {
            // The kernel takes a backslash in these two for an escape.
            let value = OsString::from_vec(escape(path.as_os_str(), b"\\"));
            parameters.push(Parameter { key, value: Some(short(value, path)?) });
        }
    }
    Ok(parameters)
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
    let what = format!("layer {}: {} bytes, more than the {LONGEST} that fsconfig(2) takes", path.display(), value.len());
    Err(Error::invalid(what).with_hint("a shorter path, or Overlay::mount"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let expected = ["lowerdir+=/a:b,c\\d", "lowerdir+=/base", "volatile", "upperdir=/u\\\\p", "workdir=/w"];
        assert_eq!(values(&appended(&overlay).unwrap()), expected);
    }

    #[test]
    fn layers_in_one_value_are_escaped_and_a_comma_is_refused() {
        let overlay = Overlay::on("/base").layer("/a:b\\c").userxattr(true);
        assert_eq!(values(&joined(&overlay).unwrap()), ["lowerdir=/a\\:b\\\\c:/base", "userxattr"]);
        assert!(joined(&Overlay::on("/a,b")).unwrap_err().to_string().contains("/a,b"));
    }

    #[test]
    fn what_is_too_long_for_the_kernel_is_named() {
        let long = format!("/{}", "x".repeat(255));
        assert!(appended(&Overlay::on(&long)).unwrap_err().to_string().contains("256 bytes"));
        assert!(joined(&Overlay::on(&long[..200]).layer(&long[..100])).is_err());
    }

    #[test]
    fn volatile_means_nothing_without_an_upper_layer() {
        assert_eq!(values(&appended(&Overlay::on("/base").volatile(true)).unwrap()), ["lowerdir+=/base"]);
    }
}
