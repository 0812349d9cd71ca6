//! Network devices.

use std::collections::HashMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoTun, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    LinkXdp, XdpAttached,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::ethtool::Ethtool;
use super::netlink;
use crate::error::{Exit, failure};
use crate::model::Mac;

/// Linux uapi: linux/if_link.h.
const IFLA_TUN_VNET_HDR: u16 = 5;
/// The same. The crate knows it as an answer only.
const IFLA_ALT_IFNAME: u16 = 53;

#[derive(Clone, Debug, Default)]
pub struct Device {
    pub ifindex: u32,
    pub name: String,
    /// None where the device has no Ethernet address.
    pub mac: Option<Mac>,
    pub kind: Option<InfoKind>,
    /// The bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// Administratively up, and so is its link.
    pub up: bool,
    /// Administratively up.
    pub enabled: bool,
    /// Up, and the kernel has acted on that: it sends and receives.
    pub running: bool,
    /// What somebody has noted about it.
    pub alias: Option<String>,
    /// It takes frames for other MAC addresses than its own, as a port of a bridge or under a macvlan.
    pub promiscuous: bool,
    /// Bytes of an IP packet.
    pub mtu: u32,
    /// The peer of a veth; the device that a VLAN or a tunnel sends by.
    pub link: Option<u32>,
    /// The namespace that `link` counts in, as this namespace calls it; None: this one.
    pub link_nsid: Option<i32>,
    /// The VLAN identifier of a VLAN device.
    pub vlan: Option<u16>,
    /// A tap whose frames have a header of virtio in front of them, which marks large ones.
    pub vnet_header: bool,
    /// It runs an XDP program in its driver.
    pub native_program: bool,
    /// Frames that it was given and dropped, since it was made.
    pub tx_dropped: u64,
    /// How many queues it may receive by; it may use fewer.
    pub rx_queues: u32,
}

impl Device {
    pub fn is_bridge(&self) -> bool {
        self.kind == Some(InfoKind::Bridge)
    }

    pub fn is_veth(&self) -> bool {
        self.kind == Some(InfoKind::Veth)
    }

    /// A tun device too, but that carries no Ethernet frames.
    pub fn is_tap(&self) -> bool {
        self.kind == Some(InfoKind::Tun)
    }

    /// Whether it is one end of a pair, whose other end is its `link`.
    pub fn is_pair(&self) -> bool {
        matches!(self.kind, Some(InfoKind::Veth | InfoKind::Netkit))
    }

    /// Exit 6 where frames have no Ethernet header to read.
    pub fn require_ethernet_header(&self) -> Result<()> {
        let message = format!("{} is not an Ethernet device", self.name);
        let missing = || failure(Exit::Unsupported, message);
        self.mac.map(drop).ok_or_else(missing)
    }

    /// The source address of what it sends; exit 6 where it sends no Ethernet frames to others, as
    /// tun, tunnels and lo don't.
    pub fn require_source_mac(&self) -> Result<Mac> {
        let message = format!("{} leads to no other host over Ethernet", self.name);
        let unicast = self.mac.filter(|mac| mac.is_unicast());
        unicast.ok_or_else(|| failure(Exit::Unsupported, message))
    }

    /// Whether it completes partial L4 checksums on transmission, or hands them on to a reader or a
    /// device that does. A device that doesn't know ethtool completes nothing.
    pub fn completes_checksum(&self) -> Result<bool> {
        // A bridge, VLAN, bond or tunnel sends on through the stack, which completes for the device
        // below where that can't. Only where the path ends does the device's own feature decide.
        let ends = matches!(self.kind, None | Some(InfoKind::Veth | InfoKind::Tun));
        if !ends {
            return Ok(true);
        }
        Ok(Ethtool::open()?.tx_checksum(&self.name).unwrap_or(false))
    }
}

/// The device with this name, its own or an alternative one; exit 3 where there is none.
pub fn by_name(name: &str) -> Result<Device> {
    let mut request = LinkMessage::default();
    request.attributes.push(any_name(name));
    find(request)
        .with_context(|| format!("cannot look up device {name}"))?
        .ok_or_else(|| {
            failure(
                Exit::NotFound,
                format!("no device \"{name}\" in this network namespace"),
            )
        })
}

/// What asks for a device by either kind of name (Linux 5.5). An alternative name has up to 127
/// bytes, which do not fit IFLA_IFNAME.
fn any_name(name: &str) -> LinkAttribute {
    let bytes = name.bytes().chain([0]).collect();
    LinkAttribute::Other(DefaultNla::new(IFLA_ALT_IFNAME, bytes))
}

/// The device with this index; None where there is none.
pub fn by_index(ifindex: u32) -> Result<Option<Device>> {
    let mut request = LinkMessage::default();
    request.header.index = ifindex;
    find(request).with_context(|| format!("cannot look up ifindex {ifindex}"))
}

/// All devices of this namespace.
pub fn all() -> Result<Vec<Device>> {
    let links = netlink::dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))
        .context("cannot list the devices")?;
    let device = |link| match link {
        RouteNetlinkMessage::NewLink(link) => Some(read(&link)),
        _ => None,
    };
    Ok(links.into_iter().filter_map(device).collect())
}

/// The other end of a pair, in whatever network namespace it is (Linux 4.15); None where it has
/// gone meanwhile, or the device is no pair's.
pub fn peer(device: &Device) -> Result<Option<Device>> {
    let Some(link) = device.link.filter(|_| device.is_pair()) else {
        return Ok(None);
    };
    let mut request = LinkMessage::default();
    request.header.index = link;
    let there = device.link_nsid.map(LinkAttribute::IfNetnsId);
    request.attributes.extend(there);
    find(request).with_context(|| format!("cannot look up the peer of {}", device.name))
}

/// Until it has a link, is taken down or gone, or the time is over.
pub fn wait_for_link(ifindex: u32, deadline: Instant) -> Result<()> {
    while Instant::now() < deadline {
        match by_index(ifindex)? {
            Some(device) if device.enabled && !device.up => sleep(Duration::from_millis(50)),
            _ => break,
        }
    }
    Ok(())
}

/// Sets a device administratively up or down.
pub fn set_enabled(ifindex: u32, enabled: bool) -> Result<()> {
    let mut request = LinkMessage::default();
    request.header.index = ifindex;
    request.header.change_mask = LinkFlags::Up;
    if enabled {
        request.header.flags = LinkFlags::Up;
    }
    netlink::change(RouteNetlinkMessage::SetLink(request))
        .with_context(|| format!("cannot change the link of ifindex {ifindex}"))
}

/// The name behind an index; None where the device is gone.
pub fn name_of(ifindex: u32) -> Option<String> {
    let name = nix::net::if_::if_indextoname(ifindex).ok()?;
    // nix 0.31 takes the C function's NULL for success, and the name is empty then.
    name.into_string().ok().filter(|name| !name.is_empty())
}

fn find(request: LinkMessage) -> Result<Option<Device>> {
    match netlink::get(RouteNetlinkMessage::GetLink(request)) {
        Ok(Some(RouteNetlinkMessage::NewLink(link))) => Ok(Some(read(&link))),
        Ok(_) => Ok(None),
        Err(error) => match netlink::errno(&error) {
            Some(nix::libc::ENODEV | nix::libc::ERANGE | nix::libc::EINVAL) => Ok(None),
            _ => Err(error),
        },
    }
}

fn read(link: &LinkMessage) -> Device {
    let flags = link.header.flags;
    let mut device = Device {
        ifindex: link.header.index,
        up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        enabled: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Running),
        ..Device::default()
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Address(bytes) => {
                device.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac);
            }
            LinkAttribute::IfAlias(alias) => device.alias = Some(alias.clone()),
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            LinkAttribute::Controller(ifindex) => device.master = Some(*ifindex),
            LinkAttribute::Link(ifindex) => device.link = Some(*ifindex).filter(|&i| i != 0),
            LinkAttribute::Promiscuity(users) => device.promiscuous = *users > 0,
            LinkAttribute::LinkNetNsId(nsid) => device.link_nsid = Some(*nsid),
            LinkAttribute::LinkInfo(infos) => {
                device.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.clone()),
                    _ => None,
                });
                device.vlan = infos.iter().find_map(vlan);
                device.vnet_header = infos.iter().any(has_vnet_header);
            }
            LinkAttribute::NumRxQueues(count) => device.rx_queues = *count,
            LinkAttribute::Stats64(stats) => device.tx_dropped = stats.tx_dropped,
            LinkAttribute::Xdp(xdp) => device.native_program = xdp.iter().any(is_native),
            _ => {}
        }
    }
    device
}

fn vlan(info: &LinkInfo) -> Option<u16> {
    let LinkInfo::Data(InfoData::Vlan(all)) = info else {
        return None;
    };
    all.iter().find_map(|info| match info {
        InfoVlan::Id(vlan) => Some(*vlan),
        _ => None,
    })
}

fn has_vnet_header(info: &LinkInfo) -> bool {
    let LinkInfo::Data(InfoData::Tun(all)) = info else {
        return false;
    };
    all.iter().any(|info| match info {
        InfoTun::Other(nla) => {
            let mut value = [0; 1];
            nla.kind() == IFLA_TUN_VNET_HDR && nla.value_len() == 1 && {
                nla.emit_value(&mut value);
                value != [0]
            }
        }
        _ => false,
    })
}

/// Programs in several modes at once have an attribute each.
fn is_native(xdp: &LinkXdp) -> bool {
    matches!(
        xdp,
        LinkXdp::Attached(XdpAttached::Driver) | LinkXdp::DrvProgId(_)
    )
}

/// The port of a bridge behind which a MAC address was last seen.
pub fn bridge_port(bridge: u32, mac: Mac) -> Result<Option<u32>> {
    Ok(bridge_ports()?.get(&(bridge, mac)).copied())
}

/// The ports behind which the bridges have seen MAC addresses, by bridge and address.
pub fn bridge_ports() -> Result<HashMap<(u32, Mac), u32>> {
    let mut request = NeighbourMessage::default();
    request.header.family = AddressFamily::Bridge;
    let entries = netlink::dump(RouteNetlinkMessage::GetNeighbour(request))
        .context("cannot read the bridges' forwarding tables")?;
    let mut ports = HashMap::new();
    for entry in entries {
        if let RouteNetlinkMessage::NewNeighbour(entry) = entry
            && let Some((bridge, mac)) = behind(&entry)
            && entry.header.ifindex != bridge
        {
            // With VLANs, an address may have several entries.
            ports.entry((bridge, mac)).or_insert(entry.header.ifindex);
        }
    }
    Ok(ports)
}

fn behind(entry: &NeighbourMessage) -> Option<(u32, Mac)> {
    let (mut bridge, mut mac) = (None, None);
    for attribute in &entry.attributes {
        match attribute {
            NeighbourAttribute::Controller(ifindex) => bridge = Some(*ifindex),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac);
            }
            _ => {}
        }
    }
    Some((bridge?, mac?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vlan_tells_its_identifier_and_the_device_below() {
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::Link(7),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vlan),
                LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(5)])),
            ]),
        ];
        let device = read(&link);
        assert_eq!((device.vlan, device.link), (Some(5), Some(7)));
        assert!(!device.is_pair());
    }

    #[test]
    fn a_program_in_generic_mode_is_no_native_one() {
        let native = |xdp| {
            let mut link = LinkMessage::default();
            link.attributes.push(LinkAttribute::Xdp(xdp));
            read(&link).native_program
        };
        assert!(native(vec![LinkXdp::Attached(XdpAttached::Driver)]));
        assert!(native(vec![
            LinkXdp::Attached(XdpAttached::Multiple),
            LinkXdp::SkbProgId(1),
            LinkXdp::DrvProgId(2),
        ]));
        assert!(!native(vec![
            LinkXdp::Attached(XdpAttached::SocketBuffer),
            LinkXdp::SkbProgId(1),
        ]));
    }
}
