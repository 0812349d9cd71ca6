//! The addresses of devices.

use anyhow::Result;
use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};

use super::netlink;

/// Linux, net/flow.h: LOOPBACK_IFINDEX, in every namespace.
const LOOPBACK: u32 = 1;

pub struct Address {
    pub ifindex: u32,
    /// With the prefix of the network that it is in.
    pub net: IpNet,
    /// Of global scope, and in use for good.
    pub global: bool,
}

impl Address {
    /// It is there as a service's, not because its device is in a network: on loopback, or with the
    /// full prefix length.
    pub fn stands_alone(&self) -> bool {
        self.ifindex == LOOPBACK || self.net.prefix_len() == self.net.max_prefix_len()
    }
}

/// Those of a device; with an nsid, in the namespace that this one calls so.
pub fn of(ifindex: u32, nsid: Option<i32>) -> Result<Vec<Address>> {
    let answers = dump(ifindex, nsid)?.into_iter();
    let its = answers.filter(|message| message.header.index == ifindex);
    Ok(its.filter_map(|message| read(&message)).collect())
}

/// Those of all devices, loopback too.
pub fn all(nsid: Option<i32>) -> Result<Vec<Address>> {
    let messages = dump(0, nsid)?;
    Ok(messages.iter().filter_map(read).collect())
}

fn dump(ifindex: u32, nsid: Option<i32>) -> Result<Vec<AddressMessage>> {
    let mut request = AddressMessage::default();
    request.header.index = ifindex;
    let there = nsid.map(AddressAttribute::TargetNetNsId);
    request.attributes.extend(there);
    let answers = netlink::dump(RouteNetlinkMessage::GetAddress(request))?;
    let message = |answer| match answer {
        RouteNetlinkMessage::NewAddress(message) => Some(message),
        _ => None,
    };
    Ok(answers.into_iter().filter_map(message).collect())
}

fn read(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut other) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(addr) => local = Some(*addr),
            AddressAttribute::Address(addr) => other = Some(*addr),
            _ => {}
        }
    }
    // On a point-to-point link, Address is the other end's.
    let addr = local.or(other)?;
    let mut passing = AddressHeaderFlags::Deprecated
        | AddressHeaderFlags::Tentative
        | AddressHeaderFlags::Dadfailed;
    if addr.is_ipv6() {
        // Linux uapi: the same bit is IFA_F_TEMPORARY.
        passing |= AddressHeaderFlags::Secondary;
    }
    let global =
        message.header.scope == AddressScope::Universe && !message.header.flags.intersects(passing);
    let net = IpNet::new(addr, message.header.prefix_len).ok()?;
    Some(Address {
        ifindex: message.header.index,
        net,
        global,
    })
}
