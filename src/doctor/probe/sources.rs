//! Where the packets to the backends come from, as far as this host can tell.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use ipnet::IpNet;

use crate::doctor::facts::{Certainty, Source};
use crate::host::address;
use crate::host::route::{self, Route};
use crate::model::{Backend, Rule};

/// For any source. RFC 5737 and RFC 3849: nobody has a route of his own to these.
pub const ANY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub const ANY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// The networks that the interfaces lead to.
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Behind some devices: those that they have addresses in, and all others by the default route.
    pub fn behind(devices: &BTreeSet<u32>) -> Result<Self> {
        let mut networks = Vec::new();
        for &ifindex in devices {
            let addresses = address::of(ifindex, None)?.into_iter();
            let of = addresses.filter(|address| address.global);
            networks.extend(of.map(|address| address.net.trunc()));
        }
        networks.retain(|net| net.prefix_len() < net.max_prefix_len());
        for any in [ANY_V4, ANY_V6] {
            if let Route::Hop(hop) = route::lookup(any, None)?
                && devices.contains(&hop.ifindex)
            {
                networks.extend(IpNet::new(any, 0).map(|net| net.trunc()));
            }
        }
        Ok(Networks(networks))
    }

    /// Of a backend's packets.
    pub fn sources(&self, rule: &Rule, backend: &Backend) -> Vec<Source> {
        let snat = rule.snat_of(backend);
        self.within(snat.map_or(*rule.matches.src, IpNet::from))
    }

    /// Those of the networks that a rule's source has in it; if none, that itself.
    fn within(&self, src: IpNet) -> Vec<Source> {
        let known = |otherwise| match src.prefix_len() {
            0 => otherwise,
            _ => Certainty::Named,
        };
        let source = |known| move |net| Source { net, known };
        let near = self.0.iter().copied().filter(|net| src.contains(net));
        let near: Vec<Source> = near.map(source(known(Certainty::Near))).collect();
        if near.is_empty() {
            return vec![source(known(Certainty::Guessed))(src)];
        }
        near
    }
}

/// One address for all.
pub fn sample(net: IpNet) -> IpAddr {
    match net {
        IpNet::V4(net) if net.prefix_len() == 0 => ANY_V4,
        IpNet::V6(net) if net.prefix_len() == 0 => ANY_V6,
        // The first may be the network's own, or a router's.
        net => net.hosts().take(2).last().unwrap_or(net.addr()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sources of rules where the interfaces lead to some networks.
    fn sources(networks: &[&str], src: &str) -> Vec<(String, Certainty)> {
        let net = |text: &&str| text.parse().expect("a prefix");
        let networks = Networks(networks.iter().map(net).collect());
        let sources = networks.within(net(&src)).into_iter();
        sources
            .map(|source| (source.to_string(), source.known))
            .collect()
    }

    #[test]
    fn a_rule_s_source_is_narrowed_to_what_the_interfaces_lead_to() {
        let behind = ["10.1.2.0/24", "0.0.0.0/0", "fd00::/64"];
        let one = |source: &str, known| vec![(source.to_string(), known)];
        assert_eq!(
            sources(&behind, "10.0.0.0/8"),
            one("10.1.2.0/24", Certainty::Named)
        );
        assert_eq!(
            sources(&behind, "10.1.2.3/32"),
            one("10.1.2.3", Certainty::Named)
        );
        assert_eq!(
            sources(&behind, "10.9.0.0/16"),
            one("10.9.0.0/16", Certainty::Named)
        );
        assert_eq!(sources(&behind, "::/0"), one("fd00::/64", Certainty::Near));
        assert_eq!(sources(&behind, "0.0.0.0/0").len(), 2);
        assert_eq!(
            sources(&[], "0.0.0.0/0"),
            one("any other network", Certainty::Guessed)
        );
    }

    #[test]
    fn one_address_stands_for_a_network() {
        let of = |net: &str| sample(net.parse().expect("a prefix")).to_string();
        assert_eq!(of("10.1.2.0/24"), "10.1.2.2");
        assert_eq!(of("10.1.2.3/32"), "10.1.2.3");
        assert_eq!(of("0.0.0.0/0"), "192.0.2.1");
        assert_eq!(of("fd00::/64"), "fd00::1");
    }
}
