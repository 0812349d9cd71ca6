//! Rules and their backends.

use std::fmt;
use std::net::Ipv4Addr;

use clap::ValueEnum;
use ipnet::Ipv4Net;
use serde::Serialize;

use super::{Mac, maglev};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    Udp,
    Tcp,
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Proto::Udp => "udp",
            Proto::Tcp => "tcp",
        })
    }
}

/// What a rule matches. Of several, the one with the longest source prefix wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    pub proto: Proto,
    pub port: u16,
    pub src: Ipv4Net,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src {} {} port {}", self.src, self.proto, self.port)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub server: Ipv4Addr,
    pub mac: Mac,
    /// The egress device's own address, the source of what it sends.
    pub source_mac: Mac,
    pub ifindex: u32,
    pub weight: u16,
    /// Whether the egress device completes partial checksums.
    pub completes_checksum: bool,
    /// The key of its counter.
    pub counter: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub matches: Match,
    /// In the order of their addresses, so that the same set always spreads the same way.
    pub backends: Vec<Backend>,
}

impl Rule {
    pub fn backend(&self, server: Ipv4Addr) -> Option<&Backend> {
        self.backends
            .iter()
            .find(|backend| backend.server == server)
    }

    /// Adds the backend, in place of an earlier one with the same address.
    pub fn put(&mut self, backend: Backend) {
        match self
            .backends
            .binary_search_by_key(&backend.server, |b| b.server)
        {
            Ok(place) => self.backends[place] = backend,
            Err(place) => self.backends.insert(place, backend),
        }
    }

    pub fn remove(&mut self, server: Ipv4Addr) -> Option<Backend> {
        let place = self.backends.iter().position(|b| b.server == server)?;
        Some(self.backends.remove(place))
    }

    /// The slots of the Maglev table: for each the index of a backend.
    pub fn maglev(&self, slots: usize) -> Vec<u8> {
        let members: Vec<maglev::Member> = self
            .backends
            .iter()
            .map(|backend| maglev::Member {
                identity: u64::from(u32::from(backend.server)),
                weight: backend.weight,
            })
            .collect();
        maglev::table(&members, slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(server: [u8; 4], weight: u16) -> Backend {
        Backend {
            server: server.into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            source_mac: Mac([2, 0, 0, 0, 0, 2]),
            ifindex: 1,
            weight,
            completes_checksum: true,
            counter: 7,
        }
    }

    #[test]
    fn backends_stay_sorted_and_the_same_server_is_replaced() {
        let matches = Match {
            proto: Proto::Udp,
            port: 1,
            src: Ipv4Net::default(),
        };
        let mut rule = Rule {
            matches,
            backends: Vec::new(),
        };
        for last in [3, 1, 2, 1] {
            rule.put(backend([10, 0, 0, last], u16::from(last) * 10));
        }
        let servers: Vec<u8> = rule.backends.iter().map(|b| b.server.octets()[3]).collect();
        assert_eq!(servers, [1, 2, 3]);
        assert!(rule.remove([10, 0, 0, 2].into()).is_some());
        assert!(rule.remove([10, 0, 0, 2].into()).is_none());
        assert_eq!(rule.backend([10, 0, 0, 3].into()).unwrap().weight, 30);
    }
}
