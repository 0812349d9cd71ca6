//! A MAC address.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// IEEE 802: the first byte's lowest bit marks a group address.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |why| de::Error::custom(format!("mac {text}: {why}"));
        text.parse().map_err(wrong)
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: Option<Vec<u8>> = text
            .split([':', '-'])
            .map(|byte| {
                let hex =
                    (1..=2).contains(&byte.len()) && byte.bytes().all(|b| b.is_ascii_hexdigit());
                hex.then(|| u8::from_str_radix(byte, 16).ok()).flatten()
            })
            .collect();
        let mac = bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Mac)
            .ok_or("not a MAC address such as 02:42:ac:11:00:02")?;
        if !mac.is_unicast() {
            return Err("not a unicast MAC address".into());
        }
        Ok(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        let mac: Mac = "2:42:AC-11:00:02".parse().unwrap();
        assert_eq!(mac, Mac([2, 0x42, 0xac, 0x11, 0, 2]));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
    }

    #[test]
    fn refuses_what_is_no_unicast_address() {
        for text in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "02:42:ac:11:00:+2",
            "g2:42:ac:11:00:02",
        ] {
            assert!(
                text.parse::<Mac>().unwrap_err().contains("such as"),
                "{text}"
            );
        }
        for text in [
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
        ] {
            assert!(
                text.parse::<Mac>().unwrap_err().contains("unicast"),
                "{text}"
            );
        }
    }
}
