//! Paths and arguments in a file: text where they are, and bytes where they are none.

use std::ffi::OsString;
use std::ops::Deref;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A path of any bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Recorded(#[serde(with = "crate::recorded")] PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Form {
    Text(String),
    Bytes(Vec<u8>),
}

/// What has a form, for `#[serde(with = "crate::recorded")]`.
pub(crate) trait Record: Sized {
    type Form: Serialize + DeserializeOwned;
    fn form(&self) -> Self::Form;
    fn of(form: Self::Form) -> Self;
}

impl Record for OsString {
    type Form = Form;

    fn form(&self) -> Form {
        match self.to_str() {
            Some(text) => Form::Text(text.to_owned()),
            None => Form::Bytes(self.as_bytes().to_owned()),
        }
    }

    fn of(form: Form) -> Self {
        match form {
            Form::Text(text) => text.into(),
            Form::Bytes(bytes) => Self::from_vec(bytes),
        }
    }
}

impl Record for PathBuf {
    type Form = Form;

    fn form(&self) -> Form {
        self.as_os_str().to_owned().form()
    }

    fn of(form: Form) -> Self {
        OsString::of(form).into()
    }
}

impl<T: Record> Record for Option<T> {
    type Form = Option<T::Form>;

    fn form(&self) -> Self::Form {
        self.as_ref().map(T::form)
    }

    fn of(form: Self::Form) -> Self {
        form.map(T::of)
    }
}

impl<T: Record> Record for Vec<T> {
    type Form = Vec<T::Form>;

    fn form(&self) -> Self::Form {
        self.iter().map(T::form).collect()
    }

    fn of(form: Self::Form) -> Self {
        form.into_iter().map(T::of).collect()
    }
}

impl<A: Record, B: Record> Record for (A, B) {
    type Form = (A::Form, B::Form);

    fn form(&self) -> Self::Form {
        (self.0.form(), self.1.form())
    }

    fn of((a, b): Self::Form) -> Self {
        (A::of(a), B::of(b))
    }
}

pub(crate) fn serialize<T: Record, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.form().serialize(serializer)
}

pub(crate) fn deserialize<'de, T: Record, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::Form::deserialize(deserializer).map(T::of)
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
