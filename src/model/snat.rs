//! The source address that a rule gives to packets.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The word that stands for an address that the host knows.
const AUTO: &str = "auto";

/// The source address that a rule gives to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Snat {
    Address(IpAddr),
    /// The one by which this host reaches the server: each backend has its own.
    Auto,
}

impl Snat {
    /// The address that was given.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Snat::Address(addr) => Some(addr),
            Snat::Auto => None,
        }
    }
}

impl fmt::Display for Snat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Snat::Address(addr) => addr.fmt(f),
            Snat::Auto => f.pad(AUTO),
        }
    }
}

impl FromStr for Snat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == AUTO {
            return Ok(Snat::Auto);
        }
        let addr = text.parse().map(Snat::Address);
        addr.map_err(|_| format!("it is an address, or {AUTO}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_as_it_is_written() {
        for text in ["10.1.1.9", "fd00::9", "auto"] {
            assert_eq!(text.parse::<Snat>().unwrap().to_string(), text);
        }
        for bad in ["", "Auto", "10.1.1", "10.1.1.0/24", "any"] {
            assert!(bad.parse::<Snat>().is_err(), "{bad}");
        }
    }
}
