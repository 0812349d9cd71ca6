//! Rules and their backends.

use std::fmt;
use std::net::IpAddr;

use clap::ValueEnum;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Locator, Mac, maglev};

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Match {
    pub proto: Proto,
    pub port: u16,
    /// VLAN identifier of the outer tag; 0: untagged.
    pub vlan: u16,
    pub src: IpNet,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src {} {} port {}", self.src, self.proto, self.port)?;
        match self.vlan {
            0 => Ok(()),
            vlan => write!(f, " vlan {vlan}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub server: IpAddr,
    pub mac: Mac,
    /// The egress device's own address, the source of what it sends.
    pub source_mac: Mac,
    pub ifindex: u32,
    pub weight: u16,
    /// Whether the egress device completes partial checksums.
    pub completes_checksum: bool,
    pub rewrite: Rewrite,
    /// The key of its counter.
    pub counter: u32,
    /// None: told by hand.
    pub origin: Option<Locator>,
}

/// What becomes of a packet beside its new addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rewrite {
    /// The new destination port.
    pub to_port: Option<u16>,
    /// The new source address; the same for all backends of a rule.
    pub snat: Option<IpAddr>,
    /// MAC addresses alone change.
    pub keep_ip: bool,
    /// The TTL or hop limit, which alone ends a loop; the same for all backends of a rule.
    pub decrement_ttl: bool,
    pub push_vlan: Option<u16>,
    pub pop_vlan: bool,
}

impl Default for Rewrite {
    fn default() -> Self {
        Rewrite {
            to_port: None,
            snat: None,
            keep_ip: false,
            decrement_ttl: true,
            push_vlan: None,
            pop_vlan: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub matches: Match,
    /// In the order of their addresses, so that the same set always spreads the same way.
    pub backends: Vec<Backend>,
}

impl Rule {
    pub fn backend(&self, server: IpAddr) -> Option<&Backend> {
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

    pub fn remove(&mut self, server: IpAddr) -> Option<Backend> {
        let place = self.backends.iter().position(|b| b.server == server)?;
        Some(self.backends.remove(place))
    }

    /// The backends as the Maglev table knows them: rules with the same ones have the same table.
    pub fn members(&self) -> Vec<maglev::Member> {
        let member = |backend: &Backend| maglev::Member {
            identity: identity(backend.server),
            weight: backend.weight,
        };
        self.backends.iter().map(member).collect()
    }
}

fn identity(server: IpAddr) -> u64 {
    match server {
        IpAddr::V4(addr) => u32::from(addr).into(),
        IpAddr::V6(addr) => {
            let bits = u128::from(addr);
            maglev::mix((bits >> 64) as u64) ^ bits as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(server: [u8; 4], weight: u16) -> Backend {
        Backend {
            server: IpAddr::from(server),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            source_mac: Mac([2, 0, 0, 0, 0, 2]),
            ifindex: 1,
            weight,
            completes_checksum: true,
            rewrite: Rewrite::default(),
            counter: 7,
            origin: None,
        }
    }

    #[test]
    fn backends_stay_sorted_and_the_same_server_is_replaced() {
        let matches = Match {
            proto: Proto::Udp,
            port: 1,
            vlan: 0,
            src: IpNet::default(),
        };
        let mut rule = Rule {
            matches,
            backends: Vec::new(),
        };
        for last in [3, 1, 2, 1] {
            rule.put(backend([10, 0, 0, last], u16::from(last) * 10));
        }
        let servers: Vec<u8> = rule.backends.iter().map(|b| b.weight as u8 / 10).collect();
        assert_eq!(servers, [1, 2, 3]);
        assert!(rule.remove(IpAddr::from([10, 0, 0, 2])).is_some());
        assert!(rule.remove(IpAddr::from([10, 0, 0, 2])).is_none());
        assert_eq!(
            rule.backend(IpAddr::from([10, 0, 0, 3])).unwrap().weight,
            30
        );
    }
}
