//! How many connections are remembered, and in how much memory.

use std::fmt;
use std::str::FromStr;

use indicatif::HumanCount;
use serde::{Serialize, Serializer};

/// Connections that a bank has room for.
const BANK: u32 = 8192;
/// The most banks.
const BANKS: u32 = 512;

/// The size of the table of connections, in banks: a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSize(u32);

impl TableSize {
    /// The bytes of a bank: an entry of 128 bytes for each way, and tags of 4 bytes.
    pub const BANK_BYTES: u32 = BANK * 2 * (128 + 4);
    /// The largest.
    pub const MOST: TableSize = TableSize(BANKS);

    /// The smallest that has room for so many connections; None: for none, or for more than there may be.
    pub fn for_connections(connections: u64) -> Option<Self> {
        let is_possible = (1..=u64::from(BANK * BANKS)).contains(&connections);
        let banks = connections.div_ceil(BANK.into()) as u32;
        is_possible.then(|| TableSize(banks.next_power_of_two()))
    }

    /// None where the number is no size.
    pub fn of_banks(banks: u32) -> Option<Self> {
        (banks.is_power_of_two() && banks <= BANKS).then_some(TableSize(banks))
    }

    /// How many banks it has.
    pub const fn banks(self) -> u32 {
        self.0
    }

    /// How many connections it has room for.
    pub fn connections(self) -> u32 {
        self.0 * BANK
    }

    /// The memory that it takes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0) * u64::from(Self::BANK_BYTES)
    }
}

impl Default for TableSize {
    fn default() -> Self {
        TableSize(32)
    }
}

/// So many connections, or a few more.
impl FromStr for TableSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = text.parse().ok().and_then(TableSize::for_connections);
        let most = HumanCount(TableSize::MOST.connections().into());
        size.ok_or_else(|| format!("it must be a number from 1 to {most}"))
    }
}

impl fmt::Display for TableSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = HumanCount(self.connections().into());
        write!(f, "{connections} connections, {}", Mebibytes(self.bytes()))
    }
}

/// Bytes, as people read them.
#[derive(Clone, Copy, Debug)]
pub struct Mebibytes(pub u64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0 * 10 / (1 << 20);
        let (whole, tenth) = (HumanCount(tenths / 10), tenths % 10);
        match tenth {
            0 => write!(f, "{whole} MiB"),
            tenth => write!(f, "{whole}.{tenth} MiB"),
        }
    }
}

impl Serialize for TableSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Keys {
            most: u32,
            bytes: u64,
        }
        let (most, bytes) = (self.connections(), self.bytes());
        Keys { most, bytes }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Result<String, String> {
        text.parse().map(|size: TableSize| size.to_string())
    }

    #[test]
    fn a_number_is_rounded_up_to_what_banks_allow() {
        assert_eq!(size("1").unwrap(), "8,192 connections, 2 MiB");
        assert_eq!(size("8192").unwrap(), "8,192 connections, 2 MiB");
        assert_eq!(size("8193").unwrap(), "16,384 connections, 4.1 MiB");
        assert_eq!(size("1000000").unwrap(), "1,048,576 connections, 264 MiB");
        let most = "4,194,304 connections, 1,056 MiB";
        assert_eq!(size("4194304").unwrap(), most);
        let default = "262,144 connections, 66 MiB";
        assert_eq!(TableSize::default().to_string(), default);
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["0", "4194305", "-1", "1e6", "", "99999999999999999999"] {
            assert_eq!(
                size(text).unwrap_err(),
                "it must be a number from 1 to 4,194,304"
            );
        }
        assert_eq!([0, 3, 1024].map(TableSize::of_banks), [None; 3]);
        assert_eq!(TableSize::of_banks(512), Some(TableSize::MOST));
    }

    #[test]
    fn a_size_is_two_numbers_in_json() {
        let json = serde_json::to_string(&TableSize::default()).unwrap();
        assert_eq!(json, r#"{"most":262144,"bytes":69206016}"#);
    }
}
