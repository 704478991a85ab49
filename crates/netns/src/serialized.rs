//! What serde makes of values that people write as text: the same text. For the feature `serde`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Cidr, Publish};

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

as_text!(Cidr, Publish);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bandwidth;

    fn again<T: Serialize + for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug>(value: T, text: &str) {
        assert_eq!(serde_json::to_string(&value).unwrap(), text);
        assert_eq!(serde_json::from_str::<T>(text).unwrap(), value);
    }

    #[test]
    fn values_are_read_as_they_were_written() {
        again("10.0.0.1/24".parse::<Cidr>().unwrap(), "\"10.0.0.1/24\"");
        again("fd00::/64".parse::<Cidr>().unwrap(), "\"fd00::/64\"");
        again("127.0.0.1:53:5353/udp".parse::<Publish>().unwrap(), "\"127.0.0.1:53:5353/udp\"");
        again("[::1]:8000-8009:80-89/tcp".parse::<Publish>().unwrap(), "\"[::1]:8000-8009:80-89/tcp\"");
        again(Bandwidth::new().up(5_000_000), "{\"up\":5000000,\"down\":null}");
        for wrong in ["\"10.0.0.1/33\"", "\"\"", "24"] {
            serde_json::from_str::<Cidr>(wrong).unwrap_err();
        }
        serde_json::from_str::<Publish>("\"9000:\"").unwrap_err();
        serde_json::from_str::<Bandwidth>("{\"upp\":1}").unwrap_err();
    }
}
