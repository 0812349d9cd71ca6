//! Where the host itself would send a packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink;
/// Linux uapi: linux/rtnetlink.h.
const RT_TABLE_LOCAL: u8 = 255;

pub struct NextHop {
    /// The device that the route leaves by.
    pub ifindex: u32,
    /// The gateway, or the destination itself where it is on the link.
    pub addr: IpAddr,
    /// The address that this namespace's own packets have as their source.
    pub source: Option<IpAddr>,
}

/// Where this namespace would send a packet.
pub enum Route {
    /// To itself.
    Local,
    Hop(NextHop),
    None,
}

/// The route to an address; with an ifindex, the one by that device.
pub fn lookup(to: IpAddr, ifindex: Option<u32>) -> Result<Route> {
    ask(request(to, ifindex), to)
}

/// The address that this namespace's own packets to another host have; None where it has none, or no route.
pub fn source_to(host: IpAddr) -> Result<Option<IpAddr>> {
    Ok(match lookup(host, None)? {
        Route::Hop(hop) => hop.source,
        Route::Local | Route::None => None,
    })
}

/// The route for what one of this namespace's addresses sends: policy rules may look at the source.
pub fn lookup_from(from: IpAddr, to: IpAddr) -> Result<Route> {
    let mut request = request(to, None);
    request.header.source_prefix_length = request.header.destination_prefix_length;
    request.attributes.push(RouteAttribute::Source(from.into()));
    ask(request, to)
}

/// All prefixes that are local to this namespace: its addresses, and what a route declares local.
pub fn local() -> Result<Vec<IpNet>> {
    let mut request = RouteMessage::default();
    request.header.table = RT_TABLE_LOCAL;
    let routes = netlink::dump(RouteNetlinkMessage::GetRoute(request));
    let routes = routes.context("cannot read the table of local routes")?;
    let net = |route| match route {
        RouteNetlinkMessage::NewRoute(route) if route.header.kind == RouteType::Local => {
            net_of(&route)
        }
        _ => None,
    };
    Ok(routes.into_iter().filter_map(net).collect())
}

fn net_of(route: &RouteMessage) -> Option<IpNet> {
    let any = match route.header.address_family {
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let mut attributes = route.attributes.iter();
    let to = attributes.find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(addr)) => Some((*addr).into()),
        RouteAttribute::Destination(RouteAddress::Inet6(addr)) => Some((*addr).into()),
        _ => None,
    });
    let length = route.header.destination_prefix_length;
    IpNet::new(to.unwrap_or(any), length).ok()
}

fn ask(request: RouteMessage, to: IpAddr) -> Result<Route> {
    let request = RouteNetlinkMessage::GetRoute(request);
    let route = match netlink::get(request) {
        Ok(Some(RouteNetlinkMessage::NewRoute(route))) => route,
        Ok(_) => return Ok(Route::None),
        // The kernel says "no route" as an error: ENETUNREACH and its like.
        Err(error) if error.is::<std::io::Error>() => return Ok(Route::None),
        Err(error) => return Err(error).context(format!("cannot ask for the route to {to}")),
    };
    Ok(match route.header.kind {
        RouteType::Local => Route::Local,
        RouteType::Unicast => read(&route, to).map_or(Route::None, Route::Hop),
        _ => Route::None,
    })
}

/// IPv6 only: an IPv4 link-local address needs no device.
pub fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local())
}

fn request(to: IpAddr, ifindex: Option<u32>) -> RouteMessage {
    let mut request = RouteMessage::default();
    request.header.address_family = family(to);
    request.header.destination_prefix_length = if to.is_ipv4() { 32 } else { 128 };
    let destination = RouteAttribute::Destination(to.into());
    request.attributes.push(destination);
    request.attributes.extend(ifindex.map(RouteAttribute::Oif));
    request
}

pub fn family(addr: IpAddr) -> AddressFamily {
    match addr {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// None where the route leaves by no device.
fn read(route: &RouteMessage, to: IpAddr) -> Option<NextHop> {
    let mut hop = NextHop {
        ifindex: 0,
        addr: to,
        source: None,
    };
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => hop.ifindex = *ifindex,
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => hop.addr = (*gateway).into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => hop.addr = (*gateway).into(),
            RouteAttribute::PrefSource(RouteAddress::Inet(addr)) => {
                hop.source = Some((*addr).into())
            }
            RouteAttribute::PrefSource(RouteAddress::Inet6(addr)) => {
                hop.source = Some((*addr).into());
            }
            // An IPv4 route whose gateway is known by an IPv6 address.
            RouteAttribute::Via(RouteVia::Inet6(gateway)) => hop.addr = (*gateway).into(),
            _ => {}
        }
    }
    (hop.ifindex != 0).then_some(hop)
}
