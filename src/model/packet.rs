//! What is in a frame, as rules compare it.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::{Mac, Match, Prefix, Proto};

/// Types of Ethernet frames (IEEE 802).
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;

/// Protocol numbers (IANA).
const HOP_BY_HOP: u8 = 0;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const DESTINATION: u8 = 60;
const SCTP: u8 = 132;

/// Where a TCP header has its own length in words of four bytes, in the upper half of the byte.
const TCP_OFFSET: usize = 12;
/// Where a TCP header has its flags, and their names, the lowest bit first (RFC 9293, section 3.1).
const TCP_FLAGS: usize = 13;
const TCP_FLAG_NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

/// The headers of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Packet {
    /// The frame's length in bytes.
    pub len: usize,
    pub src_mac: Mac,
    pub dst_mac: Mac,
    /// What is behind the tags (IEEE 802).
    pub ether_type: u16,
    /// The identifiers of its VLAN tags, the outer one first.
    pub vlans: Vec<u16>,
    /// None: the frame has no IP packet that can be read.
    pub ip: Option<Ip>,
}

/// An IP packet, whose addresses have one IP version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ip {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// The number of the protocol of what follows the IP headers.
    #[serde(serialize_with = "named")]
    pub proto: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// It is one of several fragments, and not the first.
    pub later_fragment: bool,
    /// It is one of several fragments.
    pub fragment: bool,
    /// None: its protocol has no ports, or they are cut off.
    pub ports: Option<FlowPorts>,
    /// Of TCP: the flags that are set.
    pub tcp_flags: Vec<&'static str>,
    /// Of ICMP and ICMPv6: the type of the message.
    pub icmp_type: Option<u8>,
    /// Bytes behind the headers of UDP, TCP and SCTP, or behind those of IP.
    pub payload: usize,
}

/// The ports of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FlowPorts {
    pub src: u16,
    pub dst: u16,
}

impl Packet {
    /// Reads a frame; None where it has no Ethernet header.
    pub fn read(frame: &[u8]) -> Option<Self> {
        Packet::read_part(frame, frame.len())
    }

    /// Reads the first bytes of a frame that has so many.
    pub fn read_part(frame: &[u8], len: usize) -> Option<Self> {
        let (dst_mac, rest) = frame.split_first_chunk()?;
        let (src_mac, rest) = rest.split_first_chunk()?;
        let (mut ether_type, mut rest) = rest.split_first_chunk::<2>()?;
        let mut vlans = Vec::new();
        while [ETH_P_8021Q, ETH_P_8021AD].contains(&u16::from_be_bytes(*ether_type)) {
            let Some((tag, behind)) = rest.split_first_chunk::<4>() else {
                break;
            };
            vlans.push(u16::from_be_bytes([tag[0], tag[1]]) & 0x0fff);
            (ether_type, rest) = (tag.last_chunk()?, behind);
        }
        let ether_type = u16::from_be_bytes(*ether_type);
        let missing = len.saturating_sub(frame.len());
        Some(Packet {
            len,
            src_mac: Mac(*src_mac),
            dst_mac: Mac(*dst_mac),
            ether_type,
            vlans,
            ip: Ip::read(ether_type, rest, missing),
        })
    }

    /// Bytes of the frame without the headers of Ethernet and VLANs.
    pub fn ip_len(&self) -> usize {
        self.len.saturating_sub(14 + 4 * self.vlans.len())
    }

    /// Whether a rule takes it that arrives at an interface, if no other rule is more specific. The first of
    /// several fragments speaks for the others.
    pub fn matches(&self, rule: &Match, ifindex: u32) -> bool {
        let Some(ip) = &self.ip else { return false };
        let is_group = self.dst_mac.0[0] & 1 == 1;
        // Tags with identifier 0 have a priority alone.
        let id = |place: usize| self.vlans.get(place).copied().filter(|&id| id != 0);
        let (outer, inner) = (id(0), id(1));
        takes(rule.dst, ip.dst, is_group || is_special(ip.dst))
            && takes(
                rule.src,
                ip.src,
                is_special(ip.src) || ip.src.is_unspecified(),
            )
            && ip.has_proto(rule.proto)
            && ip.has_port(rule)
            && rule.vlan.map(|vlan| vlan.get()) == outer
            && rule.inner_vlan.is_none_or(|vlan| Some(vlan.get()) == inner)
            && rule.ingress.is_none_or(|ingress| ingress == ifindex)
    }
}

impl Ip {
    /// Reads an IP packet of a frame; None where it is neither IPv4 nor IPv6, or is cut off or contradicts itself. So
    /// many bytes of the frame are missing that it had.
    fn read(ether_type: u16, bytes: &[u8], missing: usize) -> Option<Self> {
        match ether_type {
            ETH_P_IP => Ip::read_ipv4(bytes, missing),
            ETH_P_IPV6 => Ip::read_ipv6(bytes, missing),
            _ => None,
        }
    }

    fn read_ipv4(bytes: &[u8], missing: usize) -> Option<Self> {
        let header: &[u8; 20] = bytes.first_chunk()?;
        let length = usize::from(header[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let fragment = u16::from_be_bytes([header[6], header[7]]);
        let is_whole = total <= bytes.len() + missing;
        if header[0] >> 4 != 4 || length < header.len() || total < length || !is_whole {
            return None;
        }
        let [.., a, b, c, d, e, f, g, h] = *header;
        let ip = Ip {
            src: IpAddr::from([a, b, c, d]),
            dst: IpAddr::from([e, f, g, h]),
            proto: header[9],
            ttl: header[8],
            later_fragment: fragment & 0x1fff != 0,
            fragment: fragment & 0x3fff != 0,
            ports: None,
            tcp_flags: Vec::new(),
            icmp_type: None,
            payload: total - length,
        };
        Some(ip.with_segment(bytes.get(length..total.min(bytes.len()))?))
    }

    fn read_ipv6(bytes: &[u8], missing: usize) -> Option<Self> {
        let (header, rest): (&[u8; 40], _) = bytes.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let (src, dst) = header[8..].split_first_chunk::<16>()?;
        if header[0] >> 4 != 6 || length > rest.len() + missing {
            return None;
        }
        let mut ip = Ip {
            src: IpAddr::from(*src),
            dst: IpAddr::from(*dst.first_chunk::<16>()?),
            proto: header[6],
            ttl: header[7],
            later_fragment: false,
            fragment: false,
            ports: None,
            tcp_flags: Vec::new(),
            icmp_type: None,
            payload: length,
        };
        let packet = &rest[..length.min(rest.len())];
        let segment = ip.skip_extensions(packet)?;
        ip.payload -= packet.len() - segment.len();
        Some(ip.with_segment(segment))
    }

    /// What comes behind the extension headers (RFC 8200, section 4).
    fn skip_extensions<'a>(&mut self, mut rest: &'a [u8]) -> Option<&'a [u8]> {
        while [HOP_BY_HOP, ROUTING, DESTINATION, FRAGMENT].contains(&self.proto) {
            let header: &[u8; 8] = rest.first_chunk()?;
            let mut length = header.len();
            if self.proto == FRAGMENT {
                let offset = u16::from_be_bytes([header[2], header[3]]);
                self.later_fragment = offset & 0xfff8 != 0;
                self.fragment = offset & 0xfff9 != 0;
            } else {
                length += usize::from(header[1]) * 8;
            }
            self.proto = header[0];
            rest = rest.get(length..)?;
            if self.later_fragment {
                break;
            }
        }
        Some(rest)
    }

    /// With what the header of its protocol says.
    fn with_segment(mut self, segment: &[u8]) -> Self {
        if self.later_fragment {
            return self;
        }
        if let (UDP | TCP | SCTP, Some([a, b, c, d])) = (self.proto, segment.first_chunk()) {
            self.ports = Some(FlowPorts {
                src: u16::from_be_bytes([*a, *b]),
                dst: u16::from_be_bytes([*c, *d]),
            });
        }
        if let (TCP, Some(flags)) = (self.proto, segment.get(TCP_FLAGS)) {
            let names = TCP_FLAG_NAMES.iter().enumerate();
            let set = names.filter(|(bit, _)| flags >> bit & 1 == 1);
            self.tcp_flags = set.map(|(_, name)| *name).collect();
        }
        if let (ICMP | ICMPV6, Some(kind)) = (self.proto, segment.first()) {
            self.icmp_type = Some(*kind);
        }
        self.payload = self.payload.saturating_sub(self.header_of(segment));
        self
    }

    /// Bytes of the segment's own header, as far as it has one; of ICMP, all is payload.
    fn header_of(&self, segment: &[u8]) -> usize {
        match (self.proto, segment.get(TCP_OFFSET)) {
            (UDP, _) => 8,
            (SCTP, _) => 12,
            (TCP, Some(offset)) => usize::from(offset >> 4) * 4,
            _ => 0,
        }
    }

    fn has_proto(&self, proto: Proto) -> bool {
        let number = match proto {
            Proto::Any => return true,
            Proto::Udp => UDP,
            Proto::Tcp => TCP,
            Proto::Sctp => SCTP,
            Proto::Icmp if self.dst.is_ipv4() => ICMP,
            Proto::Icmp => ICMPV6,
        };
        number == self.proto
    }

    fn has_port(&self, rule: &Match) -> bool {
        let range = rule.ports.first()..=rule.ports.last();
        rule.ports.is_any() || self.ports.is_some_and(|ports| range.contains(&ports.dst))
    }

    /// The protocol's name, or its number.
    pub fn protocol(&self) -> String {
        protocol(self.proto)
    }
}

fn protocol(number: u8) -> String {
    match number {
        UDP => "udp".into(),
        TCP => "tcp".into(),
        SCTP => "sctp".into(),
        ICMP | ICMPV6 => "icmp".into(),
        number => number.to_string(),
    }
}

fn named<S: Serializer>(proto: &u8, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&protocol(*proto))
}

/// A rule that does not name an address takes none that more than one host may have.
fn takes(prefix: Prefix, addr: IpAddr, is_special: bool) -> bool {
    prefix.contains(&addr) && (!is_special || prefix.prefix_len() > 0)
}

/// Multicast, broadcast and link-local addresses.
fn is_special(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_multicast() || addr.is_broadcast() || addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_multicast() || addr.is_unicast_link_local(),
    }
}
