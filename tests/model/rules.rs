//! Random rules, in sets of several shapes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;

use super::{DEVICES, INTERFACES};
use crate::fixture::model::rule::Proto;
use crate::fixture::model::{Action, Backend, Match, Options, Prefix, Rule, TooLong};
use crate::fixture::random::{PORTS, VLANS};

/// What the rules of a set have in common.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A few of all kinds.
    Few,
    /// Each for a port of its own, so that most services have one rule.
    Ports,
    /// Many for one protocol and port, with prefixes of all lengths: a chain of many probes.
    Probes,
    /// Hundreds that differ in their addresses alone: many in each bucket.
    Buckets,
}

impl Shape {
    pub const ALL: [Shape; 4] = [Shape::Few, Shape::Ports, Shape::Probes, Shape::Buckets];

    /// How many rules to begin with.
    pub fn size(self, rng: &mut Rng) -> usize {
        match self {
            Shape::Few => rng.usize(2..12),
            Shape::Ports => rng.usize(5..40),
            Shape::Probes => [8, 13, 30, 240][rng.usize(..4)],
            Shape::Buckets => rng.usize(100..700),
        }
    }

    /// The same match may come more than once.
    pub fn matches(self, rng: &mut Rng) -> Match {
        let v4 = rng.bool();
        let mut matches = Match {
            dst: if rng.u8(..3) == 0 {
                any(v4)
            } else {
                prefix(rng, v4, 10)
            },
            src: if rng.u8(..3) == 0 {
                any(v4)
            } else {
                prefix(rng, v4, 192)
            },
            proto: [
                Proto::Udp,
                Proto::Udp,
                Proto::Tcp,
                Proto::Sctp,
                Proto::Icmp,
                Proto::Any,
            ][rng.usize(..6)],
            ports: ports(rng),
            vlan: VLANS[rng.usize(..VLANS.len())],
            inner_vlan: None,
            ingress: (rng.u8(..8) == 0).then(|| INTERFACES[rng.usize(..INTERFACES.len())].0),
        };
        match self {
            Shape::Few => {}
            Shape::Ports => matches.ports = Some(one(1000 + rng.u16(..40))),
            Shape::Probes => {
                matches.proto = if rng.u8(..6) == 0 {
                    Proto::Any
                } else {
                    Proto::Udp
                };
                matches.ports =
                    [Some((7999, 7999)), Some((7999, 7999)), matches.ports][rng.usize(..3)];
                matches.vlan = if rng.u8(..4) == 0 { 5 } else { 0 };
            }
            Shape::Buckets => {
                let hosts = |rng: &mut Rng, net| narrow(rng, v4, net);
                matches.dst = [any(v4), hosts(rng, 10)][rng.usize(..2)];
                matches.src = hosts(rng, 192);
                matches.ports = Some((7999, 7999));
                matches.proto = Proto::Udp;
                matches.vlan = 0;
            }
        }
        if matches.vlan > 0 && rng.u8(..3) == 0 {
            matches.inner_vlan = Some([7, 4094][rng.usize(..2)]);
        }
        if matches.proto == Proto::Icmp {
            matches.ports = None;
        }
        matches
    }

    /// A rule without an identifier, and without backends.
    pub fn rule(self, rng: &mut Rng) -> Rule {
        let matches = self.matches(rng);
        new(rng, matches)
    }
}

/// A rule whose match differs a little from another's.
pub fn beside(rng: &mut Rng, rule: &Rule) -> Rule {
    let mut matches = rule.matches;
    let other = Shape::Few.matches(rng);
    let v4 = matches.dst.addr.is_ipv4();
    match rng.u8(..8) {
        0 => matches.ports = other.ports,
        1 => matches.proto = other.proto,
        2 => matches.ingress = other.ingress,
        3 => matches.inner_vlan = Some(7).filter(|_| matches.vlan > 0),
        4 => matches.vlan = other.vlan,
        5 => matches.dst = within(rng, matches.dst),
        6 => matches.src = within(rng, matches.src),
        _ => (matches.dst, matches.src) = (prefix(rng, v4, 10), any(v4)),
    }
    if matches.vlan == 0 {
        matches.inner_vlan = None;
    }
    if matches.proto == Proto::Icmp {
        matches.ports = None;
    }
    new(rng, matches)
}

fn new(rng: &mut Rng, matches: Match) -> Rule {
    let action = action(rng, &matches);
    let too_long = match action {
        Action::Redirect | Action::Forward(..) => too_long(rng),
        Action::Pass | Action::Drop | Action::Socket => TooLong::Icmp,
    };
    Rule {
        matches,
        action,
        too_long,
        id: 0,
        snat: None,
        decrement_ttl: true,
        announce: action == Action::Redirect && matches.may_be_announced() && rng.bool(),
        by_source: action == Action::Redirect && rng.bool(),
        options: Options::default(),
        backends: Vec::new(),
        table: Default::default(),
    }
}

pub fn too_long(rng: &mut Rng) -> TooLong {
    [TooLong::Icmp, TooLong::Icmp, TooLong::Pass, TooLong::Drop][rng.usize(..4)]
}

/// Any action. It does not name a device that is to go away.
pub fn action(rng: &mut Rng, matches: &Match) -> Action {
    match rng.u8(..14) {
        0 => Action::Pass,
        1 => Action::Drop,
        4 => Action::Socket,
        2 | 3 => {
            let devices = ["on", "off", INTERFACES[1].0];
            let mut devices = devices
                .into_iter()
                .filter(|name| matches.ingress != Some(*name));
            let device = devices.nth(rng.usize(..2)).unwrap();
            let mac = [2, 3, rng.u8(..), rng.u8(..), rng.u8(..), rng.u8(..)];
            Action::Forward(device, rng.bool().then_some(mac))
        }
        _ => Action::Redirect,
    }
}

/// How many backends a rule that redirects has.
pub fn backends(rng: &mut Rng, shape: Shape) -> usize {
    match shape {
        Shape::Few => [1, 1, 2, 3, 7, 20][rng.usize(..6)],
        _ if rng.u8(..20) == 0 => rng.usize(2..5),
        _ => 1,
    }
}

/// A backend as a file has it, with all of its rewriting. What is the rule's is set there.
pub fn backend(rng: &mut Rng, rule: &mut Rule, server: IpAddr) -> Backend {
    let keep_ip = rng.u8(..5) == 0 || !rewrites(rule.matches.proto);
    let v4 = server.is_ipv4();
    if rule.backends.is_empty() && !keep_ip && rng.u8(..4) == 0 {
        rule.snat = Some(host(rng, v4));
    }
    Backend {
        id: 0,
        server,
        mac: [2, 1, rng.u8(..), rng.u8(..), rng.u8(..), rng.u8(..)],
        device: DEVICES[rng.usize(..DEVICES.len())],
        weight: weight(rng),
        down: rng.u8(..16) == 0,
        to_port: (!keep_ip && rng.u8(..3) == 0).then(|| PORTS[rng.usize(..PORTS.len())]),
        keep_ip,
        push_vlan: (rng.u8(..5) == 0).then(|| [1, 5, 4094][rng.usize(..3)]),
        pops: [0, 0, 0, 1, 2][rng.usize(..5)].min(rule.most_pops(keep_ip)),
    }
}

/// Of a backend that is drained, 0.
pub fn weight(rng: &mut Rng) -> u16 {
    match rng.u8(..8) {
        0 => 0,
        1..5 => 1,
        _ => rng.u16(1..100),
    }
}

/// Those of a round, mostly, where the protocol allows them.
pub fn options(rng: &mut Rng, of: Options, proto: Proto) -> Options {
    Options {
        nat: of.nat && rewrites(proto) && rng.u8(..8) > 0,
        sticky: of.sticky && rewrites(proto) && rng.u8(..8) > 0,
    }
}

/// Only what has a checksum that can be corrected is rewritten.
pub fn rewrites(proto: Proto) -> bool {
    [Proto::Udp, Proto::Tcp].contains(&proto)
}

pub fn host(rng: &mut Rng, v4: bool) -> IpAddr {
    if v4 {
        Ipv4Addr::new(172, 17, rng.u8(..), rng.u8(..)).into()
    } else {
        Ipv6Addr::from(0xfd << 120 | rng.u128(..) >> 8).into()
    }
}

fn any(v4: bool) -> Prefix {
    masked(v4, 0, 0)
}

fn masked(v4: bool, bits: u128, len: u32) -> Prefix {
    let host = if v4 { 32 } else { 128 } - len;
    let kept = bits
        .checked_shr(host)
        .unwrap_or(0)
        .checked_shl(host)
        .unwrap_or(0);
    let addr = match v4 {
        true => Ipv4Addr::from(kept as u32).into(),
        false => Ipv6Addr::from(kept).into(),
    };
    Prefix { addr, len }
}

/// Few addresses and lengths, so that prefixes contain each other.
fn prefix(rng: &mut Rng, v4: bool, net: u8) -> Prefix {
    let (bits, width, lens) = if v4 {
        let last = [0, 1, 2, 128, 255, rng.u8(..)][rng.usize(..6)];
        let addr = Ipv4Addr::new(net, 168, rng.u8(120..124), last);
        (u128::from(u32::from(addr)), 32, [1, 8, 15, 24, 30, 31, 32])
    } else {
        let (high, low) = (u128::from(rng.u8(..4)) << 62, u128::from(rng.u8(..4)));
        let net = 0x2001_0d00 | u128::from(net);
        (net << 96 | high | low, 128, [3, 32, 63, 64, 65, 127, 128])
    };
    let bits = match rng.u8(..12) {
        0 if v4 => [0xe000_00fb, 0xffff_ffff, 0xa9fe_0101][rng.usize(..3)],
        0 => [0xff02 << 112 | 0xfb, 0xfe80 << 112 | 1][rng.usize(..2)],
        _ => bits,
    };
    let len = match rng.u8(..3) {
        0 => rng.u32(..=width),
        _ => lens[rng.usize(..7)],
    };
    masked(v4, bits, len)
}

/// One of thousands of hosts, or of few networks of them.
fn narrow(rng: &mut Rng, v4: bool, net: u8) -> Prefix {
    let low = rng.u16(..4096);
    if v4 {
        let [high, low] = low.to_be_bytes();
        let addr = u32::from(Ipv4Addr::new(net, 168, high, low));
        return masked(v4, addr.into(), [24, 32, 32, 32][rng.usize(..4)]);
    }
    let addr = u128::from(0x2001_0d00 | u32::from(net)) << 96 | u128::from(low);
    masked(v4, addr, [120, 128, 128, 128][rng.usize(..4)])
}

fn within(rng: &mut Rng, prefix: Prefix) -> Prefix {
    let v4 = prefix.addr.is_ipv4();
    let bits = match prefix.addr {
        IpAddr::V4(addr) => u32::from(addr).into(),
        IpAddr::V6(addr) => u128::from(addr),
    };
    let width = if v4 { 32 } else { 128 };
    masked(v4, bits, rng.u32(prefix.len..=width))
}

fn one(port: u16) -> (u16, u16) {
    (port, port)
}

fn ports(rng: &mut Rng) -> Option<(u16, u16)> {
    let port = PORTS[rng.usize(..PORTS.len())];
    match rng.u8(..6) {
        0..3 => Some(one(port)),
        3 => None,
        4 => Some(
            [
                (7990, 8000),
                (7991, 8001),
                (50, 60),
                (1, 65535),
                (7999, 8000),
                (80, 7999),
            ][rng.usize(..6)],
        ),
        _ => Some((
            port.saturating_sub(rng.u16(..4)).max(1),
            port.saturating_add(rng.u16(..4)),
        )),
    }
}
