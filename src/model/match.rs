//! Which packets a rule takes, and which of several rules takes a packet.

use std::cmp::{Ordering, Reverse};
use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ports, Prefix, VlanId};

/// The protocols that a rule can match.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    Udp,
    Tcp,
    Sctp,
    /// ICMPv6 in rules for IPv6.
    Icmp,
    /// All packets of an IP version; with ports, those of UDP, TCP and SCTP.
    Any,
}

impl Proto {
    pub const ALL: [Proto; 5] = [Proto::Udp, Proto::Tcp, Proto::Sctp, Proto::Icmp, Proto::Any];

    /// Its name in options, files and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Proto::Udp => "udp",
            Proto::Tcp => "tcp",
            Proto::Sctp => "sctp",
            Proto::Icmp => "icmp",
            Proto::Any => "any",
        }
    }

    /// Whether the other one's packets are all this one's, too.
    pub fn covers(self, other: Proto) -> bool {
        self == Proto::Any || self == other
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which packets a rule takes. In order, the rules of IPv4 come before those of IPv6, and those that win
/// before those that lose: of the rules that match a packet, the first one takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Match {
    pub dst: Prefix,
    /// Of the same IP version.
    pub src: Prefix,
    pub proto: Proto,
    /// Any where the protocol has none.
    #[serde(rename = "port")]
    pub ports: Ports,
    /// The identifier of the outer VLAN tag; None: the frame has no tag.
    pub vlan: Option<VlanId>,
    /// The identifier of the second VLAN tag; None: it is not compared.
    pub inner_vlan: Option<VlanId>,
    /// The index of the interface where packets arrive; None: any.
    #[serde(rename = "in_ifindex")]
    pub ingress: Option<u32>,
}

/// How specific a match is. The most specific one is the first in order. Matches that are as specific as
/// each other, and differ, have no packet in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Order {
    dst_len: Reverse<u8>,
    src_len: Reverse<u8>,
    ports: Ports,
    any_proto: bool,
    any_inner_vlan: bool,
    any_ingress: bool,
}

impl Match {
    /// All packets of an address's IP version that have no VLAN tag.
    pub fn any_like(addr: IpAddr) -> Self {
        let any = Prefix::any_like(addr);
        Match {
            dst: any,
            src: any,
            proto: Proto::Any,
            ports: Ports::ANY,
            vlan: None,
            inner_vlan: None,
            ingress: None,
        }
    }

    /// UDP from anywhere over IPv4, for tests.
    #[cfg(test)]
    pub fn example(port: u16) -> Self {
        Match {
            proto: Proto::Udp,
            ports: super::Port::new(port).expect("a port").into(),
            ..Match::any_like([0; 4].into())
        }
    }

    /// How specific it is.
    fn order(&self) -> Order {
        Order {
            dst_len: Reverse(self.dst.prefix_len()),
            src_len: Reverse(self.src.prefix_len()),
            ports: self.ports,
            any_proto: self.proto == Proto::Any,
            any_inner_vlan: self.inner_vlan.is_none(),
            any_ingress: self.ingress.is_none(),
        }
    }

    /// By what it is more specific than another one; None where it isn't.
    pub fn wins_by(&self, other: &Match) -> Option<&'static str> {
        let (this, other) = (self.order(), other.order());
        let compared = [
            ("dst", this.dst_len.cmp(&other.dst_len)),
            ("src", this.src_len.cmp(&other.src_len)),
            ("port", this.ports.cmp(&other.ports)),
            ("proto", this.any_proto.cmp(&other.any_proto)),
            ("inner_vlan", this.any_inner_vlan.cmp(&other.any_inner_vlan)),
            ("in", this.any_ingress.cmp(&other.any_ingress)),
        ];
        let first = compared.into_iter().find(|(_, order)| order.is_ne())?;
        first.1.is_lt().then_some(first.0)
    }

    /// Whether packets are of IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.src.addr().is_ipv6()
    }
}

impl Ord for Match {
    fn cmp(&self, other: &Self) -> Ordering {
        let rest = |m: &Match| (m.dst, m.src, m.proto, m.vlan, m.inner_vlan, m.ingress);
        let families = self.is_ipv6().cmp(&other.is_ipv6());
        families
            .then_with(|| self.order().cmp(&other.order()))
            .then_with(|| rest(self).cmp(&rest(other)))
    }
}

impl PartialOrd for Match {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.named(None).fmt(f)
    }
}

/// A match in words, with the name of its interface, if that is known.
struct Named<'a>(&'a Match, Option<&'a str>);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f)?;
        match (self.0.ingress, self.1) {
            (None, _) => Ok(()),
            (Some(_), Some(name)) => write!(f, " in {name}"),
            (Some(ifindex), None) => write!(f, " in ifindex {ifindex}"),
        }
    }
}

impl Match {
    /// The match in words, with the name of its interface in place of the index.
    pub fn named<'a>(&'a self, interface: Option<&'a str>) -> impl fmt::Display + 'a {
        Named(self, interface)
    }

    /// All but the interface. What is not compared is left out, but for the source.
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dst.prefix_len() > 0 {
            write!(f, "dst {} ", self.dst)?;
        }
        write!(f, "src {}", self.src)?;
        match self.proto {
            Proto::Any => f.write_str(" any protocol")?,
            proto => write!(f, " {proto}")?,
        }
        match self.proto {
            Proto::Udp | Proto::Tcp | Proto::Sctp if self.ports.is_any() => {
                f.write_str(" any port")?;
            }
            _ if self.ports.is_any() => {}
            _ => write!(f, " port {}", self.ports)?,
        }
        if let Some(vlan) = self.vlan {
            write!(f, " vlan {vlan}")?;
        }
        match self.inner_vlan {
            None => Ok(()),
            Some(vlan) => write!(f, " inner-vlan {vlan}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut Match);

    fn changed(change: Change) -> Match {
        let mut matches = Match::any_like([0; 4].into());
        change(&mut matches);
        matches
    }

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("a prefix")
    }

    fn ports(text: &str) -> Ports {
        text.parse().expect("ports")
    }

    #[test]
    fn the_most_specific_match_comes_first() {
        // Each differs from the next in what comes first, and is less specific in all that comes after.
        let sorted: [Change; 10] = [
            |m| m.dst = prefix("10.0.0.1/32"),
            |m| m.dst = prefix("10.0.0.0/31"),
            |m| m.src = prefix("10.0.0.0/9"),
            |m| m.src = prefix("10.0.0.0/8"),
            |m| m.ports = ports("65535"),
            |m| m.ports = ports("2-3"),
            |m| m.ports = ports("1-3"),
            |m| m.proto = Proto::Icmp,
            |m| m.inner_vlan = VlanId::new(1),
            |m| m.ingress = Some(1),
        ];
        let mut all: Vec<Match> = sorted.into_iter().map(changed).collect();
        all.push(Match::any_like([0; 4].into()));
        all.push(Match::any_like([0u16; 8].into()));
        for pair in all.windows(2) {
            assert!(pair[0] < pair[1], "{} and {}", pair[0], pair[1]);
            assert_eq!(pair[0].cmp(&pair[0]), Ordering::Equal);
        }
        assert!(all[10].order() == all[11].order());
        let mut shuffled = all.clone();
        shuffled.reverse();
        shuffled.sort();
        assert_eq!(shuffled, all);
    }

    #[test]
    fn what_is_given_says_more_than_all_that_comes_later() {
        let only: Change = |m| m.dst = prefix("10.0.0.0/8");
        let others: Change = |m| {
            m.src = prefix("10.0.0.0/32");
            (m.proto, m.ports) = (Proto::Udp, ports("9"));
            (m.inner_vlan, m.ingress) = (VlanId::new(1), Some(1));
        };
        assert!(changed(only) < changed(others));
    }

    #[test]
    fn matches_that_are_as_specific_are_ordered_all_the_same() {
        let of: [Change; 3] = [
            |_| (),
            |m| m.vlan = VlanId::new(1),
            |m| m.vlan = VlanId::new(2),
        ];
        let all = of.map(changed);
        assert!(all[0] < all[1] && all[1] < all[2]);
        assert!(all.iter().all(|m| m.order() == all[0].order()));
    }

    #[test]
    fn what_is_not_compared_is_not_named() {
        let all: Change = |m| {
            (m.dst, m.src) = (prefix("10.0.0.1"), prefix("10.0.0.0/8"));
            (m.proto, m.ports) = (Proto::Sctp, ports("7-9"));
            (m.vlan, m.inner_vlan, m.ingress) = (VlanId::new(1), VlanId::new(2), Some(3));
        };
        for (change, text) in [
            (
                all,
                "dst 10.0.0.1/32 src 10.0.0.0/8 sctp port 7-9 vlan 1 inner-vlan 2 in ifindex 3",
            ),
            (|_| (), "src 0.0.0.0/0 any protocol"),
            (|m| m.proto = Proto::Icmp, "src 0.0.0.0/0 icmp"),
            (|m| m.proto = Proto::Tcp, "src 0.0.0.0/0 tcp any port"),
            (
                |m| m.ports = ports("9"),
                "src 0.0.0.0/0 any protocol port 9",
            ),
        ] {
            assert_eq!(changed(change).to_string(), text);
        }
    }
}
