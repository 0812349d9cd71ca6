//! What each interface does while a slot's rule set is live: its policy, or nothing.
//!
//! The map `policy` of an interface has an entry for each slot. A change writes those of the staged slot, which
//! no packet reads, and they hold from the moment at which its rule set is published: rules, policies and
//! interfaces change at one instant. An interface that is dormant is not attached, though its program is
//! there already, or still.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::interface::Interface;
use super::ruleset::slots::Slots;
use super::state::linked;
use super::{Pins, abi, policy};
use crate::model::{Policy, Purpose};

/// How often they are read again while others change them.
const READS: usize = 100;

/// What a change makes of interfaces, by their indexes. The others stay as they are.
#[derive(Clone, Default)]
pub(super) struct Stances(BTreeMap<u32, abi::policy>);

impl Stances {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The interface is attached, with this policy.
    pub fn set(&mut self, ifindex: u32, policy: &Policy, purpose: Purpose) {
        self.0.insert(ifindex, policy::encode(policy, purpose));
    }

    /// The interface is attached no longer.
    pub fn end(&mut self, ifindex: u32) {
        self.0.insert(ifindex, dormant());
    }

    /// Whether that is so.
    pub fn ends(&self, ifindex: u32) -> bool {
        self.0.get(&ifindex).is_some_and(is_dormant)
    }

    /// The interfaces as they are once the change is published.
    pub fn interfaces(&self, pins: &Pins) -> Result<Vec<Interface>> {
        let mut all = now(pins)?;
        all.extend(&self.0);
        read(pins, all)
    }

    /// Writes what all interfaces are to do with the staged slot. Whether one is dormant then. The caller has
    /// waited until no packet is on its way through what was there.
    pub fn stage(&self, pins: &Pins, staged: u32) -> Result<bool> {
        let mut has_dormant = false;
        for (ifindex, now) in now(pins)? {
            let stance = self.0.get(&ifindex).unwrap_or(&now);
            policy::map(pins, ifindex)?.put(&staged, stance)?;
            has_dormant |= is_dormant(stance);
        }
        Ok(has_dormant)
    }
}

/// Of an interface that is not attached yet, or no longer.
pub(super) fn dormant() -> abi::policy {
    abi::policy {
        flags: abi::POLICY_DORMANT as u16,
        ..Default::default()
    }
}

fn is_dormant(stance: &abi::policy) -> bool {
    u32::from(stance.flags) & abi::POLICY_DORMANT != 0
}

/// What all interfaces with a link do, as it was at one moment, whatever other runs do meanwhile.
fn now(pins: &Pins) -> Result<BTreeMap<u32, abi::policy>> {
    let slots = Slots::open(pins)?;
    for _ in 0..READS {
        let live = slots.live()?;
        let stance = |ifindex| Ok((ifindex, policy::entry(pins, ifindex, live.number)?));
        let found = linked(pins)?.into_iter().map(stance).collect();
        if slots.is_unchanged(&live)? {
            return found;
        }
    }
    bail!(
        "the interfaces could not be read, because other runs change them all the time: try again"
    );
}

/// The indexes of the interfaces that are dormant.
pub(super) fn dormant_now(pins: &Pins) -> Result<Vec<u32>> {
    let all = now(pins)?.into_iter();
    let dormant = all.filter(|(_, stance)| is_dormant(stance));
    Ok(dormant.map(|(ifindex, _)| ifindex).collect())
}

/// The indexes of the attached interfaces.
pub fn attached(pins: &Pins) -> Result<Vec<u32>> {
    let all = match super::has_state(pins)? {
        true => now(pins)?.into_iter(),
        false => return Ok(Vec::new()),
    };
    let attached = all.filter(|(_, stance)| !is_dormant(stance));
    Ok(attached.map(|(ifindex, _)| ifindex).collect())
}

/// All attached interfaces, in the order of their indexes.
pub fn interfaces(pins: &Pins) -> Result<Vec<Interface>> {
    match super::has_state(pins)? {
        true => read(pins, now(pins)?),
        false => Ok(Vec::new()),
    }
}

fn read(pins: &Pins, stances: BTreeMap<u32, abi::policy>) -> Result<Vec<Interface>> {
    let attached = stances
        .into_iter()
        .filter(|(_, stance)| !is_dormant(stance));
    attached
        .map(|(ifindex, stance)| Interface::read(pins, ifindex, stance))
        .collect()
}
