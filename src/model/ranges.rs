//! Numbers that have only some of their type's values, and prefixes. Each is checked where it is made, so that
//! no other code has to.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::ops::{Deref, RangeInclusive};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, Serialize, de};

/// Makes a type of the numbers of a range. Text and JSON are that of the number.
macro_rules! ranged {
    ($(#[$doc:meta])* $name:ident, $range:expr, $word:literal, $plural:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u64", into = "u16")]
        pub struct $name(u16);

        impl $name {
            const RANGE: RangeInclusive<u16> = $range;

            /// The number; None where it is out of the range.
            pub fn new(number: u16) -> Option<Self> {
                Self::RANGE.contains(&number).then_some($name(number))
            }

            /// The number itself.
            pub fn get(self) -> u16 {
                self.0
            }

            fn expected() -> String {
                format!("{} are {} to {}", $plural, Self::RANGE.start(), Self::RANGE.end())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let number = text.parse().ok().and_then(Self::new);
                number.ok_or_else(Self::expected)
            }
        }

        impl TryFrom<u64> for $name {
            type Error = String;

            fn try_from(number: u64) -> Result<Self, String> {
                let valid = u16::try_from(number).ok().and_then(Self::new);
                valid.ok_or_else(|| format!("{} {number}: {}", $word, Self::expected()))
            }
        }

        impl From<$name> for u16 {
            fn from(number: $name) -> u16 {
                number.0
            }
        }
    };
}

ranged!(
    /// A UDP or TCP port. Port 0 is reserved.
    Port, 1..=u16::MAX, "port", "ports"
);
ranged!(
    /// The VLAN identifier of a tag. IEEE 802.1Q reserves 0 and 4095.
    VlanId, 1..=4094, "vlan", "VLAN identifiers"
);
ranged!(
    /// A backend's share of the flows, relative to the rule's other backends. 0: it gets no new ones.
    Weight, 0..=u16::MAX, "weight", "weights"
);
ranged!(
    /// How many VLAN tags are removed.
    #[derive(Default)]
    Pops, 0..=2, "pop_vlans", "numbers of removed tags"
);

impl Weight {
    pub const NONE: Weight = Weight(0);
}

impl Default for Weight {
    fn default() -> Self {
        Weight(1)
    }
}

/// An address prefix with no bits set behind its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Prefix(IpNet);

impl Prefix {
    /// The prefix of all addresses of an address's family.
    pub fn any_like(addr: IpAddr) -> Self {
        Prefix(match addr {
            IpAddr::V4(_) => Ipv4Net::default().into(),
            IpAddr::V6(_) => Ipv6Net::default().into(),
        })
    }
}

impl TryFrom<IpNet> for Prefix {
    type Error = String;

    fn try_from(net: IpNet) -> Result<Self, String> {
        if net.addr() == net.network() {
            return Ok(Prefix(net));
        }
        let meant = net.trunc();
        Err(format!(
            "bits are set behind the prefix: did you mean {meant}?"
        ))
    }
}

impl From<IpAddr> for Prefix {
    fn from(addr: IpAddr) -> Self {
        Prefix(addr.into())
    }
}

impl Deref for Prefix {
    type Target = IpNet;

    fn deref(&self) -> &IpNet {
        &self.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(addr) = text.parse::<IpAddr>() {
            return Ok(addr.into());
        }
        let net = text.parse::<IpNet>();
        net.map_err(|_| "not an address or prefix such as 192.168.122.0/24".to_string())?
            .try_into()
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let wrong = |why| de::Error::custom(format!("prefix {text}: {why}"));
        text.parse().map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_their_range_are_refused_wherever_they_come_from() {
        assert_eq!("1".parse::<Port>().map(Port::get), Ok(1));
        assert_eq!("65535".parse::<Weight>().map(Weight::get), Ok(65535));
        assert_eq!("0".parse::<Port>(), Err("ports are 1 to 65535".into()));
        for text in ["0", "4095", "-1", "99999999", "", "x"] {
            let why = text.parse::<VlanId>().unwrap_err();
            assert_eq!(why, "VLAN identifiers are 1 to 4094", "{text}");
        }
        let read = serde_json::from_str::<VlanId>;
        assert_eq!(read("4094").unwrap().get(), 4094);
        let why = read("4095").unwrap_err().to_string();
        assert_eq!(why, "vlan 4095: VLAN identifiers are 1 to 4094");
        let why = serde_json::from_str::<Weight>("65536")
            .unwrap_err()
            .to_string();
        assert_eq!(why, "weight 65536: weights are 0 to 65535");
    }

    #[test]
    fn a_prefix_has_no_bits_behind_its_length() {
        let read = |text: &str| text.parse::<Prefix>().map(|net| net.to_string());
        assert_eq!(read("10.0.0.7"), Ok("10.0.0.7/32".into()));
        assert_eq!(read("fd00::/8"), Ok("fd00::/8".into()));
        assert!(read("10.0.0.7/8").unwrap_err().contains("10.0.0.0/8"));
        assert!(read("10.0.0.0/33").unwrap_err().contains("such as"));
    }
}
