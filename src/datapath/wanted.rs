//! Which packets somebody wants to see, as programs have it: see bpf/wanted.h.

use std::net::IpAddr;

use nix::libc;

use super::abi;
use crate::model::{PacketFilter, Proto};

/// The filter as the program has it.
pub fn encode(filter: &PacketFilter) -> abi::wanted {
    let prefix = filter.dst.or(filter.src);
    let (proto4, proto6) = match filter.proto {
        None | Some(Proto::Any) => (0, 0),
        Some(Proto::Udp) => (libc::IPPROTO_UDP, libc::IPPROTO_UDP),
        Some(Proto::Tcp) => (libc::IPPROTO_TCP, libc::IPPROTO_TCP),
        Some(Proto::Sctp) => (libc::IPPROTO_SCTP, libc::IPPROTO_SCTP),
        Some(Proto::Icmp) => (libc::IPPROTO_ICMP, libc::IPPROTO_ICMPV6),
    };
    let mut wanted = abi::wanted {
        family: match prefix {
            None => 0,
            Some(prefix) if prefix.addr().is_ipv4() => abi::FAMILY_IPV4 as u8,
            Some(_) => abi::FAMILY_IPV6 as u8,
        },
        proto4: proto4 as u8,
        proto6: proto6 as u8,
        first_port: filter.ports.map_or(0, |ports| ports.first()),
        last_port: filter.ports.map_or(u16::MAX, |ports| ports.last()),
        vlan: filter.vlan.map_or(0, |vlan| vlan.get()),
        inner_vlan: filter.inner_vlan.map_or(0, |vlan| vlan.get()),
        is_any: (*filter == PacketFilter::default()).into(),
        ..abi::zero()
    };
    for (prefix, is_dst) in [(filter.src, false), (filter.dst, true)] {
        if let Some(prefix) = prefix {
            put_address(&mut wanted.addrs, prefix.addr(), is_dst);
            put_address(&mut wanted.mask, prefix.netmask(), is_dst);
        }
    }
    wanted
}

/// See `struct flow_key` in bpf/abi/flow.h.
fn put_address(words: &mut [u64; 4], addr: IpAddr, is_dst: bool) {
    let bytes = abi::bytes_of_mut(words);
    match (addr, is_dst) {
        (IpAddr::V4(addr), false) => bytes[..4].copy_from_slice(&addr.octets()),
        (IpAddr::V4(addr), true) => bytes[4..8].copy_from_slice(&addr.octets()),
        (IpAddr::V6(addr), false) => bytes[..16].copy_from_slice(&addr.octets()),
        (IpAddr::V6(addr), true) => bytes[16..].copy_from_slice(&addr.octets()),
    }
}
