//! Services: which rules a protocol and port can have. A service is compiled again when its probes
//! change. It goes into new lines, so that the lines of the live rule set stay as they are.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use anyhow::Result;

use super::heap::Heap;
use super::key::{StoredRule, is_ipv6};
use super::ports::{Ports, services_of};
use super::probes::{Probes, order};
use super::room::PORT_PROBES;
use super::words::{of_word, word_of};
use crate::datapath::abi;

/// The lines of the longest service. This program writes none that is longer: a longer one is
/// damaged, and its lines may form a cycle.
const MOST_LINES: u32 = abi::MAX_PORT_PROBES.div_ceil(abi::LINE_PROBES);

/// A service as it lies in its lines.
#[derive(Debug, PartialEq, Eq)]
pub struct Service {
    /// Sorted.
    pub probes: Vec<u64>,
    /// The number of the only rule, where the service has that itself.
    pub only: Option<u32>,
    pub lines: Vec<u32>,
}

impl Service {
    /// The service in a line; without probes where there is none.
    pub fn read(heap: &Heap, first: u32) -> Result<Self> {
        let mut service = Service {
            probes: Vec::new(),
            only: None,
            lines: Vec::new(),
        };
        let mut line = first;
        for _ in 0..MOST_LINES {
            let stored: abi::service = heap.read(line)?;
            match u32::from(stored.kind) {
                abi::SERVICE_ONLY if line == first => {
                    let stored: abi::only_rule = heap.read(line)?;
                    service.probes.push(word_of(&stored.probe));
                    service.only = Some(stored.rule);
                    service.lines.push(line);
                    return Ok(service);
                }
                abi::SERVICE_PROBES => {
                    let count = (stored.count as usize).min(stored.probe.len());
                    let probes = stored.probe[..count].iter();
                    service.probes.extend(probes.map(word_of));
                    service.lines.push(line);
                    line = stored.next;
                }
                _ => break,
            }
        }
        Ok(service)
    }
}

/// The services of the staged rule set.
pub struct Compiler<'a> {
    heap: &'a Heap,
    ports: &'a Ports,
    probes: &'a Probes,
    slot: u32,
    /// The services that were written for these probes.
    written: HashMap<Vec<u64>, u32>,
}

impl<'a> Compiler<'a> {
    pub fn new(heap: &'a Heap, ports: &'a Ports, probes: &'a Probes, slot: u32) -> Self {
        Compiler {
            heap,
            ports,
            probes,
            slot,
            written: HashMap::new(),
        }
    }

    /// Compiles the services that have one of the probes, or had one.
    pub fn compile(&mut self, changed: &[u64]) -> Result<()> {
        let mut active: Vec<u64> = Vec::new();
        let mut start = 0;
        for (edge, Edge { begun, ended }) in edges(changed) {
            if !active.is_empty() {
                self.compile_range(start..=edge - 1, &active)?;
            }
            active.retain(|probe| !ended.contains(probe));
            active.extend(begun);
            // Before they are too many to go on with: those that go are within the limit, too.
            if !PORT_PROBES.allows(active.len()) {
                let staged = |probe: &&u64| self.probes.get(**probe).rules > 0;
                PORT_PROBES.require(active.iter().filter(staged).count())?;
            }
            start = edge;
        }
        Ok(())
    }

    /// Compiles services that some changed probes all belong to.
    fn compile_range(&mut self, range: RangeInclusive<u32>, changed: &[u64]) -> Result<()> {
        // Services that were one go on being one.
        let mut replaced = HashMap::new();
        for number in range.clone() {
            let old = self.ports.get(self.slot, number);
            let new = match replaced.get(&old) {
                Some(&new) => new,
                None => {
                    let new = self.service(old, changed, &range)?;
                    replaced.insert(old, new);
                    new
                }
            };
            self.ports.put(self.slot, number, new);
        }
        Ok(())
    }

    /// The line of the service that takes an old one's place.
    fn service(&mut self, old: u32, changed: &[u64], at: &RangeInclusive<u32>) -> Result<u32> {
        let mut probes = Service::read(self.heap, old)?.probes;
        probes.extend(changed);
        probes.retain(|&probe| self.probes.get(probe).rules > 0);
        probes.sort_unstable_by_key(|&probe| (order(probe), probe));
        probes.dedup();
        PORT_PROBES.require(probes.len())?;
        if probes.is_empty() {
            return Ok(0);
        }
        if let Some(&line) = self.written.get(&probes) {
            return Ok(line);
        }
        let only = self.only(&probes)?;
        let line = match self.neighbour(&probes, only.as_ref(), at)? {
            Some(line) => line,
            None => self.write(&probes, only.as_ref())?,
        };
        self.written.insert(probes, line);
        Ok(line)
    }

    /// The service before or behind these, if it is the same.
    fn neighbour(
        &self,
        probes: &[u64],
        only: Option<&abi::only_rule>,
        at: &RangeInclusive<u32>,
    ) -> Result<Option<u32>> {
        let [before, behind] = [at.start().checked_sub(1), at.end().checked_add(1)];
        let numbers = [before, behind.filter(|&number| number < abi::SLOT_PORTS)];
        for number in numbers.into_iter().flatten() {
            let line = self.ports.get(self.slot, number);
            let service = Service::read(self.heap, line)?;
            if service.probes == probes && service.only == only.map(|only| only.rule) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    fn write(&self, probes: &[u64], only: Option<&abi::only_rule>) -> Result<u32> {
        if let Some(only) = only {
            let line = self.heap.take()?;
            self.heap.write(line, only)?;
            return Ok(line);
        }
        let mut next = 0;
        for part in probes.chunks(abi::LINE_PROBES as usize).rev() {
            let mut stored = abi::service {
                kind: abi::SERVICE_PROBES as u8,
                count: part.len() as u16,
                next,
                ..Default::default()
            };
            for (to, from) in stored.probe.iter_mut().zip(part) {
                *to = of_word(*from);
            }
            next = self.heap.take()?;
            self.heap.write(next, &stored)?;
        }
        Ok(next)
    }

    /// The only rule that these probes have, where a service can hold it.
    fn only(&self, probes: &[u64]) -> Result<Option<abi::only_rule>> {
        let [probe] = *probes else { return Ok(None) };
        match self.probes.get(probe).only() {
            Some(number) => only_rule(self.heap, number),
            None => Ok(None),
        }
    }
}

/// The rule with a number as a service of its own; None where a service can't hold it.
fn only_rule(heap: &Heap, number: u32) -> Result<Option<abi::only_rule>> {
    let rule = StoredRule::read(heap, number)?;
    let probe: abi::probe = of_word(rule.key.probe);
    let mut only = abi::only_rule {
        kind: abi::SERVICE_ONLY as u8,
        target: rule.target,
        counter: rule.counter,
        place: of_word(rule.key.place),
        probe,
        rule: number,
        ..Default::default()
    };
    if is_ipv6(rule.key.probe) {
        only.addr = match (probe.src_len, probe.dst_len) {
            (_, 0) => rule.key.src,
            (0, _) => rule.key.dst,
            _ => return Ok(None),
        };
    } else {
        let [src_mask, dst_mask] = [probe.src_len, probe.dst_len].map(mask4);
        only.addr = [rule.key.src[0], rule.key.dst[0], src_mask, dst_mask];
    }
    let set: abi::set = heap.read(rule.target)?;
    if u32::from(set.kind) == abi::ACTION_BALANCE {
        (only.size, only.target, only.maglev) = (set.size, set.members, set.maglev);
        only.hash = set.hash;
    }
    Ok(Some(only))
}

/// The network mask of a prefix length, in network byte order.
fn mask4(length: u8) -> u32 {
    let host_bits = 32u32.saturating_sub(length.into());
    u32::MAX.checked_shl(host_bits).unwrap_or(0).to_be()
}

/// The probes whose services begin at a number, and those whose services end before it.
#[derive(Default)]
struct Edge {
    begun: Vec<u64>,
    ended: Vec<u64>,
}

fn edges(probes: &[u64]) -> BTreeMap<u32, Edge> {
    let mut edges: BTreeMap<u32, Edge> = BTreeMap::new();
    for &probe in probes {
        for range in services_of(probe) {
            edges.entry(*range.start()).or_default().begun.push(probe);
            edges.entry(*range.end() + 1).or_default().ended.push(probe);
        }
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(first: u16, last: u16, proto: u32) -> u64 {
        word_of(&abi::probe {
            first,
            last,
            proto: proto as u8,
            ..Default::default()
        })
    }

    #[test]
    fn any_protocol_has_the_services_of_all() {
        let some = services_of(probe(1, 9, abi::PROTO_ANY));
        assert_eq!(some.len(), 3);
        let all = services_of(probe(0, u16::MAX, abi::PROTO_ANY));
        let count: u32 = all.iter().map(|range| range.clone().count() as u32).sum();
        assert_eq!(count, 3 * abi::PORTS + 256);
        assert_eq!(services_of(probe(0, u16::MAX, 1)).len(), 1);
    }

    #[test]
    fn masks_are_in_network_byte_order() {
        assert_eq!(mask4(0), 0);
        assert_eq!(mask4(8).to_ne_bytes(), [255, 0, 0, 0]);
        assert_eq!(mask4(32), u32::MAX);
        assert_eq!(mask4(33), u32::MAX);
    }
}
