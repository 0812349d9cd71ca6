//! The policies of the interfaces, in the kernel. Each is one word, for each of the two slots.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags};

use super::interface::Interface;
use super::maps::Map;
use super::ruleset::slots::Slots;
use super::stances::{Stances, interfaces};
use super::{Lock, Pins, RuleStore, abi};
use crate::error::{Exit, failure};
use crate::host::device::{self, Device};
use crate::model::policy::arrives_at;
use crate::model::{ForAnswers, NamedPolicy, Plan, Policy, Purpose, Remedy, Verb};

impl Interface {
    /// Changes what becomes of the frames that no rule matches, as a revision. What it forwards to can be redirected
    /// to from now on. Exit 4 where the interface serves answers alone: it would go with the rules that need
    /// it, and the policy with it.
    pub fn set_policy(&self, pins: &Pins, lock: &Lock, policy: &Policy) -> Result<ForAnswers> {
        if self.purpose == Purpose::Answers {
            let why = format!("{} is attached for answers alone", self.name());
            let attach = Remedy::from("run ") + Verb::attach(&self.name()) + " first";
            return Err(failure(Exit::Conflict, (why, attach)));
        }
        require_no_loop(pins, &[(self.ifindex, self.name(), *policy)], |_| false)?;
        let mut stances = Stances::default();
        if *policy != self.policy {
            stances.set(self.ifindex, policy, Purpose::Rules);
        }
        let store = RuleStore::open(pins)?;
        let opened = policy.device().into_iter().collect();
        let change = store.begin_with(lock, &opened, stances)?;
        change.stage(Plan::default())?.publish()
    }

    /// Whether a change may have left it without a rule that needs it. That is asked of one that serves
    /// answers alone.
    pub(super) fn is_unsettled(&self, pins: &Pins) -> Result<bool> {
        Ok(has(&now(pins, self.ifindex)?, abi::POLICY_UNSETTLED))
    }

    /// Notes whether that is so.
    pub(super) fn set_unsettled(&self, pins: &Pins, unsettled: bool) -> Result<()> {
        let before = now(pins, self.ifindex)?;
        let others = before.flags & !(abi::POLICY_UNSETTLED as u16);
        let flags = match unsettled {
            true => others | abi::POLICY_UNSETTLED as u16,
            false => others,
        };
        put_now(pins, self.ifindex, &abi::policy { flags, ..before })
    }
}

/// What an interface is attached for.
pub(super) fn purpose(stance: &abi::policy) -> Purpose {
    match has(stance, abi::POLICY_ANSWERS_ONLY) {
        true => Purpose::Answers,
        false => Purpose::Rules,
    }
}

/// What an interface does while a slot's rule set is live.
pub(super) fn entry(pins: &Pins, ifindex: u32, slot: u32) -> Result<abi::policy> {
    let policy = map(pins, ifindex)?.get(&slot)?;
    policy.context("an interface without a policy")
}

/// What it does now. The caller holds the lock.
fn now(pins: &Pins, ifindex: u32) -> Result<abi::policy> {
    entry(pins, ifindex, Slots::open(pins)?.live()?.number)
}

/// Changes that, in one write. The caller holds the lock.
fn put_now(pins: &Pins, ifindex: u32, stance: &abi::policy) -> Result<()> {
    let slot = Slots::open(pins)?.live()?.number;
    map(pins, ifindex)?.put(&slot, stance)
}

fn has(policy: &abi::policy, flag: u32) -> bool {
    u32::from(policy.flags) & flag != 0
}

/// A policy that was just resolved, with the name of its device.
pub(super) fn named(policy: Policy) -> NamedPolicy {
    NamedPolicy {
        policy,
        ifname: policy.device().and_then(device::name_of),
    }
}

/// Exit 2 where what these interfaces forward, by the policies that they are to have, comes back to where it
/// arrived: it would be forwarded again, without an end. Some others may end with the same change.
pub(super) fn require_no_loop(
    pins: &Pins,
    changed: &[(u32, String, Policy)],
    ends: impl Fn(u32) -> bool,
) -> Result<()> {
    if changed.iter().all(|(.., policy)| policy.device().is_none()) {
        return Ok(());
    }
    let mut forwards: HashMap<u32, u32> = forwarding(pins)?.collect();
    forwards.retain(|ifindex, _| !ends(*ifindex));
    for (ifindex, _, policy) in changed {
        match policy.device() {
            Some(leaves_by) => forwards.insert(*ifindex, leaves_by),
            None => forwards.remove(ifindex),
        };
    }
    let peers: HashMap<u32, u32> = device::all()?.iter().filter_map(peer).collect();
    let other_end = |ifindex| peers.get(&ifindex).copied();
    let next = |ifindex| forwards.get(&ifindex).copied();
    for (ifindex, name, policy) in changed {
        let Some(leaves_by) = policy.device() else {
            continue;
        };
        if *ifindex == leaves_by {
            let message =
                format!("{name}: frames that arrive there cannot be forwarded to {name} itself");
            return Err(failure(Exit::Usage, message));
        }
        if arrives_at(*ifindex, leaves_by, other_end, next) {
            let device = device::name_of(leaves_by).unwrap_or_else(|| leaves_by.to_string());
            let message = format!(
                "{name}: frames that leave by {device} come back to {name}, and would be forwarded without an end"
            );
            return Err(failure(Exit::Usage, message));
        }
    }
    Ok(())
}

/// The other end of a pair, if that is in this network namespace.
fn peer(device: &Device) -> Option<(u32, u32)> {
    let peer = device
        .link
        .filter(|_| device.is_pair() && device.link_nsid.is_none())?;
    Some((device.ifindex, peer))
}

/// Into a map that is not pinned yet, for both slots.
pub(super) fn put(map: &impl MapCore, stance: &abi::policy) -> Result<()> {
    for slot in 0..map.max_entries() {
        let written = map.update(abi::bytes_of(&slot), abi::bytes_of(stance), MapFlags::ANY);
        written.context("cannot write the policy")?;
    }
    Ok(())
}

/// The devices that the policies forward to.
pub(super) fn devices(pins: &Pins) -> Result<BTreeSet<u32>> {
    Ok(forwarding(pins)?.map(|(_, device)| device).collect())
}

/// The interfaces whose policies forward, each with the device.
fn forwarding(pins: &Pins) -> Result<impl Iterator<Item = (u32, u32)>> {
    let of = |interface: Interface| Some((interface.ifindex, interface.policy.device()?));
    Ok(interfaces(pins)?.into_iter().filter_map(of))
}

/// Policies that forward to a device that is gone lose its index, before another one is opened with it:
/// frames would go out by the new one.
pub(super) fn disconnect(pins: &Pins, gone: &BTreeSet<u32>) -> Result<()> {
    for interface in interfaces(pins)? {
        let device = interface.policy.device();
        if device.is_some_and(|device| gone.contains(&device)) {
            let now = now(pins, interface.ifindex)?;
            put_now(pins, interface.ifindex, &abi::policy { ifindex: 0, ..now })?;
        }
    }
    Ok(())
}

pub(super) fn map(pins: &Pins, ifindex: u32) -> Result<Map<u32, abi::policy>> {
    Map::open(&pins.interface_map(ifindex, "policy"), "policy")
}

pub(super) fn encode(policy: &Policy, purpose: Purpose) -> abi::policy {
    let kind = match policy {
        Policy::Pass => abi::POLICY_PASS,
        Policy::Drop => abi::POLICY_DROP,
        Policy::Forward { .. } => abi::POLICY_FORWARD,
    };
    let (ifindex, checksum) = match *policy {
        Policy::Forward {
            ifindex,
            completes_checksum: true,
        } => (ifindex, abi::POLICY_COMPLETES_CHECKSUM),
        Policy::Forward { ifindex, .. } => (ifindex, 0),
        _ => (0, 0),
    };
    let purpose = match purpose {
        Purpose::Rules => 0,
        Purpose::Answers => abi::POLICY_ANSWERS_ONLY | abi::POLICY_UNSETTLED,
    };
    abi::policy {
        kind: kind as u16,
        flags: (checksum | purpose) as u16,
        ifindex,
    }
}

pub(super) fn decode(policy: abi::policy) -> Policy {
    match policy.kind.into() {
        abi::POLICY_DROP => Policy::Drop,
        abi::POLICY_FORWARD => Policy::Forward {
            ifindex: policy.ifindex,
            completes_checksum: has(&policy, abi::POLICY_COMPLETES_CHECKSUM),
        },
        _ => Policy::Pass,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_survive_the_kernel() {
        let forward = |ifindex, completes_checksum| Policy::Forward {
            ifindex,
            completes_checksum,
        };
        for policy in [
            Policy::Pass,
            Policy::Drop,
            forward(7, true),
            forward(i32::MAX as u32, false),
        ] {
            for purpose in [Purpose::Rules, Purpose::Answers] {
                assert_eq!(decode(encode(&policy, purpose)), policy);
            }
        }
    }
}
