//! Random rules in the kernel and in the model, and packets that both see.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;

use super::case::Case;
use super::explained::EXPLAINED;
use super::memory::{self, Memory};
use super::rules::Shape;
use super::words::rows;
use super::{
    ANSWERS_AT_ONCE, Arrival, CAME, CHANGES_PER_ROUND, DEVICES, INTERFACES, ONE_BUFFER, PAGE,
    Tally, add_veth, attach, difference, ingress, policy,
};
use crate::fixture::model::{Action, Backend, Device, Mode, Model, Options, Outcome, Policy, Rule};
use crate::fixture::random::Packets;
use crate::fixture::random::questions::OURS;
use crate::fixture::run::{age_fragments, age_passed, hash_key, renew_passed};
use crate::fixture::{Ns, Pins, Tool};

pub struct Bed<'a> {
    ns: &'a Ns,
    pub tool: Tool<'a>,
    /// For messages.
    run: String,
    pub shape: Shape,
    /// What rules may remember connections for.
    pub options: Options,
    pub model: Model,
    pub ifindexes: HashMap<&'static str, u32>,
    arrivals: Vec<Arrival>,
    pub tallies: Vec<Tally>,
    /// The last packets, and at which interface each came.
    came: Vec<(usize, Vec<u8>)>,
    arrived: usize,
    /// Packets in several buffers that were redirected.
    pub long: u64,
    /// The next identifier of a counter.
    next_id: u64,
    memory: Memory,
}

impl<'a> Bed<'a> {
    pub fn new(ns: &'a Ns, pins: &'a Pins, rng: &mut Rng, run: String, turn: usize) -> Self {
        let mtus = DEVICES.map(|name| (name, [1000, 1280, 1500, 9000, 9000][rng.usize(..5)]));
        for (name, mtu) in mtus {
            add_veth(ns, name, mtu);
        }
        ns.exec("ethtool -K off tx off");
        let tool = Tool { ns, pins };
        let arrivals = attach(&tool);
        let mut model = Model::default();
        model.hash_key = hash_key(pins);
        let options;
        (options, model.ports) = memory::choose(turn);
        let interfaces = INTERFACES.map(|(name, _, mtu)| (name, mtu));
        for (name, mtu) in mtus.into_iter().chain(interfaces) {
            let device = Device {
                mac: ns.mac(name),
                mtu,
                completes: name != "off",
                gone: false,
            };
            model.devices.insert(name, device);
        }
        let shape = Shape::ALL[rng.usize(..Shape::ALL.len())];
        let mut bed = Bed {
            ns,
            tool,
            run: format!("{run}, {shape:?}, {options:?}"),
            shape,
            options,
            ifindexes: model
                .devices
                .keys()
                .map(|&name| (name, ns.ifindex(name)))
                .collect(),
            memory: Memory::default(),
            model,
            arrivals,
            tallies: vec![Tally::new(); INTERFACES.len()],
            came: Vec::new(),
            arrived: 0,
            long: 0,
            next_id: 0,
        };
        let size = shape.size(rng);
        bed.load_rules(rng, size);
        match turn % 6 {
            0 | 1 => bed.set_policy(INTERFACES[0].0, Policy::Forward("late")),
            2 => bed.set_policy(INTERFACES[1].0, Policy::Drop),
            3 => bed.set_policy(INTERFACES[3].0, Policy::Forward("late")),
            _ => {}
        }
        bed.remove_device("gone");
        bed.rules_changed();
        bed
    }

    pub fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn rules_changed(&mut self) {
        self.memory.rules_changed(self.tool.pins, &self.model);
    }

    fn remove_device(&mut self, name: &str) {
        self.ns.ip(&format!("link del {name}"));
        self.model.devices.get_mut(name).unwrap().gone = true;
    }

    pub fn round(&mut self, rng: &mut Rng, count: u64) {
        let mut packets = Packets::new();
        let between = count.div_ceil(CHANGES_PER_ROUND).max(1);
        let late = rng.u64(count / 3..=count);
        for n in 0..count {
            let change = n % between == between - 1;
            if change {
                self.memory.compare(&self.model);
                self.change(rng);
                self.rules_changed();
                if rng.u8(..12) == 0 {
                    let some = (0..EXPLAINED)
                        .map(|_| self.packet(rng, &mut packets))
                        .collect();
                    self.explain(rng, some);
                }
            }
            if n == late {
                self.remove_device("late");
            }
            if rng.u64(..between) == 0 {
                age_fragments(self.tool.pins, Duration::from_secs(31));
                age_passed(self.tool.pins, Duration::MAX);
                self.model.forget_fragments();
            }
            if rng.u64(..between) == 0 {
                age_passed(self.tool.pins, Duration::MAX);
                self.model.forget_passed();
            }
            // What was there before must not outlive that.
            if change || n == late {
                packets.recent().iter().for_each(|p| self.arrives(rng, p));
            }
            if rng.u8(..32) == 0 {
                self.memory.pass_time(rng, &mut self.model);
            }
            let packet = self.packet(rng, &mut packets);
            self.arrives(rng, &packet);
        }
        self.memory.compare(&self.model);
    }

    /// The next packet: of a connection, an ICMP error about one, or any.
    fn packet(&self, rng: &mut Rng, packets: &mut Packets) -> Vec<u8> {
        let flow = self.memory.flow(rng, &self.model);
        match flow.filter(|_| rng.u8(..3) == 0) {
            Some(flow) if rng.u8(..4) == 0 => packets.error(rng, flow.back()),
            Some(flow) => packets.along(rng, flow),
            None => packets.next(rng, &self.model.rules),
        }
    }

    /// At one interface or at two, in any order.
    fn arrives(&mut self, rng: &mut Rng, packet: &[u8]) {
        self.arrived += 1;
        if self.arrived.is_multiple_of(ANSWERS_AT_ONCE) {
            self.forget_answers();
        }
        let mut at: Vec<usize> = (0..INTERFACES.len()).collect();
        rng.shuffle(&mut at);
        at.truncate(if rng.u8(..4) == 0 { 1 } else { 2 });
        if packet.len() > ONE_BUFFER {
            at = vec![2];
        }
        at.retain(|&at| INTERFACES[at].1 != Mode::Tc || may_be_an_skb(packet));
        at.into_iter().for_each(|at| drop(self.agree(at, packet)));
    }

    /// As it arrives at an interface, whose MAC address some packets have.
    pub fn addressed(&self, at: usize, packet: &[u8]) -> Vec<u8> {
        let mut packet = packet.to_vec();
        if packet.starts_with(&OURS) {
            packet[..6].copy_from_slice(&self.model.devices[INTERFACES[at].0].mac);
        }
        packet
    }

    /// Panics unless program and model agree on the packet. The outcome, and the frame that was left.
    pub fn agree(&mut self, at: usize, packet: &[u8]) -> (Outcome, Vec<u8>) {
        let packet = &self.addressed(at, packet)[..];
        if self.model.comes_late(packet) {
            // The model has no clock.
            renew_passed(self.tool.pins);
        }
        if self.came.len() == 2 * CAME {
            self.came.drain(..CAME);
        }
        self.came.push((at, packet.to_vec()));
        let here = &self.arrivals[at];
        let memory = Some(&self.memory);
        let (outcome, out, difference) =
            difference(ingress(at), &mut self.model, packet, here, memory);
        if let Some(difference) = difference {
            // To find a small case takes minutes.
            eprintln!("{}, {}\n{difference}", self.run, INTERFACES[at].0);
            let case = Case {
                devices: self.model.devices.clone(),
                policies: self.model.policies.clone(),
                rules: self.model.rules.clone(),
                ports: self.model.ports,
                packets: std::mem::take(&mut self.came),
            };
            let case = case.shrunk();
            let case = case.unwrap_or_else(|| format!("{difference}\n{}", self.circumstances()));
            panic!("{}, {}\n{case}", self.run, INTERFACES[at].0);
        }
        if packet.len() > PAGE && outcome == "redirected" {
            self.long += 1;
        }
        let count = self.tallies[at].entry(outcome).or_default();
        *count = (count.0 + 1, count.1 + packet.len() as u64);
        (outcome, out)
    }

    /// So many answers as the program sends in a second may follow.
    pub fn forget_answers(&mut self) {
        self.arrived = 0;
        let programs = self.arrivals.iter().map(|arrival| &arrival.program);
        programs.for_each(|program| program.forget_answers());
    }

    fn circumstances(&self) -> String {
        let mut rules = self.model.rules.clone();
        rules
            .iter_mut()
            .for_each(|rule| rule.table = Default::default());
        let Model {
            devices, policies, ..
        } = &self.model;
        format!("rules: {rules:#?}\ndevices: {devices:#?}\npolicies: {policies:#?}")
    }

    pub fn compare_statistics(&self) {
        let stats = self.tool.json("stats");
        for ((name, ..), tally) in INTERFACES.iter().zip(&self.tallies) {
            let interfaces = stats["interfaces"].as_array().expect("interfaces");
            let interface = interfaces.iter().find(|i| i["ifname"] == *name).unwrap();
            let counted: BTreeMap<&str, (u64, u64)> = interface["outcomes"]
                .as_object()
                .expect("outcomes")
                .iter()
                .map(|(outcome, count)| {
                    let number = |key: &str| count[key].as_u64().expect("a number");
                    (outcome.as_str(), (number("packets"), number("bytes")))
                })
                .filter(|(_, count)| count.0 > 0)
                .collect();
            assert_eq!(counted, *tally, "{}: statistics of {name}", self.run);
        }
        let counted: BTreeMap<String, (u64, u64)> = stats["rules"]
            .as_array()
            .expect("rules")
            .iter()
            .map(|row| {
                let number = |key: &str| row[key].as_u64().expect("a number");
                (
                    key(row),
                    (number("forward_packages"), number("forward_bytes")),
                )
            })
            .collect();
        let expected: BTreeMap<String, (u64, u64)> = self
            .model
            .rules
            .iter()
            .flat_map(|rule| self.counts(rule))
            .collect();
        assert_eq!(counted, expected, "{}: statistics of rules", self.run);
    }

    /// Of the rule or of its backends, each by its row.
    fn counts(&self, rule: &Rule) -> Vec<(String, (u64, u64))> {
        let ids: Vec<u64> = match rule.action {
            Action::Redirect => rule
                .backends
                .iter()
                .map(|backend: &Backend| backend.id)
                .collect(),
            _ => vec![rule.id],
        };
        let count = |id| self.model.counts.get(&id).copied().unwrap_or_default();
        let rows = rows(rule, &self.ifindexes);
        rows.iter()
            .zip(ids)
            .map(|(row, id)| (key(row), count(id)))
            .collect()
    }

    pub fn set_policy(&mut self, name: &'static str, new: Policy) {
        self.tool.ok(&format!("policy {name} {}", policy(new)));
        self.model.policies.insert(name, new);
    }
}

/// What tells a row from others.
fn key(row: &Value) -> String {
    [
        "dst",
        "src",
        "proto",
        "port",
        "vlan",
        "inner_vlan",
        "in",
        "server",
    ]
    .map(|key| row[key].to_string())
    .join(" ")
}

/// Test runs of tc programs take no frame that is shorter than its type says.
pub fn may_be_an_skb(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.len() >= 14 + 20,
        Some([0x86, 0xdd]) => frame.len() >= 14 + 40,
        _ => true,
    }
}
