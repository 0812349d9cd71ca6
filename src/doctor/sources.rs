//! Where the packets to the backends come from, as far as this host can tell.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use ipnet::IpNet;

use crate::checks::{Known, Source};
use crate::host::address;
use crate::host::route::{self, Route};
use crate::model::{Backend, Rule};

/// For any source. RFC 5737 and RFC 3849: nobody has a route of his own to these.
const ANY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const ANY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

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
        let net = backend.rewrite.snat.map_or(rule.matches.src, IpNet::from);
        let named = net.prefix_len() > 0;
        let within = self.0.iter().filter(|known| net.contains(*known));
        let known = if named { Known::Named } else { Known::Near };
        let near: Vec<Source> = within.map(|&net| Source { net, known }).collect();
        if !near.is_empty() {
            return near;
        }
        let known = if named { Known::Named } else { Known::Guessed };
        vec![Source { net, known }]
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
