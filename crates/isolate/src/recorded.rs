//! Paths in a record: text where they are, and bytes where they are none.

use std::ffi::OsString;
use std::ops::Deref;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A path of any bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recorded(PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Bytes(Vec<u8>),
}

impl Serialize for Recorded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match self.0.to_str() {
            Some(text) => Form::Text(text.to_owned()),
            None => Form::Bytes(self.0.as_os_str().as_bytes().to_owned()),
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Recorded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Form::deserialize(deserializer).map(|form| match form {
            Form::Text(text) => Self(text.into()),
            Form::Bytes(bytes) => Self(OsString::from_vec(bytes).into()),
        })
    }
}

impl From<PathBuf> for Recorded {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

impl Deref for Recorded {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}
