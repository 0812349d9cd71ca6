//! Destination ports: one, a range, or any.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Port;

/// The destination ports that a rule matches. The fewer they are, the earlier they come in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// Any port, 0 too; and packets of protocols that have no ports.
    pub const ANY: Ports = Ports {
        first: 0,
        last: u16::MAX,
    };

    /// The ports from the first to the last; None where the last is smaller.
    pub fn range(first: Port, last: Port) -> Option<Self> {
        let (first, last) = (first.get(), last.get());
        (first <= last).then_some(Ports { first, last })
    }

    /// The lowest of the ports.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The highest of the ports.
    pub fn last(self) -> u16 {
        self.last
    }

    /// The port, where it is only one.
    pub fn one(self) -> Option<Port> {
        Port::new(self.first).filter(|_| self.first == self.last)
    }

    /// Whether ports do not matter.
    pub fn is_any(self) -> bool {
        self == Ports::ANY
    }

    /// Whether all ports of the other are among these.
    pub fn cover(self, other: Ports) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Whether the port is among these.
    pub fn contain(self, port: Port) -> bool {
        self.cover(port.into())
    }
}

impl From<Port> for Ports {
    fn from(port: Port) -> Self {
        let number = port.get();
        Ports {
            first: number,
            last: number,
        }
    }
}

impl Ord for Ports {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |ports: &Ports| (ports.last - ports.first, ports.first);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Ports {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.one() {
            Some(port) => port.fmt(f),
            None if self.is_any() => f.write_str("any"),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "any" {
            return Ok(Ports::ANY);
        }
        let Some((first, last)) = text.split_once('-') else {
            let port = text.parse::<Port>().map(Ports::from);
            return port.map_err(|why| format!("{why}, a range such as 7000-7010, or any"));
        };
        let (first, last) = (first.parse::<Port>()?, last.parse::<Port>()?);
        Ports::range(first, last)
            .ok_or_else(|| format!("the range ends before it begins: did you mean {last}-{first}?"))
    }
}

/// One port is a number; a range and any are text.
impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.one() {
            Some(port) => port.serialize(serializer),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText)
    }
}

struct NumberOrText;

impl de::Visitor<'_> for NumberOrText {
    type Value = Ports;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port, a range such as \"7000-7010\", or \"any\"")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Ports, E> {
        Port::try_from(number).map(Ports::from).map_err(E::custom)
    }

    /// What TOML has: its numbers have signs.
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Ports, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Ports, E> {
        let ports = text.parse();
        ports.map_err(|why: String| E::custom(format!("port {text}: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Ports {
        text.parse().expect(text)
    }

    #[test]
    fn one_port_a_range_and_any_are_read_and_written() {
        for text in ["1", "65535", "7000-7010", "1-65535", "any"] {
            assert_eq!(ports(text).to_string(), text);
            let json = serde_json::to_string(&ports(text)).unwrap();
            assert_eq!(json.starts_with('"'), text.contains(['-', 'y']), "{json}");
            assert_eq!(serde_json::from_str::<Ports>(&json).unwrap(), ports(text));
        }
        assert_eq!(ports("7000-7000").one(), Port::new(7000));
        assert!(!ports("1-65535").is_any());
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for (text, why) in [
            ("0", "ports are 1 to 65535, a range"),
            ("", "ports are 1 to 65535, a range"),
            ("0-7", "ports are 1 to 65535"),
            ("7-", "ports are 1 to 65535"),
            ("7-65536", "ports are 1 to 65535"),
            ("1-2-3", "ports are 1 to 65535"),
            (
                "20-10",
                "the range ends before it begins: did you mean 10-20?",
            ),
        ] {
            let error = text.parse::<Ports>().unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
        let read = |json| serde_json::from_str::<Ports>(json).unwrap_err().to_string();
        assert!(read("0").starts_with("port 0: ports are 1 to 65535"));
        assert!(read("\"9-1\"").starts_with("port 9-1: the range"));
        assert!(read("true").contains("expected a port, a range"));
    }

    #[test]
    fn fewer_ports_come_first_and_lower_ones_before_higher() {
        let mut all = ["any", "1-65535", "2-4", "1-3", "9", "8", "1-2"].map(ports);
        all.sort();
        let sorted = ["8", "9", "1-2", "1-3", "2-4", "1-65535", "any"];
        assert_eq!(all.map(|ports| ports.to_string()), sorted);
    }
}
