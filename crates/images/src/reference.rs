//! The name of an image, as Docker's users write it: distribution's reference grammar.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind};

/// The registry of names without one.
const HUB: &str = "docker.io";
/// What the tag is where none is said.
const LATEST: &str = "latest";
const LONGEST: usize = 255;
const LONGEST_TAG: usize = 128;

/// The name of an image in a registry: `tomcat:10`, `localhost:5000/team/app@sha256:…`.
///
/// What is left out is as Docker has it: the registry is `docker.io`, a single name there is one of `library/`, and the tag is
/// `latest`.
///
/// ```
/// # fn main() -> isolate_images::Result<()> {
/// let tomcat: isolate_images::Reference = "tomcat:10".parse()?;
/// assert_eq!(tomcat.to_string(), "docker.io/library/tomcat:10");
/// assert_eq!((tomcat.registry(), tomcat.repository()), ("docker.io", "library/tomcat"));
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host, with a port if it has one of its own.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The name in the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag: none where there is a digest and no tag beside it.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index that it must be.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::new(ErrorKind::InvalidInput, format!("image {text:?}: {why}"));
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                (name, Some(digest.parse::<Digest>().map_err(|e| e.of(format!("image {text:?}")))?))
            }
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            // Else it is a port.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(wrong(
                "a tag is of letters, digits, `_`, `.` and `-`, 128 at most, and begins with none of the last two",
            ));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest),
            _ => (HUB, name),
        };
        if !is_host(registry) {
            return Err(wrong("its registry is no host, with a port or without"));
        }
        if repository.is_empty() || name.len() > LONGEST || !repository.split('/').all(is_component) {
            return Err(wrong("a name is of lower-case letters and digits, with `.`, `_`, `__` or `-` between them, and `/`")
                .with_hint("as in registry.example.org:5000/team/app:1.0"));
        }
        let registry = if registry == "index.docker.io" { HUB } else { registry };
        let repository = match registry == HUB && !repository.contains('/') {
            true => format!("library/{repository}"),
            false => repository.to_owned(),
        };
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| LATEST.to_owned()));
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether what stands before the first slash is a registry, and not the first part of a name.
fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match rest {
                "" => ("six", None),
                _ => match rest.strip_prefix(':') {
                    Some(port) => ("six", Some(port)),
                    None => return false,
                },
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        plain && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_component(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends =
        bytes.first().is_some_and(|byte| plain(*byte)) && bytes.last().is_some_and(|byte| plain(*byte));
    let separators = text
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .filter(|between| !between.is_empty());
    ends && separators
        .into_iter()
        .all(|between| matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-'))
}

fn is_tag(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= LONGEST_TAG
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> String {
        text.parse::<Reference>().unwrap_or_else(|e| panic!("{e}")).to_string()
    }

    #[test]
    fn what_is_left_out_is_as_docker_has_it() {
        let digest = Digest::of(b"");
        assert_eq!(whole("tomcat"), "docker.io/library/tomcat:latest");
        assert_eq!(whole("tomcat:10-jre"), "docker.io/library/tomcat:10-jre");
        assert_eq!(whole("team/app"), "docker.io/team/app:latest");
        assert_eq!(whole("docker.io/tomcat"), "docker.io/library/tomcat:latest");
        assert_eq!(whole("index.docker.io/library/tomcat"), "docker.io/library/tomcat:latest");
        assert_eq!(whole("localhost/app"), "localhost/app:latest");
        assert_eq!(whole("localhost:5000/tomcat:10"), "localhost:5000/tomcat:10");
        assert_eq!(whole("[::1]:5000/a"), "[::1]:5000/a:latest");
        assert_eq!(whole("r.example.org/a/b/c__d.e--f"), "r.example.org/a/b/c__d.e--f:latest");
        assert_eq!(whole(&format!("a@{digest}")), format!("docker.io/library/a@{digest}"));
        assert_eq!(whole(&format!("h:1/a:t@{digest}")), format!("h:1/a:t@{digest}"));
    }

    #[test]
    fn what_is_no_reference_is_an_error_that_shows_it() {
        let long = "a".repeat(256);
        for bad in [
            "",
            ":",
            "/",
            "a:",
            "A",
            "a//b",
            "/a",
            "a/",
            "a:b/c:",
            "a_",
            "-a",
            "a___b",
            "a..b",
            "../a",
            "a/../b",
            "a b",
            "h:x/a",
            "h:0/a",
            "h:70000/a",
            "a@sha256:12",
            "a@",
            "a:.b",
            "-h.x/a",
            "[::g]:1/a",
            "[::1]x/a",
            "a\n",
            "a:b\0",
            &long,
        ] {
            let error = bad.parse::<Reference>().expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_reference_that_reads_back_or_an_error(text in "[a-zA-Z0-9:/@._\\-\\[\\]]{0,40}|\\PC{0,20}") {
            if let Ok(reference) = text.parse::<Reference>() {
                proptest::prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
