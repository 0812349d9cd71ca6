//! The neighbour table: who has which address on a link.

use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::netlink;
use crate::model::Mac;

/// The MAC address that the table has for an address on a device; None where it has no valid one.
pub fn mac(addr: IpAddr, ifindex: u32) -> Result<Option<Mac>> {
    let found =
        entries()?.find(|entry| entry.header.ifindex == ifindex && addr_of(entry) == Some(addr));
    Ok(found.as_ref().and_then(mac_of))
}

/// All of the table that is valid, by device and address.
pub fn all() -> Result<HashMap<(u32, IpAddr), Mac>> {
    let valid = |entry: NeighbourMessage| {
        let key = (entry.header.ifindex, addr_of(&entry)?);
        Some((key, mac_of(&entry)?))
    };
    Ok(entries()?.filter_map(valid).collect())
}

/// Forgets what was learned of an address, so that the next packet asks for it. What somebody has
/// set stays.
pub fn forget(addr: IpAddr, ifindex: u32) -> Result<()> {
    use NeighbourState::{Delay, Probe, Reachable, Stale};
    let learned = |entry: &NeighbourMessage| {
        matches!(entry.header.state, Reachable | Stale | Delay | Probe)
            && !entry.header.flags.contains(NeighbourFlags::ExtLearned)
    };
    let found =
        entries()?.find(|entry| entry.header.ifindex == ifindex && addr_of(entry) == Some(addr));
    let Some(entry) = found.filter(learned) else {
        return Ok(());
    };
    let mut request = NeighbourMessage::default();
    request.header.family = entry.header.family;
    request.header.ifindex = ifindex;
    let destination = |a: &NeighbourAttribute| matches!(a, NeighbourAttribute::Destination(_));
    request.attributes = entry.attributes.into_iter().filter(destination).collect();
    netlink::change(RouteNetlinkMessage::DelNeighbour(request))
}

fn entries() -> Result<impl Iterator<Item = NeighbourMessage>> {
    let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    let entries = netlink::dump(request).context("cannot read the neighbour table")?;
    Ok(entries.into_iter().filter_map(|entry| match entry {
        RouteNetlinkMessage::NewNeighbour(entry) => Some(entry),
        _ => None,
    }))
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
