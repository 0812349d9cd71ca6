//! The devices that packets can be sent to.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context, Result};

use super::key::StoredRule;
use super::slots::Slot;
use super::table::Table;
use super::targets::actions_of;
use super::words::{of_word, word_of};
use super::{RuleStore, codec, room};
use crate::datapath::state::linked;
use crate::datapath::{Lock, abi, policy};
use crate::host::device;
use crate::model::{Action, OtherEnd, Rule};

/// So many devices are asked for one by one.
const FEW: usize = 16;

impl RuleStore {
    /// Whether packets can be sent to a device. The kernel forgets a device that is unregistered, even if
    /// another one gets its index.
    pub fn has_egress(&self, ifindex: u32) -> Result<bool> {
        Ok(self.egress.get(&ifindex)?.is_some())
    }

    /// Whether frames are handed to a device's other end, past its queue, at the tc hook.
    pub fn is_paired(&self, ifindex: u32) -> Result<bool> {
        let entry = ifindex % abi::PAIRED_ENTRIES;
        Ok(self.paired.get(&entry)? == Some(ifindex))
    }

    /// Takes devices that were unregistered off rules, as a change would.
    pub fn forget_gone(&self, rules: &mut [Rule]) -> Result<()> {
        let mut there = HashMap::new();
        for rule in rules {
            let backends = rule.backends.iter_mut();
            let backends = backends.map(|backend| &mut backend.adjacency.ifindex);
            let own = match &mut rule.action {
                Action::Forward { ifindex, .. } => Some(ifindex),
                _ => None,
            };
            for ifindex in backends.chain(own) {
                let is_there = match there.get(ifindex) {
                    Some(&known) => known,
                    None => self.has_egress(*ifindex)?,
                };
                there.insert(*ifindex, is_there);
                if !is_there {
                    *ifindex = 0;
                }
            }
        }
        Ok(())
    }

    /// Opens interfaces that are newly attached to the answers of connections, where some are remembered.
    pub fn open_to_answers(&self, _: &Lock, interfaces: &BTreeSet<u32>) -> Result<()> {
        if !self.remembers()? {
            return Ok(());
        }
        self.open_egress(interfaces)
    }

    /// Opens devices that are not open yet. Actions and policies with an unregistered device that had the
    /// same index lose it, or their packets would go out by the new one.
    pub(super) fn open_egress(&self, wanted: &BTreeSet<u32>) -> Result<()> {
        let open = BTreeSet::from_iter(self.egress.keys()?);
        self.note_pairs(&open.union(wanted).copied().collect())?;
        let is_closed = |ifindex: &u32| *ifindex != 0 && !open.contains(ifindex);
        let closed: BTreeSet<u32> = wanted.iter().copied().filter(is_closed).collect();
        if closed.is_empty() {
            return Ok(());
        }
        let actions = self.actions(&self.slots.live()?)?;
        self.require_egress_room(wanted, &actions)?;
        self.disconnect(&closed, &actions)?;
        policy::disconnect(&self.pins, &closed)?;
        for ifindex in closed {
            let opened = self.egress.put(&ifindex, &ifindex);
            opened.with_context(|| format!("ifindex {ifindex}"))?;
        }
        Ok(())
    }

    /// Looks again where the other ends of all open devices are. Returns those that are elsewhere than was known.
    pub fn find_other_ends(&self, _: &Lock) -> Result<Vec<OtherEnd>> {
        self.note_pairs(&BTreeSet::from_iter(self.egress.keys()?))
    }

    /// Notes which devices have their other end in another network namespace, now; returns those of which something
    /// else was known.
    fn note_pairs(&self, wanted: &BTreeSet<u32>) -> Result<Vec<OtherEnd>> {
        let mut moved = Vec::new();
        let mut devices = match wanted.len() {
            0..=FEW => Vec::new(),
            _ => device::all()?,
        };
        if devices.is_empty() {
            for &ifindex in wanted {
                devices.extend(device::by_index(ifindex)?);
            }
        }
        for device in devices.iter().filter(|d| wanted.contains(&d.ifindex)) {
            let entry = device.ifindex % abi::PAIRED_ENTRIES;
            let before = self.paired.get(&entry)?.unwrap_or_default();
            let now = match device.is_pair() && device.link_nsid.is_some() {
                true => device.ifindex,
                false if before == device.ifindex => 0,
                false => before,
            };
            if now != before {
                self.paired.put(&entry, &now)?;
                moved.push(OtherEnd {
                    ifname: device.name.clone(),
                    ifindex: device.ifindex,
                    in_other_netns: now == device.ifindex,
                });
            }
        }
        Ok(moved)
    }

    /// The devices where answers arrive that rules have translated. The caller holds the lock.
    pub fn answers_by(&self) -> Result<BTreeSet<u32>> {
        self.answers_in(&self.slots.live()?)
    }

    /// The same for the rules of a slot.
    pub(super) fn answers_in(&self, slot: &Slot) -> Result<BTreeSet<u32>> {
        let mut devices = BTreeSet::new();
        if slot.set.remembering == 0 {
            return Ok(devices);
        }
        for number in self.actions(slot)? {
            let action: abi::action = self.heap.read(number)?;
            if codec::translates(&action) && action.ifindex != 0 {
                devices.insert(action.ifindex);
            }
        }
        Ok(devices)
    }

    /// The lines of all actions of a slot's rules. The caller holds the lock.
    fn actions(&self, slot: &Slot) -> Result<Vec<u32>> {
        let mut targets = Vec::new();
        for number in Table::of(&self.heap, &slot.set).numbers(slot.number)? {
            targets.push(StoredRule::read(&self.heap, number)?.target);
        }
        targets.sort_unstable();
        targets.dedup();
        let mut actions = Vec::new();
        for target in targets {
            actions.extend(actions_of(&self.heap, target)?);
        }
        Ok(actions)
    }

    /// Takes devices from actions: the one thing that changes in what packets can reach.
    fn disconnect(&self, devices: &BTreeSet<u32>, actions: &[u32]) -> Result<()> {
        for &number in actions {
            let action: abi::action = self.heap.read(number)?;
            if devices.contains(&action.ifindex) {
                let line = self.heap.line_to_write(number)?;
                // In one piece, because packets read it.
                let [kind, _]: [u32; 2] = of_word(line[0].load(Relaxed));
                line[0].store(word_of(&[kind, 0]), Relaxed);
            }
        }
        Ok(())
    }

    /// Closes devices that no rule and no policy leads to where the room is needed.
    fn require_egress_room(&self, wanted: &BTreeSet<u32>, actions: &[u32]) -> Result<()> {
        let open = BTreeSet::from_iter(self.egress.keys()?);
        if room::EGRESS.allows(open.union(wanted).count()) {
            return Ok(());
        }
        let mut used = wanted.clone();
        for &number in actions {
            used.insert(self.heap.read::<abi::action>(number)?.ifindex);
        }
        used.extend(policy::devices(&self.pins)?);
        used.extend(linked(&self.pins)?); // answers leave there
        used.remove(&0);
        room::EGRESS.require(used.len())?;
        let mut unused = open.difference(&used);
        unused.try_for_each(|ifindex| self.egress.delete(ifindex))
    }
}

const _: () = assert!(std::mem::offset_of!(abi::action, ifindex) == 4);
