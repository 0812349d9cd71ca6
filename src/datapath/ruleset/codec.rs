//! Matches and actions as the maps have them, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use ipnet::IpNet;

use super::key::Key;
use super::ports::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP};
use super::words::{of_word, word_of};
use crate::datapath::abi;
use crate::model::{
    Action, Adjacency, Backend, HashOf, Mac, Macs, Match, Pops, Port, Ports, Prefix, Proto, Reply,
    Rewrite, Rule, Snat, TooLong, VlanId, Weight,
};

/// Which packets a rule takes, as the program compares it.
pub fn key_of(matches: &Match) -> Key {
    let is_ipv6 = matches.is_ipv6();
    let proto = match matches.proto {
        Proto::Udp => IPPROTO_UDP,
        Proto::Tcp => IPPROTO_TCP,
        Proto::Sctp => IPPROTO_SCTP,
        Proto::Icmp if is_ipv6 => IPPROTO_ICMPV6,
        Proto::Icmp => IPPROTO_ICMP,
        Proto::Any => abi::PROTO_ANY,
    };
    let flags = [
        (matches.ingress.is_some(), abi::PROBE_IN),
        (matches.inner_vlan.is_some(), abi::PROBE_INNER_VLAN),
        (is_ipv6, abi::PROBE_IPV6),
    ];
    let probe = abi::probe {
        first: matches.ports.first(),
        last: matches.ports.last(),
        proto: proto as u8,
        dst_len: matches.dst.prefix_len(),
        src_len: matches.src.prefix_len(),
        flags: sum(&flags) as u8,
    };
    let place = abi::place {
        ifindex: matches.ingress.unwrap_or(0),
        vlan: matches.vlan.map_or(0, VlanId::get),
        inner_vlan: matches.inner_vlan.map_or(0, VlanId::get),
    };
    Key {
        probe: word_of(&probe),
        place: word_of(&place),
        src: stored_addr(matches.src.network()),
        dst: stored_addr(matches.dst.network()),
    }
}

/// An error for what this command has not written.
pub fn match_of(key: &Key) -> Result<Match> {
    let probe: abi::probe = of_word(key.probe);
    let place: abi::place = of_word(key.place);
    let prefix = |addr, length| {
        let net = IpNet::new(addr_of(addr, key.is_ipv6()), length)?;
        Prefix::try_from(net).map_err(anyhow::Error::msg)
    };
    let has = |flag| u32::from(probe.flags) & flag != 0;
    Ok(Match {
        dst: prefix(key.dst, probe.dst_len)?,
        src: prefix(key.src, probe.src_len)?,
        proto: match u32::from(probe.proto) {
            IPPROTO_UDP => Proto::Udp,
            IPPROTO_TCP => Proto::Tcp,
            IPPROTO_SCTP => Proto::Sctp,
            abi::PROTO_ANY => Proto::Any,
            _ => Proto::Icmp,
        },
        ports: ports_of(&probe).context("a rule for port 0")?,
        vlan: VlanId::new(place.vlan),
        inner_vlan: VlanId::new(place.inner_vlan).filter(|_| has(abi::PROBE_INNER_VLAN)),
        ingress: has(abi::PROBE_IN).then_some(place.ifindex),
    })
}

fn ports_of(probe: &abi::probe) -> Option<Ports> {
    if (probe.first, probe.last) == (Ports::ANY.first(), Ports::ANY.last()) {
        return Some(Ports::ANY);
    }
    Ports::range(Port::new(probe.first)?, Port::new(probe.last)?)
}

/// An address in network byte order.
fn stored_addr(addr: IpAddr) -> [u32; 4] {
    let mut words = [0; 4];
    let octets = abi::bytes_of_mut(&mut words);
    match addr {
        IpAddr::V4(addr) => octets[..4].copy_from_slice(&addr.octets()),
        IpAddr::V6(addr) => octets.copy_from_slice(&addr.octets()),
    }
    words
}

fn addr_of(words: [u32; 4], is_ipv6: bool) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(abi::bytes_of(&words));
    match (is_ipv6, octets) {
        (true, octets) => Ipv6Addr::from(octets).into(),
        (false, [a, b, c, d, ..]) => Ipv4Addr::new(a, b, c, d).into(),
    }
}

fn sum(flags: &[(bool, u32)]) -> u32 {
    let set = flags.iter().filter(|(is_set, _)| *is_set);
    set.map(|(_, flag)| flag).sum()
}

fn stored_macs(destination: Mac, source: Mac) -> [u8; 12] {
    let mut frame = [0; 12];
    frame[..6].copy_from_slice(&destination.0);
    frame[6..].copy_from_slice(&source.0);
    frame
}

fn macs_of(frame: [u8; 12]) -> Macs {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = frame;
    Macs {
        destination: Mac([a, b, c, d, e, f]),
        source: Mac([g, h, i, j, k, l]),
    }
}

fn stored_too_long(too_long: TooLong) -> u8 {
    let number = match too_long {
        TooLong::Icmp => abi::TOO_LONG_ICMP,
        TooLong::Pass => abi::TOO_LONG_PASS,
        TooLong::Drop => abi::TOO_LONG_DROP,
    };
    number as u8
}

fn too_long_of(stored: u8) -> TooLong {
    match u32::from(stored) {
        abi::TOO_LONG_PASS => TooLong::Pass,
        abi::TOO_LONG_DROP => TooLong::Drop,
        _ => TooLong::Icmp,
    }
}

pub fn stored_hash(hash: HashOf) -> u8 {
    let number = match hash {
        HashOf::Flow => abi::HASH_FLOW,
        HashOf::Source => abi::HASH_SOURCE,
        HashOf::Packet => abi::HASH_PACKET,
    };
    number as u8
}

fn hash_of(stored: u8) -> HashOf {
    match u32::from(stored) {
        abi::HASH_SOURCE => HashOf::Source,
        abi::HASH_PACKET => HashOf::Packet,
        _ => HashOf::Flow,
    }
}

/// What a rule does to packets to one of its backends.
pub fn stored_backend(rule: &Rule, backend: &Backend, counter: u32) -> abi::action {
    let rewrite = &backend.rewrite;
    let snat = rule.snat_of(backend);
    let flags = [
        (backend.completes_checksum, abi::REWRITE_COMPLETES_CHECKSUM),
        (rewrite.keep_ip, abi::REWRITE_KEEP_IP),
        (snat.is_some(), abi::REWRITE_SNAT),
        (rule.finds_snat_of(backend), abi::REWRITE_SNAT_AUTO),
        (rule.decrement_ttl, abi::REWRITE_DECREMENT_TTL),
        (rewrite.push_vlan.is_some(), abi::REWRITE_PUSH_VLAN),
        (rule.matches.inner_vlan.is_some(), abi::REWRITE_INNER_VLAN),
        (backend.server.is_ipv6(), abi::REWRITE_IPV6),
        (rule.reply_of(backend) == Reply::Nat, abi::REWRITE_REPLY_NAT),
        (rule.sticky, abi::REWRITE_STICKY),
        (rule.announce, abi::REWRITE_ANNOUNCE),
    ];
    let kind = match backend.takes_flows() {
        true => abi::ACTION_REDIRECT,
        false if backend.marked_down => abi::ACTION_DOWN,
        false => abi::ACTION_DRAINING,
    };
    abi::action {
        kind: kind as u8,
        pops: rewrite.pops.get() as u8,
        flags: sum(&flags) as u16,
        ifindex: backend.ifindex,
        frame: stored_macs(backend.mac, backend.source_mac),
        counter,
        addr: stored_addr(backend.server),
        snat: snat.map_or([0; 4], stored_addr),
        port: rewrite.to_port.map_or(0, Port::get).to_be(),
        vlan: rewrite.push_vlan.map_or(0, VlanId::get).to_be(),
        weight: backend.weight.get(),
        too_long: stored_too_long(rule.too_long),
        hash: stored_hash(rule.hash),
    }
}

/// What a rule without backends does; None where it needs some.
pub fn stored_action(rule: &Rule) -> Option<abi::action> {
    // Versions that know no sockets let the packets pass.
    let (kind, ifindex, macs, completes) = match rule.action {
        Action::Redirect => return None,
        Action::Forward {
            ifindex,
            macs,
            completes_checksum,
        } => (abi::ACTION_FORWARD, ifindex, macs, completes_checksum),
        Action::Pass | Action::Socket => (abi::ACTION_PASS, 0, None, false),
        Action::Drop => (abi::ACTION_DROP, 0, None, false),
    };
    let flags = [
        (completes, abi::REWRITE_COMPLETES_CHECKSUM),
        (rule.decrement_ttl, abi::REWRITE_DECREMENT_TTL),
        (macs.is_some(), abi::REWRITE_MAC),
        (rule.action == Action::Socket, abi::REWRITE_TO_SOCKET),
    ];
    Some(abi::action {
        kind: kind as u8,
        flags: sum(&flags) as u16,
        ifindex,
        frame: macs.map_or([0; 12], |macs| stored_macs(macs.destination, macs.source)),
        counter: abi::UNATTRIBUTED,
        too_long: stored_too_long(rule.too_long),
        ..Default::default()
    })
}

/// A rule from its actions, of which there are several only where each is that of a backend.
pub fn rule_of(matches: Match, actions: &[(abi::action, u32)]) -> Rule {
    let Some((first, counter)) = actions.first() else {
        return Rule::new(matches);
    };
    let rule = Rule {
        too_long: too_long_of(first.too_long),
        decrement_ttl: has(first, abi::REWRITE_DECREMENT_TTL),
        ..Rule::new(matches)
    };
    let without_backends = |action| Rule {
        action,
        counter: Some(*counter),
        ..rule.clone()
    };
    match u32::from(first.kind) {
        abi::ACTION_FORWARD => without_backends(Action::Forward {
            ifindex: first.ifindex,
            macs: has(first, abi::REWRITE_MAC).then(|| macs_of(first.frame)),
            completes_checksum: has(first, abi::REWRITE_COMPLETES_CHECKSUM),
        }),
        abi::ACTION_PASS if has(first, abi::REWRITE_TO_SOCKET) => without_backends(Action::Socket),
        abi::ACTION_PASS => without_backends(Action::Pass),
        abi::ACTION_DROP => without_backends(Action::Drop),
        _ => Rule {
            snat: actions.iter().find_map(|(action, _)| rule_snat_of(action)),
            reply: reply_of(actions),
            sticky: has(first, abi::REWRITE_STICKY),
            announce: has(first, abi::REWRITE_ANNOUNCE),
            hash: hash_of(first.hash),
            backends: actions.iter().map(backend_of).collect(),
            ..rule
        },
    }
}

fn has(stored: &abi::action, flag: u32) -> bool {
    u32::from(stored.flags) & flag != 0
}

/// Whether connections to the backend are remembered.
pub fn remembers(action: &abi::action) -> bool {
    has(action, abi::REWRITE_REPLY_NAT | abi::REWRITE_STICKY)
}

/// Whether the backend's answers are translated.
pub fn translates(action: &abi::action) -> bool {
    has(action, abi::REWRITE_REPLY_NAT)
}

fn reply_of(actions: &[(abi::action, u32)]) -> Reply {
    if actions.iter().any(|(action, _)| translates(action)) {
        return Reply::Nat;
    }
    Reply::None
}

fn rule_snat_of(stored: &abi::action) -> Option<Snat> {
    match has(stored, abi::REWRITE_SNAT_AUTO) {
        true => Some(Snat::Auto),
        false => snat_of(stored).map(Snat::Address),
    }
}

fn snat_of(stored: &abi::action) -> Option<IpAddr> {
    let is_ipv6 = has(stored, abi::REWRITE_IPV6);
    has(stored, abi::REWRITE_SNAT).then(|| addr_of(stored.snat, is_ipv6))
}

fn backend_of((stored, counter): &(abi::action, u32)) -> Backend {
    let macs = macs_of(stored.frame);
    let has = |flag| has(stored, flag);
    Backend {
        adjacency: Adjacency {
            server: addr_of(stored.addr, has(abi::REWRITE_IPV6)),
            mac: macs.destination,
            source_mac: macs.source,
            ifindex: stored.ifindex,
            completes_checksum: has(abi::REWRITE_COMPLETES_CHECKSUM),
        },
        weight: Weight::new(stored.weight).unwrap_or_default(),
        marked_down: u32::from(stored.kind) == abi::ACTION_DOWN,
        rewrite: Rewrite {
            to_port: Port::new(u16::from_be(stored.port)),
            keep_ip: has(abi::REWRITE_KEEP_IP),
            push_vlan: VlanId::new(u16::from_be(stored.vlan))
                .filter(|_| has(abi::REWRITE_PUSH_VLAN)),
            pops: Pops::new(stored.pops.into()).unwrap_or_default(),
        },
        counter: Some(*counter),
        origin: None,
        own_source: snat_of(stored).filter(|_| has(abi::REWRITE_SNAT_AUTO)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_comes_back_as_it_was() {
        let any4 = Match::any_like([0; 4].into());
        let any6 = Match::any_like([0u16; 8].into());
        let mut all = vec![any4, any6];
        for proto in Proto::ALL {
            all.extend([any4, any6].map(|any| Match { proto, ..any }));
        }
        for ports in ["1", "7000-7010", "1-65535", "any"] {
            let ports = ports.parse().unwrap();
            all.push(Match { ports, ..any4 });
        }
        all.push(Match {
            dst: "10.0.0.0/8".parse().unwrap(),
            src: "192.168.1.1".parse().unwrap(),
            vlan: VlanId::new(7),
            inner_vlan: VlanId::new(9),
            ingress: Some(3),
            ..any4
        });
        all.push(Match {
            dst: "fd00::/8".parse().unwrap(),
            src: "fe80::1".parse().unwrap(),
            ..any6
        });
        for matches in all {
            assert_eq!(match_of(&key_of(&matches)).unwrap(), matches);
        }
    }

    #[test]
    fn an_action_without_backends_comes_back_as_it_was() {
        let macs = Macs {
            destination: Mac([2, 0, 0, 0, 0, 1]),
            source: Mac([2, 0, 0, 0, 0, 2]),
        };
        let forward = |macs: Option<Macs>| Action::Forward {
            ifindex: 7,
            macs,
            completes_checksum: macs.is_some(),
        };
        let all = [
            forward(None),
            forward(Some(macs)),
            Action::Pass,
            Action::Drop,
            Action::Socket,
        ];
        for (action, too_long) in all.into_iter().zip(TooLong::ALL.into_iter().cycle()) {
            let rule = Rule {
                too_long,
                counter: Some(9),
                ..Rule::acting(Match::example(1), action)
            };
            let stored = stored_action(&rule).unwrap();
            assert_eq!(rule_of(rule.matches, &[(stored, 9)]), rule);
        }
        assert!(stored_action(&Rule::new(Match::example(1))).is_none());
    }
}
