//! The range of source ports that connections get.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{Port, Ports};

/// Below these, ports are those of services: whoever sends from them is taken for one.
const LOWEST: u16 = 1024;

/// The range of source ports that connections get, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourcePorts {
    pub first: u16,
    pub last: u16,
}

impl SourcePorts {
    /// Below Linux's own (net.ipv4.ip_local_port_range).
    pub const DEFAULT: SourcePorts = SourcePorts {
        first: 10000,
        last: 32767,
    };

    /// How many ports there are.
    pub fn count(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }

    /// The same, as rules have ports; None where there are none.
    pub fn ports(self) -> Option<Ports> {
        Ports::range(Port::new(self.first)?, Port::new(self.last)?)
    }
}

impl fmt::Display for SourcePorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for SourcePorts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "it is a range such as 10000-32767".to_string();
        let range = text.contains('-').then(|| text.parse::<Ports>());
        let ports = range.ok_or_else(wanted)??;
        if ports.first() < LOWEST {
            return Err(format!(
                "ports below {LOWEST} are those of services, and servers may refuse them"
            ));
        }
        Ok(SourcePorts {
            first: ports.first(),
            last: ports.last(),
        })
    }
}

impl Serialize for SourcePorts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_it_is_written() {
        for (text, count) in [
            ("10000-32767", 22768),
            ("1024-65535", 64512),
            ("2000-2000", 1),
        ] {
            let ports: SourcePorts = text.parse().unwrap();
            assert_eq!((ports.to_string().as_str(), ports.count()), (text, count));
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for (text, why) in [
            ("", "it is a range"),
            ("any", "it is a range"),
            ("10000", "it is a range"),
            ("0-9", "ports are 1 to 65535"),
            ("20000-70000", "ports are 1 to 65535"),
            ("1000-2000", "ports below 1024"),
            ("3000-2000", "the range ends before it begins"),
        ] {
            let error = text.parse::<SourcePorts>().unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }
}
