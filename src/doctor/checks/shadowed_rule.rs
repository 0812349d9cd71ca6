//! Rules that others shadow: more specific ones take all of their packets between them, so that none is left.

mod port_set;

use std::collections::{HashMap, HashSet};

use self::port_set::PortSet;
use crate::doctor::facts::Facts;
use crate::model::{Command, Finding, Match, Ports, Prefix, Proto, Remedy};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut matches: Vec<&Match> = facts.matches().collect();
    matches.sort();
    let mut covered = Covered::default();
    let shadowed = matches.into_iter().filter(|matches| !covered.add(matches));
    let text = |matches| facts.text(matches);
    shadowed.map(text).map(finding).collect()
}

fn finding(rule: String) -> Finding {
    Finding::warning("shadowed-rule", format!("rule {rule}"))
        .consequence("it never sees a packet")
        .evidence("more specific rules take all packets that it matches")
        .remedy(Remedy::from(Command::Name("rule del")) + " it, or one of those")
}

/// A match without its ports, which stand beside it.
type Key = Match;

/// Which fields of a match are compared, and how far.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    dst_len: u8,
    src_len: u8,
    any_proto: bool,
    inner_vlan: bool,
    ingress: bool,
}

/// What the rules so far take, which are more specific than all that come.
#[derive(Default)]
struct Covered {
    ports: HashMap<Key, PortSet>,
    /// Those of the matches that several rules take together. One rule alone takes no other's packets all:
    /// it would be less specific.
    joint: HashSet<Shape>,
}

impl Covered {
    /// False where those that were added cover it already.
    fn add(&mut self, matches: &Match) -> bool {
        let (key, ports) = (without_ports(matches), PortSet::of(matches));
        if self.covers(&key, &ports) {
            return false;
        }
        self.insert(key, ports);
        true
    }

    fn covers(&self, key: &Key, ports: &PortSet) -> bool {
        let has = |key: &Key| self.ports.get(key).is_some_and(|all| all.contains(ports));
        has(key) || {
            let mut wider = self.joint.iter().filter_map(|shape| shape.around(key));
            wider.any(|key| has(&key))
        }
    }

    /// Adds ports of a match, and those that it takes together with others of a wider match.
    fn insert(&mut self, key: Key, ports: PortSet) {
        let mut new = vec![(key, ports)];
        while let Some((key, ports)) = new.pop() {
            self.ports.entry(key).or_default().add(&ports);
            for (others, whole) in joins(&key) {
                let taken = others.iter().try_fold(ports.clone(), |ports, other| {
                    Some(ports.shared(self.ports.get(other)?)).filter(|ports| !ports.is_empty())
                });
                let is_known = |taken: &PortSet| {
                    let known = self.ports.get(&whole);
                    known.is_some_and(|known| known.contains(taken))
                };
                if let Some(taken) = taken.filter(|taken| !is_known(taken)) {
                    self.joint.insert(Shape::of(&whole));
                    new.push((whole, taken));
                }
            }
        }
    }
}

fn without_ports(matches: &Match) -> Key {
    Match {
        ports: Ports::ANY,
        ..*matches
    }
}

/// The matches that a match covers a wider one with, and that.
fn joins(key: &Key) -> Vec<(Vec<Key>, Key)> {
    let dst = pair(key.dst).map(|(sibling, whole)| {
        let with = |dst| Match { dst, ..*key };
        (vec![with(sibling)], with(whole))
    });
    let src = pair(key.src).map(|(sibling, whole)| {
        let with = |src| Match { src, ..*key };
        (vec![with(sibling)], with(whole))
    });
    let with_ports = [Proto::Udp, Proto::Tcp, Proto::Sctp];
    let proto = with_ports.contains(&key.proto).then(|| {
        let with = |proto| Match { proto, ..*key };
        (with_ports.map(with).to_vec(), with(Proto::Any))
    });
    [dst, src, proto].into_iter().flatten().collect()
}

/// The other half of what a prefix is a half of, and that.
fn pair(half: Prefix) -> Option<(Prefix, Prefix)> {
    let whole = half.supernet()?;
    let mut halves = whole.subnets(half.prefix_len()).ok()?;
    let sibling = halves.find(|sibling| *sibling != *half)?;
    Some((sibling.try_into().ok()?, whole.try_into().ok()?))
}

impl Shape {
    fn of(key: &Key) -> Self {
        Shape {
            dst_len: key.dst.prefix_len(),
            src_len: key.src.prefix_len(),
            any_proto: key.proto == Proto::Any,
            inner_vlan: key.inner_vlan.is_some(),
            ingress: key.ingress.is_some(),
        }
    }

    /// The match of this shape that takes all of another one's packets.
    fn around(&self, key: &Key) -> Option<Key> {
        let can = (!self.inner_vlan || key.inner_vlan.is_some())
            && (!self.ingress || key.ingress.is_some())
            && (self.any_proto || key.proto != Proto::Any);
        let wider = Match {
            dst: widened(key.dst, self.dst_len)?,
            src: widened(key.src, self.src_len)?,
            proto: if self.any_proto {
                Proto::Any
            } else {
                key.proto
            },
            inner_vlan: key.inner_vlan.filter(|_| self.inner_vlan),
            ingress: key.ingress.filter(|_| self.ingress),
            ..*key
        };
        can.then_some(wider)
    }
}

fn widened(prefix: Prefix, len: u8) -> Option<Prefix> {
    let is_wider = len <= prefix.prefix_len();
    let wider = ipnet::IpNet::new(prefix.addr(), len).ok()?.trunc();
    is_wider.then(|| wider.try_into().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Rule, VlanId};

    /// Of rules as destination, source, protocol and ports, those that are shadowed.
    fn shadowed(rules: &[[&str; 4]]) -> Vec<String> {
        let prefix = |text: &str| text.parse::<Prefix>().expect("a prefix");
        let proto = |name| Proto::ALL.into_iter().find(|proto| proto.name() == name);
        let matches = rules.iter().map(|[dst, src, name, ports]| Match {
            dst: prefix(dst),
            src: prefix(src),
            proto: proto(*name).expect("a protocol"),
            ports: ports.parse().expect("ports"),
            ..Match::any_like(prefix(src).addr())
        });
        of(matches.collect())
    }

    fn of(matches: Vec<Match>) -> Vec<String> {
        let facts = Facts {
            rules: matches.into_iter().map(Rule::new).collect(),
            ..Facts::default()
        };
        let findings = check(&facts).into_iter();
        findings.map(|finding| finding.subject).collect()
    }

    const V4: &str = "0.0.0.0/0";

    fn from(sources: &[&'static str]) -> Vec<String> {
        let rules = sources.iter().map(|src| [any_of(src), src, "udp", "7999"]);
        shadowed(&rules.collect::<Vec<_>>())
    }

    fn any_of(src: &str) -> &'static str {
        if src.contains(':') { "::/0" } else { V4 }
    }

    #[test]
    fn only_a_rule_that_is_covered_completely_is_shadowed() {
        let halves = ["10.0.0.0/9", "10.128.0.0/9"];
        assert!(from(&halves).is_empty());
        assert!(from(&["10.0.0.0/8", "10.0.0.0/9", "11.0.0.0/9"]).is_empty());
        let all = ["10.0.0.0/8", halves[0], halves[1]];
        assert_eq!(from(&all), ["rule src 10.0.0.0/8 udp port 7999"]);
        assert_eq!(from(&["::/0", "::/1", "8000::/1", V4]).len(), 1);
        // With everything covered, even the rule for any source.
        let all = [V4, "0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/2"];
        assert_eq!(from(&all).len(), 1);
    }

    #[test]
    fn rules_for_all_destinations_shadow_whatever_the_rest_says() {
        let halves = [
            ["0.0.0.0/1", V4, "any", "any"],
            ["128.0.0.0/1", V4, "any", "any"],
        ];
        let with = |rule| shadowed(&[halves[0], halves[1], rule]).len();
        for rule in [
            [V4, V4, "any", "any"],
            [V4, "10.0.0.0/8", "udp", "53"],
            [V4, V4, "icmp", "any"],
        ] {
            assert_eq!(with(rule), 1, "{rule:?}");
        }
        assert_eq!(with(["10.0.0.0/8", V4, "udp", "53"]), 0);
        let udp = |dst| [dst, V4, "udp", "any"];
        let two = [udp("0.0.0.0/1"), udp("128.0.0.0/1")];
        assert!(shadowed(&[two[0], two[1], [V4, V4, "tcp", "53"]]).is_empty());
        assert!(shadowed(&[two[0], two[1], [V4, V4, "any", "53"]]).is_empty());
    }

    #[test]
    fn a_range_is_shadowed_by_its_parts() {
        let udp = |ports| [V4, V4, "udp", ports];
        let [one, two, rest] = ["1", "2-4", "5-9"].map(udp);
        let found = shadowed(&[one, two, udp("1-4"), rest]);
        assert_eq!(found, ["rule src 0.0.0.0/0 udp port 1-4"]);
        assert_eq!(shadowed(&[one, two, rest, udp("1-9")]).len(), 1);
        assert!(shadowed(&[one, rest, udp("1-9")]).is_empty());
        // Only the rule for any port takes port 0.
        let all = ["1-30000", "30001-65535", "1-65535", "any"].map(udp);
        assert_eq!(shadowed(&all), ["rule src 0.0.0.0/0 udp port 1-65535"]);
    }

    #[test]
    fn any_protocol_is_shadowed_only_where_a_port_is_compared() {
        let of = |ports| {
            let rule = |proto| [V4, V4, proto, ports];
            shadowed(&["udp", "tcp", "sctp", "any"].map(rule)).len()
        };
        assert_eq!(of("53"), 1);
        assert_eq!(of("any"), 0);
        // The rule for one port is more specific than those for a range.
        let rule = |proto| [V4, V4, proto, "50-60"];
        let wide = ["udp", "tcp", "sctp"].map(rule);
        let one = [V4, V4, "any", "53"];
        assert!(shadowed(&[wide[0], wide[1], wide[2], one]).is_empty());
    }

    #[test]
    fn tags_and_interfaces_are_compared() {
        let half = |src: &str, vlan, inner, ingress| Match {
            src: src.parse().expect("a prefix"),
            vlan: VlanId::new(vlan),
            inner_vlan: VlanId::new(inner),
            ingress,
            ..Match::example(53)
        };
        let halves = |vlan, inner, ingress| {
            ["0.0.0.0/1", "128.0.0.0/1"].map(|src| half(src, vlan, inner, ingress))
        };
        let found = |with: [Match; 2], rule: Match| of(vec![with[0], with[1], rule]).len();
        let rule = |vlan, inner, ingress| half(V4, vlan, inner, ingress);
        assert_eq!(found(halves(5, 0, None), rule(5, 0, None)), 1);
        assert_eq!(found(halves(5, 0, None), rule(5, 6, Some(1))), 1);
        assert_eq!(found(halves(5, 6, None), rule(5, 0, None)), 0);
        assert_eq!(found(halves(5, 0, None), rule(0, 0, None)), 0);
        assert_eq!(found(halves(5, 0, Some(1)), rule(5, 0, None)), 0);
    }
}
