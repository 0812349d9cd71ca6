//! The neighbour table: who has which address on a link.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use anyhow::{Context, Result};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::address::{self, Address};
use super::netlink;
use super::route::{self, Route};
use crate::model::Mac;

/// The MAC address that the table has for an address on a device; None where it has no valid one.
pub fn mac(addr: IpAddr, ifindex: u32) -> Result<Option<Mac>> {
    Ok(entry(addr, ifindex)?.as_ref().and_then(mac_of))
}

/// The next hop towards a server.
#[derive(Clone, Copy)]
pub struct Next {
    pub mac: Mac,
    /// The device that it is on.
    pub ifindex: u32,
    /// The server's own, or its gateway's.
    pub addr: IpAddr,
}

impl Next {
    /// Whether a namespace has its address, or the server's; unless it can't be asked, when it may.
    pub fn is_in(&self, nsid: Option<i32>, server: IpAddr) -> bool {
        let is_one = |address: &Address| [server, self.addr].contains(&address.net.addr());
        address::all(nsid).map_or(true, |all| all.iter().any(is_one))
    }
}

/// All of the table that is valid, by device and address.
pub struct Neighbours(HashMap<(u32, IpAddr), Mac>);

impl Neighbours {
    pub fn read() -> Result<Self> {
        let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let entries = netlink::dump(request).context("cannot read the neighbour table")?;
        let valid = |entry| match entry {
            RouteNetlinkMessage::NewNeighbour(entry) => {
                let key = (entry.header.ifindex, addr_of(&entry)?);
                Some((key, mac_of(&entry)?))
            }
            _ => None,
        };
        Ok(Neighbours(entries.into_iter().filter_map(valid).collect()))
    }

    /// What the host knows of a server's next hop. None where that is on another device than the
    /// egress device, or the bridge above it.
    pub fn next_hop(
        &self,
        server: IpAddr,
        egress: u32,
        master: Option<u32>,
    ) -> Result<Option<Next>> {
        let devices = || [Some(egress), master].into_iter().flatten();
        let mac = |ifindex, addr| {
            let mac = self.get(ifindex, addr)?;
            Some(Next { mac, ifindex, addr })
        };
        if route::is_link_local(server) {
            return Ok(devices().find_map(|on| mac(on, server)));
        }
        Ok(match route::lookup(server, None)? {
            Route::Hop(hop) if devices().any(|on| on == hop.ifindex) => mac(hop.ifindex, hop.addr),
            _ => None,
        })
    }

    pub fn get(&self, ifindex: u32, addr: IpAddr) -> Option<Mac> {
        self.0.get(&(ifindex, addr)).copied()
    }
}

/// The addresses for which this host answers in the place of others, by device.
pub fn proxied() -> Result<BTreeSet<(u32, IpAddr)>> {
    let mut all = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = NeighbourMessage::default();
        request.header.family = family;
        request.header.flags = NeighbourFlags::Proxy;
        let entries = netlink::dump(RouteNetlinkMessage::GetNeighbour(request))
            .context("cannot read the proxies of the neighbour table")?;
        for entry in entries {
            if let RouteNetlinkMessage::NewNeighbour(entry) = entry
                && entry.header.flags.contains(NeighbourFlags::Proxy)
            {
                all.extend(addr_of(&entry).map(|addr| (entry.header.ifindex, addr)));
            }
        }
    }
    Ok(all)
}

/// Forgets what was learned of an address, so that the next packet asks for it. What somebody has
/// set stays.
pub fn forget(addr: IpAddr, ifindex: u32) -> Result<()> {
    use NeighbourState::{Delay, Probe, Reachable, Stale};
    let learned = |entry: &NeighbourMessage| {
        matches!(entry.header.state, Reachable | Stale | Delay | Probe)
            && !entry.header.flags.contains(NeighbourFlags::ExtLearned)
    };
    let Some(entry) = entry(addr, ifindex)?.filter(learned) else {
        return Ok(());
    };
    let mut request = NeighbourMessage::default();
    request.header.family = entry.header.family;
    request.header.ifindex = ifindex;
    let destination = |a: &NeighbourAttribute| matches!(a, NeighbourAttribute::Destination(_));
    request.attributes = entry.attributes.into_iter().filter(destination).collect();
    netlink::change(RouteNetlinkMessage::DelNeighbour(request))
}

fn entry(addr: IpAddr, ifindex: u32) -> Result<Option<NeighbourMessage>> {
    let mut request = NeighbourMessage::default();
    request.header.family = route::family(addr);
    request.header.ifindex = ifindex;
    let destination = match addr {
        IpAddr::V4(addr) => NeighbourAddress::Inet(addr),
        IpAddr::V6(addr) => NeighbourAddress::Inet6(addr),
    };
    request.attributes = vec![NeighbourAttribute::Destination(destination)];
    // Linux 5.0: one entry can be asked for.
    match netlink::get(RouteNetlinkMessage::GetNeighbour(request)) {
        Ok(Some(RouteNetlinkMessage::NewNeighbour(entry))) => Ok(Some(entry)),
        Ok(_) => Ok(None),
        Err(error) if netlink::errno(&error) == Some(nix::libc::ENOENT) => Ok(None),
        Err(error) => Err(error).context("cannot read the neighbour table"),
    }
}

fn addr_of(entry: &NeighbourMessage) -> Option<IpAddr> {
    entry
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(addr)) => Some((*addr).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(addr)) => Some((*addr).into()),
            _ => None,
        })
}

fn mac_of(entry: &NeighbourMessage) -> Option<Mac> {
    use NeighbourState::{Failed, Incomplete, None as Unknown};
    if matches!(entry.header.state, Failed | Incomplete | Unknown) {
        return None;
    }
    entry
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac)
            }
            _ => None,
        })
}
