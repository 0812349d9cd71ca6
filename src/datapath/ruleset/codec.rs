//! Rules as the maps have them: keys and values from rules, and rules from those.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use ipnet::IpNet;

use crate::datapath::abi;
use crate::model::{
    Adjacency, Backend, Mac, Match, Pops, Port, Prefix, Proto, Rewrite, Rule, VlanId, Weight,
};

/// Linux uapi: linux/in.h.
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;

pub type ServiceBytes = [u8; size_of::<abi::service_key>()];

/// The service that a rule belongs to.
pub fn service_of(key: &abi::rule_key) -> ServiceBytes {
    let service = abi::service_key {
        port: key.port,
        vlan: key.vlan,
        proto: key.proto,
        family: key.family,
        zero: 0,
    };
    let mut bytes = ServiceBytes::default();
    bytes.copy_from_slice(abi::bytes_of(&service));
    bytes
}

/// The word of a service, and the bit in it, that stand for a rule's prefix length.
pub fn length_bit(key: &abi::rule_key) -> (usize, u64) {
    let longest = match u32::from(key.family) {
        abi::FAMILY_IPV6 => 128,
        _ => 32,
    };
    let missing = usize::from(u8::saturating_sub(longest, key.prefixlen));
    (missing / 64, 1 << (missing % 64))
}

pub fn key_of(matches: &Match) -> abi::rule_key {
    let (saddr, family) = stored_addr(matches.src.network());
    abi::rule_key {
        saddr,
        port: matches.ports.first().to_be(),
        vlan: matches.vlan.map_or(0, VlanId::get),
        proto: match matches.proto {
            Proto::Tcp => IPPROTO_TCP,
            _ => IPPROTO_UDP,
        },
        family: family as u8,
        prefixlen: matches.src.prefix_len(),
        zero: 0,
    }
}

pub fn match_of(key: &abi::rule_key) -> Result<Match> {
    let src = IpNet::new(addr_of(key.saddr, key.family.into()), key.prefixlen)?;
    Ok(Match {
        src: Prefix::try_from(src.trunc()).map_err(anyhow::Error::msg)?,
        proto: if key.proto == IPPROTO_TCP {
            Proto::Tcp
        } else {
            Proto::Udp
        },
        ports: Port::new(u16::from_be(key.port))
            .context("a rule for port 0")?
            .into(),
        vlan: VlanId::new(key.vlan),
        ..Match::any_like(src.addr())
    })
}

/// An address in network byte order, and its family.
fn stored_addr(addr: IpAddr) -> ([u32; 4], u32) {
    let mut words = [0; 4];
    let octets = abi::bytes_of_mut(&mut words);
    match addr {
        IpAddr::V4(addr) => {
            octets[..4].copy_from_slice(&addr.octets());
            (words, abi::FAMILY_IPV4)
        }
        IpAddr::V6(addr) => {
            octets.copy_from_slice(&addr.octets());
            (words, abi::FAMILY_IPV6)
        }
    }
}

fn addr_of(words: [u32; 4], family: u32) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(abi::bytes_of(&words));
    match (family, octets) {
        (abi::FAMILY_IPV6, octets) => Ipv6Addr::from(octets).into(),
        (_, [a, b, c, d, ..]) => Ipv4Addr::new(a, b, c, d).into(),
    }
}

pub fn set_size(set: u32) -> u32 {
    set & 0xff
}

/// Whether a rule names a set, rather than having its only backend in its value.
pub fn needs_set(rule: &Rule) -> bool {
    match rule.backends.as_slice() {
        [only] => rule.snat_of(only).is_some(),
        _ => true,
    }
}

/// The value of a rule that needs no set.
pub fn inline_value(rule: &Rule) -> Option<abi::rule> {
    let only = rule.backends.first().filter(|_| !needs_set(rule))?;
    Some(abi::rule {
        set: 0,
        inline_backend: inline_words(&stored_backend(rule, only)),
    })
}

/// A backend as the value of a rule without a set has it.
pub fn inline_words(backend: &abi::backend) -> [u32; abi::INLINE_WORDS as usize] {
    let mut words = [0; _];
    let bytes = abi::bytes_of_mut(&mut words);
    bytes.copy_from_slice(&abi::bytes_of(backend)[..bytes.len()]);
    words
}

/// The only backend of a rule without a set.
pub fn inline_backend(value: &abi::rule) -> abi::backend {
    let mut stored = abi::backend::default();
    let bytes = abi::bytes_of(&value.inline_backend);
    abi::bytes_of_mut(&mut stored)[..bytes.len()].copy_from_slice(bytes);
    stored
}

/// A backend as the program reads it, with what its rule does to packets.
pub fn stored_backend(rule: &Rule, backend: &Backend) -> abi::backend {
    let mut frame = [0; 12];
    frame[..6].copy_from_slice(&backend.mac.0);
    frame[6..].copy_from_slice(&backend.source_mac.0);
    let rewrite = &backend.rewrite;
    let snat = rule.snat_of(backend);
    let flags = [
        (backend.completes_checksum, abi::BACKEND_COMPLETES_CHECKSUM),
        (rewrite.keep_ip, abi::BACKEND_KEEP_IP),
        (snat.is_some(), abi::BACKEND_SNAT),
        (rule.decrement_ttl, abi::BACKEND_DECREMENT_TTL),
        (rewrite.push_vlan.is_some(), abi::BACKEND_PUSH_VLAN),
        (rewrite.pops.get() > 0, abi::BACKEND_POP_VLAN),
        (backend.server.is_ipv6(), abi::BACKEND_IPV6),
    ];
    abi::backend {
        addr: stored_addr(backend.server).0,
        snat: snat.map_or([0; 4], |addr| stored_addr(addr).0),
        ifindex: backend.ifindex,
        counter: backend.counter.unwrap_or(abi::UNATTRIBUTED),
        frame,
        port: rewrite.to_port.map_or(0, Port::get).to_be(),
        vlan: rewrite.push_vlan.map_or(0, VlanId::get).to_be(),
        weight: backend.weight.get(),
        flags: flags
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, flag)| *flag as u16)
            .sum(),
        zero: 0,
    }
}

/// A rule from its backends, which agree on what the rule does to all packets.
pub fn rule_of(matches: Match, stored: &[abi::backend]) -> Rule {
    Rule {
        snat: stored.iter().find_map(snat_of),
        decrement_ttl: stored
            .first()
            .is_none_or(|first| has(first, abi::BACKEND_DECREMENT_TTL)),
        backends: stored.iter().map(backend_of).collect(),
        ..Rule::new(matches)
    }
}

fn has(stored: &abi::backend, flag: u32) -> bool {
    u32::from(stored.flags) & flag != 0
}

fn family_of(stored: &abi::backend) -> u32 {
    if has(stored, abi::BACKEND_IPV6) {
        abi::FAMILY_IPV6
    } else {
        abi::FAMILY_IPV4
    }
}

fn snat_of(stored: &abi::backend) -> Option<IpAddr> {
    has(stored, abi::BACKEND_SNAT).then(|| addr_of(stored.snat, family_of(stored)))
}

fn backend_of(stored: &abi::backend) -> Backend {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = stored.frame;
    let has = |flag| has(stored, flag);
    Backend {
        adjacency: Adjacency {
            server: addr_of(stored.addr, family_of(stored)),
            mac: Mac([a, b, c, d, e, f]),
            source_mac: Mac([g, h, i, j, k, l]),
            ifindex: stored.ifindex,
            completes_checksum: has(abi::BACKEND_COMPLETES_CHECKSUM),
        },
        weight: Weight::new(stored.weight).unwrap_or_default(),
        rewrite: Rewrite {
            to_port: Port::new(u16::from_be(stored.port)),
            keep_ip: has(abi::BACKEND_KEEP_IP),
            push_vlan: VlanId::new(u16::from_be(stored.vlan))
                .filter(|_| has(abi::BACKEND_PUSH_VLAN)),
            pops: Pops::new(has(abi::BACKEND_POP_VLAN).into()).unwrap_or_default(),
        },
        counter: Some(stored.counter),
        origin: None,
    }
}
