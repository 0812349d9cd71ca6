//! Random rules of all shapes, of which few differ much, and random packets: each one is the most specific
//! rule's, as a plain search through all of them finds it.

use std::cmp::Reverse;
use std::net::Ipv6Addr;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::fixture::packet::{Checksum, SCTP, TCP, UDP};
use crate::fixture::tap::Tap;
use crate::fixture::{Ns, Pins, Tool};

const INTERFACES: [&str; 2] = ["lan", "other"];
const RULES: usize = 60;
const PACKETS: usize = 4000;
const GRE: u8 = 47;

/// Addresses differ in their last four bits, and only those are compared by prefixes that are not any.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Prefix {
    /// 0: any; otherwise how many of the four bits, and one more.
    len: u8,
    bits: u8,
}

impl Prefix {
    fn random(rng: &mut Rng) -> Self {
        let len = if rng.bool() { 0 } else { rng.u8(1..=5) };
        let bits = match len {
            0 => 0,
            _ => rng.u8(..16) & !(0xf >> (len - 1)),
        };
        Prefix { len, bits }
    }

    fn covers(self, host: u8) -> bool {
        self.len == 0 || (host ^ self.bits) & !(0xf >> (self.len - 1)) & 0xf == 0
    }

    fn text(self, v4: bool, net: u8) -> String {
        match (v4, self.len) {
            (true, 0) => "0.0.0.0/0".into(),
            (false, 0) => "::/0".into(),
            (true, len) => format!("11.{net}.3.{}/{}", self.bits, 27 + len),
            (false, len) => {
                let addr = Ipv6Addr::from(address6(net, self.bits));
                format!("{addr}/{}", 123 + len)
            }
        }
    }
}

fn address6(net: u8, host: u8) -> [u8; 16] {
    let mut addr = [0; 16];
    addr[..6].copy_from_slice(&[0x20, 1, 0xd, 0xb8, 0, net]);
    addr[15] = host;
    addr
}

#[derive(Clone, Debug)]
struct Rule {
    v4: bool,
    dst: Prefix,
    src: Prefix,
    proto: &'static str,
    /// 0 to 65535: any.
    ports: (u16, u16),
    vlan: u16,
    inner_vlan: u16,
    ingress: Option<usize>,
    action: &'static str,
}

#[derive(Debug)]
struct Packet {
    v4: bool,
    dst: u8,
    src: u8,
    proto: u8,
    dport: u16,
    tags: Vec<u16>,
    ingress: usize,
}

fn one_of<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.usize(..all.len())]
}

impl Rule {
    fn random(rng: &mut Rng) -> Self {
        let proto = one_of(rng, &["udp", "udp", "tcp", "sctp", "icmp", "any"]);
        let first = rng.u16(1..10);
        let ports = match rng.u8(..3) {
            _ if proto == "icmp" => (0, 65535),
            0 => (0, 65535),
            1 => (first, first),
            _ => (first, first + rng.u16(..6)),
        };
        let vlan = one_of(rng, &[0, 0, 5]);
        let inner = one_of(rng, &[0, 6, 7]);
        Rule {
            v4: rng.bool(),
            dst: Prefix::random(rng),
            src: Prefix::random(rng),
            proto,
            ports,
            vlan,
            inner_vlan: if vlan == 0 { 0 } else { inner },
            ingress: one_of(rng, &[None, None, Some(0), Some(1)]),
            action: one_of(rng, &["pass", "drop", "forward"]),
        }
    }

    fn matches(&self, packet: &Packet) -> bool {
        let has_ports = [UDP, TCP, SCTP].contains(&packet.proto);
        let any_port = self.ports == (0, 65535);
        let in_range = (self.ports.0..=self.ports.1).contains(&packet.dport);
        let protocol = match self.proto {
            "udp" => packet.proto == UDP,
            "tcp" => packet.proto == TCP,
            "sctp" => packet.proto == SCTP,
            "icmp" => packet.proto == if self.v4 { 1 } else { 58 },
            _ => true,
        };
        let tag = |n: usize| packet.tags.get(n).copied().unwrap_or(0);
        self.v4 == packet.v4
            && self.dst.covers(packet.dst)
            && self.src.covers(packet.src)
            && protocol
            && (any_port || has_ports && in_range)
            && self.vlan == tag(0)
            && (self.inner_vlan == 0 || self.inner_vlan == tag(1))
            && self.ingress.is_none_or(|ingress| ingress == packet.ingress)
    }

    /// The least is the most specific.
    fn rank(&self) -> impl Ord + use<> {
        (
            (Reverse(self.dst.len), Reverse(self.src.len)),
            (self.ports.1 - self.ports.0, self.ports.0),
            (
                self.proto == "any",
                self.inner_vlan == 0,
                self.ingress.is_none(),
            ),
        )
    }

    /// What makes it another rule.
    fn key(&self) -> Value {
        let mut line = self.line(0);
        let object = line.as_object_mut().expect("an object");
        object.retain(|key, _| key != "action" && key != "ifindex");
        line
    }

    fn line(&self, out: u32) -> Value {
        let ports = match self.ports {
            (0, _) => json!("any"),
            (first, last) if first == last => json!(first),
            (first, last) => json!(format!("{first}-{last}")),
        };
        let vlan = |vlan: u16| Some(vlan).filter(|vlan| *vlan != 0);
        json!({
            "dst": self.dst.text(self.v4, 2), "src": self.src.text(self.v4, 1), "proto": self.proto,
            "port": ports, "vlan": vlan(self.vlan), "inner_vlan": vlan(self.inner_vlan),
            "in": self.ingress.map(|ingress| INTERFACES[ingress]), "action": self.action,
            "ifindex": (self.action == "forward").then_some(out),
        })
    }
}

impl Packet {
    fn random(rng: &mut Rng) -> Self {
        let tags: &[&[u16]] = &[
            &[],
            &[],
            &[5],
            &[5],
            &[5, 6],
            &[5, 7],
            &[5, 8],
            &[6],
            &[6, 6],
        ];
        Packet {
            v4: rng.bool(),
            dst: rng.u8(..16),
            src: rng.u8(..16),
            proto: one_of(rng, &[UDP, UDP, TCP, SCTP, 1, 58, GRE]),
            dport: rng.u16(..17),
            tags: one_of(rng, tags).to_vec(),
            ingress: rng.usize(..2),
        }
    }

    /// One that the rule mostly matches, and more specific ones perhaps, too.
    fn near(rng: &mut Rng, rule: &Rule) -> Self {
        let any = Packet::random(rng);
        let mut packet = Packet {
            v4: rule.v4,
            dst: rule.dst.bits,
            src: rule.src.bits,
            proto: match rule.proto {
                "udp" => UDP,
                "tcp" => TCP,
                "sctp" => SCTP,
                "icmp" => [58, 1][usize::from(rule.v4)],
                _ => any.proto,
            },
            dport: match rule.ports {
                (0, _) => any.dport,
                (first, last) => rng.u16(first..=last),
            },
            tags: match (rule.vlan, rule.inner_vlan) {
                (0, _) => vec![],
                (vlan, 0) => vec![vlan],
                (vlan, inner) => vec![vlan, inner],
            },
            ingress: rule.ingress.unwrap_or(any.ingress),
        };
        match rng.u8(..16) {
            0 => packet.dst = any.dst,
            1 => packet.src = any.src,
            2 => packet.proto = any.proto,
            3 => packet.dport = any.dport,
            4 => packet.tags = any.tags,
            5 => packet.ingress = any.ingress,
            6 => packet.v4 = any.v4,
            7 => packet = any,
            _ => {}
        }
        packet
    }

    fn bytes(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 0xee, 2, 0, 0, 0, 0, 0xdd];
        for tag in &self.tags {
            frame.extend([0x81, 0]);
            frame.extend(tag.to_be_bytes());
        }
        let mut segment = vec![0x9c, 0x40];
        segment.extend(self.dport.to_be_bytes());
        // A datagram's length, or TCP's data offset where it is one's.
        segment.extend([
            0, 24, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        if self.v4 {
            let (src, dst) = ([11, 1, 3, self.src], [11, 2, 3, self.dst]);
            frame.extend([8, 0, 0x45, 0, 0, 44, 0, 1, 0, 0, 64, self.proto, 0, 0]);
            frame.extend([src, dst].concat());
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, self.proto, 64]);
            frame.extend([address6(1, self.src), address6(2, self.dst)].concat());
        }
        [frame, segment].concat()
    }
}

/// Of the rules in a file, the packets that each has taken.
fn counts(tool: &Tool, rules: &[Rule]) -> Vec<u64> {
    let rows = tool.json("rule list");
    let rows = rows.as_array().expect("rows");
    assert_eq!(rows.len(), rules.len());
    let count = |rule: &Rule| {
        let key = rule.key();
        let is_it = |row: &&Value| {
            let mut fields = key.as_object().expect("an object").iter();
            fields.all(|(name, value)| row[name] == *value)
        };
        let row = rows.iter().find(is_it);
        let row = row.unwrap_or_else(|| panic!("{key} is not listed"));
        row["forward_packages"].as_u64().expect("a count")
    };
    rules.iter().map(count).collect()
}

fn taker(rules: &[Rule], packet: &Packet) -> Option<usize> {
    let matching = (0..rules.len()).filter(|n| rules[*n].matches(packet));
    matching.min_by_key(|n| rules[*n].rank())
}

fn agrees(mode: &str) {
    let (ns, pins) = (Ns::new("host"), Pins::new());
    let mut taps = INTERFACES.map(|name| Tap::new(&ns, name, false));
    let _out = Tap::new(&ns, "out", false);
    let tool = Tool {
        ns: &ns,
        pins: &pins,
    };
    tool.ok(&format!("attach lan other out --mode {mode}"));
    let seed = fastrand::u64(..);
    let mut rng = Rng::with_seed(seed);
    let file = tempfile::NamedTempFile::new().expect("a file");
    for round in 0..4 {
        let mut rules: Vec<Rule> = Vec::new();
        while rules.len() < RULES {
            let rule = Rule::random(&mut rng);
            if rules.iter().all(|other| other.key() != rule.key()) {
                rules.push(rule);
            }
        }
        let out = ns.ifindex("out");
        let lines: Vec<String> = rules
            .iter()
            .map(|rule| rule.line(out).to_string())
            .collect();
        std::fs::write(file.path(), lines.join("\n")).expect("a file");
        tool.ok("rule del --all --if-exists");
        tool.ok(&format!("rule load {}", file.path().display()));
        let near = |_| {
            let rule = &rules[rng.usize(..RULES)];
            Packet::near(&mut rng, rule)
        };
        let packets: Vec<Packet> = (0..PACKETS).map(near).collect();
        let mut expected = vec![0; rules.len()];
        for packet in &packets {
            taps[packet.ingress].write(&packet.bytes(), Checksum::Zero);
            if let Some(taker) = taker(&rules, packet) {
                expected[taker] += 1;
            }
        }
        let taken = counts(&tool, &rules);
        if taken != expected {
            let (at, mut before) = (format!("seed {seed}, round {round}, {mode}"), taken);
            for packet in &packets {
                taps[packet.ingress].write(&packet.bytes(), Checksum::Zero);
                let after = counts(&tool, &rules);
                let taker = taker(&rules, packet);
                let took = (0..rules.len()).find(|n| after[*n] > before[*n]);
                let rule = |n: Option<usize>| n.map(|n| &rules[n]);
                assert_eq!(
                    took,
                    taker,
                    "{at}: {packet:?}: {:#?}, not {:#?}",
                    rule(took),
                    rule(taker)
                );
                before = after;
            }
            panic!("{at}: the counts differ, and no packet alone shows it");
        }
        // The rules are not such that nothing matches.
        assert!(
            expected.iter().sum::<u64>() > PACKETS as u64 / 2,
            "seed {seed}"
        );
        assert!(
            expected.iter().filter(|count| **count > 0).count() > RULES / 2,
            "seed {seed}"
        );
    }
}

#[test]
fn random_rules_are_told_apart_in_generic_mode() {
    agrees("skb");
}

#[test]
fn random_rules_are_told_apart_in_native_mode() {
    agrees("native");
}
