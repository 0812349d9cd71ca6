//! A disagreement between program and model, made small: some packets, and rules that stay as they are.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::memory::Memory;
use super::words::{adding, load, rows};
use super::{Arrival, INTERFACES, add_veth, attach, difference, hex, ingress, policy};
use crate::fixture::model::{Backend, Device, Model, Policy, Rule};
use crate::fixture::packet::UDP;
use crate::fixture::run::{age_fragments, age_passed, hash_key, renew_passed};
use crate::fixture::{Ns, Pins, Tool};

#[derive(Clone)]
pub struct Case {
    pub devices: HashMap<&'static str, Device>,
    pub policies: HashMap<&'static str, Policy>,
    pub rules: Vec<Rule>,
    pub ports: (u16, u16),
    /// The packets that came last, with the interface of each. On the last one there is no agreement.
    pub packets: Vec<(usize, Vec<u8>)>,
}

impl Case {
    /// The smallest case that still fails, for people; None where it takes rules that change meanwhile.
    pub fn shrunk(mut self) -> Option<String> {
        let last = self.packets.len().checked_sub(1)?;
        let alone = Case {
            packets: self.packets[last..].to_vec(),
            ..self.clone()
        };
        if alone.fails() {
            self = alone;
        } else {
            let world = World::new(&self)?;
            world.difference(&self.packets)?;
            let fails = |packets: &[_]| world.difference(packets).is_some();
            self.packets = minimized(self.packets, fails);
        }
        self.shrink_rules();
        let world = World::new(&self)?;
        for n in 0..self.packets.len() {
            self.shrink_packet(&world, n);
        }
        let difference = world.difference(&self.packets)?;
        Some(self.to_text(&difference))
    }

    fn fails(&self) -> bool {
        World::new(self).is_some_and(|world| world.difference(&self.packets).is_some())
    }

    fn shrink_rules(&mut self) {
        let with = |rules: &[Rule]| Case {
            rules: rules.to_vec(),
            ..self.clone()
        };
        let mut rules = minimized(self.rules.clone(), |rules| with(rules).fails());
        for n in 0..rules.len() {
            let mut others = rules.clone();
            let mut fails = |backends: &[Backend]| {
                others[n].backends = backends.to_vec();
                others[n].backends_changed();
                !backends.is_empty() && with(&others).fails()
            };
            let all = rules[n].backends.clone();
            // Which one gets the packet depends on the others: one that fails alone is found first.
            let alone = all.iter().find(|one| fails(std::slice::from_ref(one)));
            rules[n].backends = match alone {
                Some(one) => vec![one.clone()],
                None => minimized(all, fails),
            };
            rules[n].backends_changed();
        }
        self.rules = rules;
    }

    /// First shorter, then with zeros.
    fn shrink_packet(&mut self, world: &World, n: usize) {
        let mut step = 4096;
        while step > 0 {
            let is_shorter = [false, true].into_iter().any(|partial| {
                let shorter = shortened(&self.packets[n].1, step, partial);
                shorter.is_some_and(|shorter| self.replaced(world, n, shorter))
            });
            if !is_shorter {
                step /= 2;
            }
        }
        for at in 0..self.packets[n].1.len() {
            let mut zeroed = self.packets[n].1.clone();
            if std::mem::take(&mut zeroed[at]) != 0 {
                self.replaced(world, n, zeroed);
            }
        }
    }

    /// Puts other bytes in place of a packet's if that still fails.
    fn replaced(&mut self, world: &World, n: usize, bytes: Vec<u8>) -> bool {
        let before = std::mem::replace(&mut self.packets[n].1, bytes);
        let fails = world.difference(&self.packets).is_some();
        if !fails {
            self.packets[n].1 = before;
        }
        fails
    }

    fn to_text(&self, difference: &str) -> String {
        let mut text = String::new();
        for (name, _) in self.devices.iter().filter(|(_, device)| device.gone) {
            let _ = writeln!(text, "  {name} is gone");
        }
        for (name, of) in &self.policies {
            let _ = writeln!(text, "  policy {name} {}", policy(*of));
        }
        for words in self.rules.iter().flat_map(adding) {
            let _ = writeln!(text, "  {words}");
        }
        for (at, packet) in &self.packets {
            let _ = writeln!(text, "  {}: {}", INTERFACES[*at].0, hex(packet));
        }
        text + difference
    }
}

/// A case's devices and rules, in namespaces of their own.
struct World {
    ns: Ns,
    pins: Pins,
    model: Model,
    programs: Vec<Arrival>,
    memory: Memory,
}

impl World {
    /// None where the rules cannot be added.
    fn new(case: &Case) -> Option<World> {
        let (ns, pins) = (Ns::new("case"), Pins::new());
        let tool = Tool {
            ns: &ns,
            pins: &pins,
        };
        let mut model = Model::default();
        let is_own = |name: &str| INTERFACES.iter().any(|interface| interface.0 == name);
        for (&name, device) in case.devices.iter().filter(|(name, _)| !is_own(name)) {
            add_veth(&ns, name, device.mtu);
            if !device.completes {
                ns.exec(&format!("ethtool -K {name} tx off"));
            }
        }
        let programs = attach(&tool);
        for (&name, device) in &case.devices {
            let device = Device {
                mac: ns.mac(name),
                ..device.clone()
            };
            model.devices.insert(name, device);
        }
        model.hash_key = hash_key(&pins);
        let ifindexes = case.devices.keys().map(|&name| (name, ns.ifindex(name)));
        let ifindexes: HashMap<&str, u32> = ifindexes.collect();
        let rows = case.rules.iter().flat_map(|rule| rows(rule, &ifindexes));
        if load(&tool, rows).code != 0 {
            return None;
        }
        for (name, of) in &case.policies {
            tool.ok(&format!("policy {name} {}", policy(*of)));
        }
        model.policies = case.policies.clone();
        model.rules = case.rules.clone();
        for (name, _) in case.devices.iter().filter(|(_, device)| device.gone) {
            ns.ip(&format!("link del {name}"));
        }
        model.ports = case.ports;
        let mut memory = Memory::default();
        memory.rules_changed(&pins, &model);
        Some(World {
            ns,
            pins,
            model,
            programs,
            memory,
        })
    }

    /// On the first packet where there is one.
    fn difference(&self, packets: &[(usize, Vec<u8>)]) -> Option<String> {
        age_fragments(&self.pins, Duration::from_secs(31));
        age_passed(&self.pins, Duration::MAX);
        self.memory.forget();
        let mut model = self.model.unseen();
        self.ns.enter(|| {
            packets.iter().find_map(|(at, packet)| {
                if model.comes_late(packet) {
                    renew_passed(&self.pins);
                }
                let here = &self.programs[*at];
                here.program.forget_answers();
                difference(ingress(*at), &mut model, packet, here, Some(&self.memory)).2
            })
        })
    }
}

/// Delta debugging: takes away halves, quarters, and so on, as long as what is left still fails.
fn minimized<T: Clone>(mut items: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut size = items.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        while start < items.len() {
            let mut fewer = items.clone();
            fewer.drain(start..(start + size).min(items.len()));
            if fails(&fewer) {
                items = fewer;
            } else {
                start += size;
            }
        }
        size /= 2;
    }
    items
}

/// A packet with so many bytes less at its end, which the length fields of IP and UDP then say, and the checksum, too,
/// where it is the partial one, which contains the length.
fn shortened(packet: &[u8], by: usize, partial: bool) -> Option<Vec<u8>> {
    let mut out = packet[..packet.len().checked_sub(by).filter(|len| *len >= 14)?].to_vec();
    let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let mut ip = 14;
    while [0x8100, 0x88a8].contains(&word(ip - 2)?) {
        ip += 4;
    }
    let (length, l4, proto) = match word(ip - 2)? {
        0x0800 => (ip + 2, ip + usize::from(packet.get(ip)? & 15) * 4, ip + 9),
        0x86dd => (ip + 4, ip + 40, ip + 6),
        _ => return Some(out),
    };
    let mut reduce = |at: usize| {
        let less = word(at)?.checked_sub(by as u16)?;
        out.get_mut(at..at + 2)?
            .copy_from_slice(&less.to_be_bytes());
        Some(())
    };
    reduce(length)?;
    let udp = *packet.get(proto)? == UDP;
    if udp {
        reduce(l4 + 4)?;
    }
    if partial {
        reduce(l4 + if udp { 6 } else { 16 })?;
    }
    Some(out)
}
