//! Which of several images is for this machine: OCI image-spec, image-index.md, "platform".

use std::fmt;
use std::str::FromStr;

use oci_spec::image;

use crate::error::{Error, ErrorKind};

/// What an image is made for, as `linux/arm64/v8`: words of Go's.
///
/// ```
/// let platform: isolate_images::Platform = "linux/arm/v7".parse()?;
/// assert_eq!(platform.to_string(), "linux/arm/v7");
/// # Ok::<_, isolate_images::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// The one that this program was compiled for.
    #[must_use]
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    pub(crate) fn os(&self) -> &str {
        &self.os
    }

    pub(crate) fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Whether an image of this platform is one that is wanted; `v8` of arm64 and `v1` of amd64 go without saying.
    pub(crate) fn takes(&self, other: &image::Platform) -> bool {
        let plain =
            |variant: &Option<String>| variant.clone().filter(|v| !matches!(v.as_str(), "" | "v8" | "v1"));
        let wanted = plain(&self.variant);
        other.os().to_string() == self.os
            && other.architecture().to_string() == self.architecture
            && (wanted.is_none() || wanted == plain(other.variant()))
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        match parts.as_slice() {
            [os, architecture, rest @ ..] if rest.len() < 2 && parts.iter().all(word) => Ok(Self {
                os: (*os).to_owned(),
                architecture: (*architecture).to_owned(),
                variant: rest.first().map(|variant| (*variant).to_owned()),
            }),
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("platform {text:?}: not as in linux/amd64 or linux/arm/v7"),
            )),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}
