//! What serde makes of values that people write as text: the same text. For the feature `serde`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Capabilities, CpuSet, Resource, ResourceLimit, Seccomp, Signal};

macro_rules! as_text {
    ($($kind:ty),*) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(Capabilities, CpuSet, Resource, ResourceLimit, Signal);

/// The default profile by that name, any other filter as the kernel takes it: hexadecimal digits, eight bytes an instruction.
impl Serialize for Seccomp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if *self == Self::default_profile() {
            return serializer.serialize_str(DEFAULT);
        }
        let digits: String = self.program().iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&digits)
    }
}

impl<'de> Deserialize<'de> for Seccomp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == DEFAULT {
            return Ok(Self::default_profile());
        }
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        // A sign is none of them.
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(text.as_bytes());
        let bytes: Option<Vec<u8>> = digits.and_then(|digits| digits.chunks(2).map(byte).collect());
        let filter = bytes.and_then(|bytes| Self::of_program(&bytes));
        filter.ok_or_else(|| {
            serde::de::Error::custom("no filter: hexadecimal digits, eight bytes an instruction")
        })
    }
}

const DEFAULT: &str = "default";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Propagation, SeccompAction, WindowSize};

    fn again<T: Serialize + for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug>(value: T, text: &str) {
        assert_eq!(serde_json::to_string(&value).unwrap(), text);
        assert_eq!(serde_json::from_str::<T>(text).unwrap(), value);
    }

    #[test]
    fn values_are_read_as_they_were_written() {
        again(Signal::TERM, "\"SIGTERM\"");
        again(Capabilities::CHOWN | Capabilities::KILL, "\"CHOWN,KILL\"");
        again(Capabilities::empty(), "\"NONE\"");
        again("0-3,7".parse::<CpuSet>().unwrap(), "\"0-3,7\"");
        again(Resource::Nofile, "\"nofile\"");
        again(ResourceLimit::new(1, ResourceLimit::INFINITY), "\"1:unlimited\"");
        again(WindowSize::new(24, 80), "{\"rows\":24,\"columns\":80}");
        again(Propagation::Slave, "\"slave\"");
        again(Seccomp::default_profile(), "\"default\"");
    }

    #[test]
    fn a_filter_is_read_as_it_was_written_and_half_of_one_is_none() {
        let filter = Seccomp::builder(SeccompAction::Allow).deny("ptrace", libc::EPERM).build().unwrap();
        let text = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<Seccomp>(&text).unwrap(), filter);
        for wrong in ["\"\"", "\"00\"", "\"0\"", "\"+1+1+1+1+1+1+1+1\"", "\"zz\"", "1"] {
            serde_json::from_str::<Seccomp>(wrong).unwrap_err();
        }
        serde_json::from_str::<Signal>("\"SIGNONE\"").unwrap_err();
    }
}
