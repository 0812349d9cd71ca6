//! Where the host itself would send a packet: route and neighbour.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink;
use crate::error::{Exit, failure};
use crate::model::Mac;

pub struct NextHop {
    /// The device that the route leaves by.
    pub ifindex: u32,
    /// The gateway, or the destination itself where it is on the link.
    pub addr: Ipv4Addr,
}

/// The host's unicast route to another host's address.
pub fn next_hop(to: Ipv4Addr) -> Result<NextHop> {
    let no_route = || {
        let message = format!("--server {to}: the host has no route to it: give --mac and --dev");
        failure(Exit::NotFound, message)
    };
    let mut request = RouteMessage::default();
    request.header.address_family = AddressFamily::Inet;
    request.header.destination_prefix_length = 32;
    request
        .attributes
        .push(RouteAttribute::Destination(IpAddr::V4(to).into()));

    let route = match netlink::get(RouteNetlinkMessage::GetRoute(request)) {
        Ok(Some(RouteNetlinkMessage::NewRoute(route))) => route,
        Ok(_) => return Err(no_route()),
        // The kernel says "no route" as an error: ENETUNREACH and its like.
        Err(error) if error.is::<std::io::Error>() => return Err(no_route()),
        Err(error) => return Err(error).context(format!("cannot ask for the route to {to}")),
    };
    if route.header.kind == RouteType::Local {
        let message = format!("--server {to}: an address of this host: name another host's");
        return Err(failure(Exit::Usage, message));
    }
    let mut hop = NextHop {
        ifindex: 0,
        addr: to,
    };
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => hop.ifindex = *ifindex,
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => hop.addr = *gateway,
            _ => {}
        }
    }
    if route.header.kind != RouteType::Unicast || hop.ifindex == 0 {
        return Err(no_route());
    }
    Ok(hop)
}

/// The neighbour table's MAC address for an address on a device; None where it has no valid one.
pub fn neighbour(addr: Ipv4Addr, ifindex: u32) -> Result<Option<Mac>> {
    let mut request = NeighbourMessage::default();
    request.header.family = AddressFamily::Inet;
    let entries = netlink::dump(RouteNetlinkMessage::GetNeighbour(request))
        .context("cannot read the neighbour table")?;
    Ok(entries.into_iter().find_map(|entry| match entry {
        RouteNetlinkMessage::NewNeighbour(entry)
            if entry.header.ifindex == ifindex
                && !matches!(
                    entry.header.state,
                    NeighbourState::Failed | NeighbourState::Incomplete | NeighbourState::None
                )
                && entry.attributes.contains(&NeighbourAttribute::Destination(
                    NeighbourAddress::Inet(addr),
                )) =>
        {
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
        _ => None,
    }))
}
