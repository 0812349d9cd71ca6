//! Compares the compiled rules with a list of rules that is searched from one end to the other.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::select;

use super::change::Change;
use super::codec::key_of;
use super::heap::{Heap, plain};
use super::key::{Key, StoredRule};
use super::ports::{IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, Ports};
use super::probes::Probes;
use super::services::Service;
use super::slots::{FIRST_REVISION, Slot};
use super::sweep::Reached;
use super::table::Table;
use super::targets::{Target, Targets, set_of};
use super::words::of_word;
use crate::datapath::abi;
use crate::datapath::allocator::Marks;
use crate::datapath::maps::says_full;
use crate::model::{Adjacency, Backend, Match, Prefix, Proto, Rule, VlanId, Weight};

const PORTS: [&str; 8] = ["1", "2", "1-2", "2-5", "5", "1-65535", "any", "any"];
const VLANS: [Option<u16>; 2] = [None, Some(7)];
const INTERFACES: [Option<u32>; 2] = [None, Some(3)];

#[derive(Clone, Debug)]
struct Packet {
    src: IpAddr,
    dst: IpAddr,
    proto: u32,
    port: u16,
    vlan: Option<u16>,
    inner: Option<u16>,
    ifindex: u32,
}

fn addr(is_ipv6: bool, last: u8) -> IpAddr {
    if is_ipv6 {
        let [high, low] = [u16::from(last / 4), u16::from(last % 4)];
        IpAddr::from([0xfd00, 0, 0, high, 0, 0, 0, low])
    } else {
        IpAddr::from([10, 0, 0, last])
    }
}

fn prefix(is_ipv6: bool) -> impl Strategy<Value = Prefix> {
    let lengths: &[u8] = if is_ipv6 {
        &[0, 0, 62, 64, 126, 127, 128]
    } else {
        &[0, 0, 29, 30, 31, 32]
    };
    (0..8u8, select(lengths)).prop_map(move |(last, length)| {
        let net = IpNet::new(addr(is_ipv6, last), length).unwrap();
        net.trunc().try_into().unwrap()
    })
}

fn matches() -> impl Strategy<Value = Match> {
    any::<bool>().prop_flat_map(|is_ipv6| {
        let fields = (
            (prefix(is_ipv6), prefix(is_ipv6)),
            (select(&Proto::ALL[..]), select(&PORTS[..])),
            (select(&VLANS[..]), select(&VLANS[..])),
            select(&INTERFACES[..]),
        );
        fields.prop_map(
            |((dst, src), (proto, ports), (vlan, inner), ingress)| Match {
                dst,
                src,
                proto,
                ports: match proto {
                    Proto::Icmp => "any".parse().unwrap(),
                    _ => ports.parse().unwrap(),
                },
                vlan: vlan.and_then(VlanId::new),
                inner_vlan: inner.and_then(VlanId::new),
                ingress,
            },
        )
    })
}

fn packet() -> impl Strategy<Value = Packet> {
    let fields = (
        any::<bool>(),
        (0..8u8, 0..8u8),
        select(&[6u32, 17, 17, 132, 1, 58, 47][..]),
        select(&[0u16, 1, 2, 3, 5, 6, 65535][..]),
        (select(&VLANS[..]), select(&VLANS[..])),
        2..4u32,
    );
    fields.prop_map(
        |(is_ipv6, (src, dst), proto, port, (vlan, inner), ifindex)| Packet {
            src: addr(is_ipv6, src),
            dst: addr(is_ipv6, dst),
            proto,
            port,
            vlan,
            inner,
            ifindex,
        },
    )
}

impl Packet {
    fn has_ports(&self) -> bool {
        [IPPROTO_UDP, IPPROTO_TCP, IPPROTO_SCTP].contains(&self.proto)
    }

    fn is_taken_by(&self, matches: &Match) -> bool {
        let proto = match matches.proto {
            Proto::Udp => self.proto == 17,
            Proto::Tcp => self.proto == 6,
            Proto::Sctp => self.proto == 132,
            Proto::Icmp => self.proto == if self.src.is_ipv6() { 58 } else { 1 },
            Proto::Any => true,
        };
        let has_port = (matches.ports.first()..=matches.ports.last()).contains(&self.port);
        let number = |vlan: Option<VlanId>| vlan.map(VlanId::get);
        proto
            && (matches.ports.is_any() || self.has_ports() && has_port)
            && matches.src.contains(&self.src)
            && matches.dst.contains(&self.dst)
            && number(matches.vlan) == self.vlan
            && matches
                .inner_vlan
                .is_none_or(|inner| Some(inner.get()) == self.inner)
            && matches
                .ingress
                .is_none_or(|ifindex| ifindex == self.ifindex)
    }

    fn service(&self) -> u32 {
        let is_ipv6 = self.src.is_ipv6();
        let family = if is_ipv6 { abi::PORTS_IPV6 } else { 0 };
        let class = match self.proto {
            17 => family + abi::PORTS_UDP,
            6 => family + abi::PORTS_TCP,
            132 => family + abi::PORTS_SCTP,
            _ if is_ipv6 => abi::PORTS_OTHER6,
            _ => abi::PORTS_OTHER4,
        };
        let place = if self.has_ports() {
            self.port.into()
        } else {
            self.proto
        };
        class * abi::PORTS + place
    }

    /// The match with a probe that a rule for this packet has.
    fn key(&self, probe: u64) -> Option<Key> {
        let abi::probe {
            dst_len,
            src_len,
            flags,
            ..
        } = of_word(probe);
        let has = |flag| u32::from(flags) & flag != 0;
        if has(abi::PROBE_INNER_VLAN) && self.inner.is_none() {
            return None;
        }
        let prefix = |addr, length| {
            let net = IpNet::new(addr, length).unwrap();
            Prefix::try_from(net.trunc()).unwrap()
        };
        let vlan = |tag: Option<u16>| tag.and_then(VlanId::new);
        let masked = key_of(&Match {
            src: prefix(self.src, src_len),
            dst: prefix(self.dst, dst_len),
            vlan: vlan(self.vlan),
            inner_vlan: vlan(self.inner).filter(|_| has(abi::PROBE_INNER_VLAN)),
            ingress: Some(self.ifindex).filter(|_| has(abi::PROBE_IN)),
            ..Match::any_like(self.src)
        });
        Some(Key { probe, ..masked })
    }
}

/// Two slots in this process's memory.
struct Memory {
    heap: Heap,
    ports: Ports,
    probes: Cell<Vec<(u64, abi::probe_count)>>,
    live: Slot,
}

impl Memory {
    fn new(hash_key: u64) -> Self {
        let heap = plain::heap();
        heap.store().unwrap();
        let set = abi::ruleset {
            revision: FIRST_REVISION,
            hash_key,
            ..Default::default()
        };
        Memory {
            heap,
            ports: Ports::plain(),
            probes: Cell::default(),
            live: Slot { number: 0, set },
        }
    }

    fn begin(&self) -> Change<'_> {
        let staged = Slot {
            number: 1 - self.live.number,
            set: self.live.set,
        };
        let stored = self.probes.take();
        self.probes.set(stored.clone());
        let probes = Probes::new(stored, staged.number);
        self.heap.begin(self.live.set.kept).unwrap();
        Change::begin(&self.heap, &self.ports, probes, &self.live, staged).unwrap()
    }

    fn sweep(&self, change: &mut Change) {
        let reached = Reached::by(&self.heap, change, Marks::default()).unwrap();
        change.staged.set.kept = self.heap.keep_only(&reached.lines).unwrap();
    }

    /// The device of the action that a packet gets.
    fn find(&self, packet: &Packet) -> Option<u32> {
        let slot = &self.live;
        let line = self.ports.get(slot.number, packet.service());
        let service = Service::read(&self.heap, line).unwrap();
        let table = Table::of(&self.heap, &slot.set);
        let numbers = service.probes.iter().filter_map(|&probe| {
            let key = packet.key(probe)?;
            let found = table.find(slot.number, &key).unwrap();
            if let Some(only) = service.only {
                // It stands in the table, too.
                assert_eq!(
                    found.is_some(),
                    StoredRule::read(&self.heap, only).unwrap().key == key
                );
            }
            Some(found?.number)
        });
        let number = numbers.into_iter().next()?;
        let rule = StoredRule::read(&self.heap, number).unwrap();
        let set = set_of(&self.heap, rule.target).unwrap();
        let (action, maglev) = set.map_or((rule.target, None), |s| (s.members, Some(s.maglev)));
        if let (Some(_), Some(maglev)) = (service.only, maglev) {
            let only: abi::only_rule = self.heap.read(line).unwrap();
            assert_eq!((only.target, only.maglev, only.size), (action, maglev, 2));
        } else if service.only.is_some() {
            let only: abi::only_rule = self.heap.read(line).unwrap();
            assert_eq!(
                (only.target, only.size, only.counter),
                (action, 0, rule.counter)
            );
        }
        if let Some(maglev) = maglev {
            let last: abi::line = self.heap.read(maglev + abi::MAGLEV_LINES - 1).unwrap();
            assert_eq!(last[7] >> 56, 0, "behind the slots");
        }
        Some(self.heap.read::<abi::action>(action).unwrap().ifindex)
    }
}

/// A rule whose first backend has a device of this number, and another one if it is odd.
fn rule(matches: Match, device: u32) -> Rule {
    let backend = |last: u8| Backend {
        weight: Weight::new(1 + u16::from(last)).unwrap(),
        ..Backend::new(Adjacency {
            ifindex: device,
            ..Adjacency::example([10, 9, 9, last])
        })
    };
    Rule {
        backends: (0..=(device % 2) as u8).map(backend).collect(),
        ..Rule::new(matches)
    }
}

fn put(change: &mut Change, heap: &Heap, rule: &Rule) -> Result<()> {
    let counters: Vec<u32> = (0..rule.backends.len() as u32).collect();
    let target: Target = Targets::new(heap).write(rule, &counters, None)?;
    let key = key_of(&rule.matches);
    change.remove(&key)?;
    change.insert(&key, target)
}

#[derive(Clone, Debug)]
struct Edit {
    put: Vec<Match>,
    delete: Vec<prop::sample::Index>,
    replace: Vec<prop::sample::Index>,
    /// None: all of it; otherwise the run is killed after so many rules.
    stop_after: Option<usize>,
    sweep: bool,
}

fn edit() -> impl Strategy<Value = Edit> {
    let some = || prop::collection::vec(any::<prop::sample::Index>(), 0..8);
    let fields = (
        prop::collection::vec(matches(), 0..12),
        (some(), some()),
        prop::option::weighted(0.3, 0..14usize),
        prop::bool::weighted(0.3),
    );
    fields.prop_map(|(put, (delete, replace), stop_after, sweep)| Edit {
        put,
        delete,
        replace,
        stop_after,
        sweep,
    })
}

/// Makes an edit of the rules that a reference has; of a matching rule, its device. As the store does, it
/// sweeps where lines have run out.
fn apply(memory: &mut Memory, rules: &mut BTreeMap<Match, u32>, edit: &Edit, device: &mut u32) {
    let made = match try_to_apply(memory, rules, edit, device, edit.sweep) {
        Err(error) if says_full(&error) && !edit.sweep => {
            try_to_apply(memory, rules, edit, device, true)
        }
        made => made,
    };
    made.unwrap();
}

fn try_to_apply(
    memory: &mut Memory,
    rules: &mut BTreeMap<Match, u32>,
    edit: &Edit,
    device: &mut u32,
    sweep: bool,
) -> Result<()> {
    let mut change = memory.begin();
    if sweep {
        memory.sweep(&mut change);
    }
    let mut want = rules.clone();
    let all: Vec<Match> = want.keys().copied().collect();
    let some = |places: &[prop::sample::Index]| -> BTreeSet<Match> {
        let places = places.iter().filter(|_| !all.is_empty());
        places.map(|index| *index.get(&all)).collect()
    };
    let deleted = some(&edit.delete);
    for matches in &deleted {
        change.remove(&key_of(matches))?;
        want.remove(matches);
    }
    let replaced = some(&edit.replace);
    let new: BTreeSet<&Match> = edit.put.iter().chain(&replaced).collect();
    let after = want.len() + new.iter().filter(|m| !want.contains_key(m)).count();
    change.make_room(after as u32, new.len() as u32)?;
    for (done, matches) in new.into_iter().enumerate() {
        if edit.stop_after == Some(done) {
            return Ok(());
        }
        *device += 1;
        put(&mut change, &memory.heap, &rule(*matches, *device))?;
        want.insert(*matches, *device);
    }
    change.compile()?;
    change.staged.set.rules = after as u32;
    assert_eq!(change.numbers()?.len(), after);
    if edit.stop_after.is_none() {
        let (stored, staged) = (change.probes.stored(), change.staged);
        memory.heap.store()?;
        memory.probes.set(stored);
        memory.live = staged;
        *rules = want;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..Default::default() })]

    #[test]
    fn packets_meet_the_rule_that_comes_first_of_those_that_match(
        edits in prop::collection::vec(edit(), 1..8),
        packets in prop::collection::vec(packet(), 64),
        hash_key: u64,
    ) {
        let mut memory = Memory::new(hash_key);
        let (mut rules, mut device) = (BTreeMap::new(), 0);
        for edit in &edits {
            apply(&mut memory, &mut rules, edit, &mut device);
            for packet in &packets {
                let expected = rules.iter().find(|(m, _)| packet.is_taken_by(m));
                prop_assert_eq!(memory.find(packet), expected.map(|(_, &device)| device));
            }
        }
    }
}

fn named(text: &str) -> Match {
    Match {
        proto: Proto::Udp,
        ports: text.parse().unwrap(),
        ..Match::any_like([0; 4].into())
    }
}

fn changed(memory: &mut Memory, rules: &mut BTreeMap<Match, u32>, put: &[&str], gone: &[&str]) {
    let mut change = memory.begin();
    for name in gone {
        change.remove(&key_of(&named(name))).unwrap();
        rules.remove(&named(name));
    }
    let count = put.len() as u32;
    change.make_room(rules.len() as u32 + count, count).unwrap();
    for name in put {
        self::put(&mut change, &memory.heap, &rule(named(name), 2)).unwrap();
        rules.insert(named(name), 2);
    }
    change.compile().unwrap();
    change.staged.set.rules = rules.len() as u32;
    let (stored, staged) = (change.probes.stored(), change.staged);
    memory.heap.store().unwrap();
    memory.probes.set(stored);
    memory.live = staged;
}

#[test]
fn ports_of_a_range_share_a_service_and_one_rule_stands_in_it() {
    let (mut memory, mut rules) = (Memory::new(1), BTreeMap::new());
    let lines = |memory: &Memory| -> BTreeSet<u32> {
        let lines = memory.ports.lines(memory.live.number);
        lines.into_iter().filter(|&line| line != 0).collect()
    };
    let only = |memory: &Memory, port: u32| {
        let line = memory.ports.get(memory.live.number, port);
        Service::read(&memory.heap, line).unwrap().only
    };
    changed(&mut memory, &mut rules, &["1000-60000"], &[]);
    assert_eq!(lines(&memory).len(), 1);
    assert!(only(&memory, 7000).is_some());
    changed(&mut memory, &mut rules, &["7000"], &[]);
    assert_eq!(lines(&memory).len(), 2);
    assert!(only(&memory, 7000).is_none() && only(&memory, 7001).is_some());
    changed(&mut memory, &mut rules, &[], &["7000"]);
    assert_eq!(lines(&memory).len(), 1, "as it was before");
    assert!(only(&memory, 7000).is_some());
    changed(&mut memory, &mut rules, &[], &["1000-60000"]);
    assert_eq!(lines(&memory).len(), 0);
}

#[test]
fn the_only_rule_of_ipv6_stands_in_its_service_unless_it_names_source_and_destination() {
    let service = |src: &str, dst: &str| {
        let memory = Memory::new(1);
        let mut change = memory.begin();
        change.make_room(1, 1).unwrap();
        let rule = rule(
            Match {
                src: src.parse().unwrap(),
                dst: dst.parse().unwrap(),
                ..Match::any_like([0; 16].into())
            },
            2,
        );
        put(&mut change, &memory.heap, &rule).unwrap();
        change.compile().unwrap();
        let number = abi::PORTS_IPV6 * abi::PORTS + 7000;
        let line = memory.ports.get(change.staged.number, number);
        memory.heap.read::<abi::only_rule>(line).unwrap()
    };
    let word = |word: u32| word.to_be();
    for [src, dst] in [["fd00:1::/33", "::/0"], ["::/0", "fd00:1::/33"]] {
        let stored = service(src, dst);
        assert_eq!(u32::from(stored.kind), abi::SERVICE_ONLY);
        assert_eq!(stored.addr, [word(0xfd00_0001), 0, 0, 0]);
    }
    assert_eq!(service("::/0", "::/0").addr, [0; 4]);
    let both = service("fd00:1::/33", "fd00:2::/33");
    assert_eq!(u32::from(both.kind), abi::SERVICE_PROBES);
}

#[test]
fn a_sweep_frees_all_that_nobody_reaches() {
    let (mut memory, mut rules) = (Memory::new(1), BTreeMap::new());
    for _ in 0..100 {
        changed(&mut memory, &mut rules, &["1", "2-9"], &["1", "2-9"]);
    }
    changed(&mut memory, &mut rules, &["20"], &["1", "2-9"]);
    changed(&mut memory, &mut rules, &[], &["20"]);
    let mut change = memory.begin();
    memory.sweep(&mut change);
    // Nothing, a table with its guards, and the line with a free half.
    let table = Table::lines(super::table::buckets_for(0));
    assert_eq!(change.staged.set.kept, 1 + table + 1);
}

#[test]
fn more_probes_of_a_port_than_a_service_holds_are_refused() {
    let memory = Memory::new(1);
    let mut change = memory.begin();
    for last in 1..=257u16 {
        let matches = named(&format!("1-{}", last + 1));
        put_without_room(&mut change, &memory.heap, &rule(matches, 2));
    }
    let error = change.compile().unwrap_err().to_string();
    assert!(error.contains("match one port are the most"), "{error}");
}

fn put_without_room(change: &mut Change, heap: &Heap, rule: &Rule) {
    change.make_room(257, 257).unwrap();
    put(change, heap, rule).unwrap();
}
