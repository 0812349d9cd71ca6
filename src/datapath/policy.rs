//! The policies of the interfaces, in the kernel. Each is one word: a change is one write.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags};

use super::interface::{Interface, interfaces};
use super::maps::Map;
use super::{Lock, Pins, RuleStore, abi};
use crate::error::{Exit, failure};
use crate::host::device::{self, Device};
use crate::model::policy::arrives_at;
use crate::model::{NamedPolicy, Policy, Purpose, Remedy, Verb};

impl Interface {
    /// What becomes of the frames that no rule matches.
    pub fn policy(&self, pins: &Pins) -> Result<Policy> {
        Ok(decode(stored(pins, self.ifindex)?))
    }

    /// Changes that, at once. What it forwards to can be redirected to from now on. Exit 4 where the
    /// interface serves answers alone: it would go with the rules that need it, and the policy with it.
    pub fn set_policy(&self, pins: &Pins, lock: &Lock, policy: &Policy) -> Result<()> {
        if self.purpose == Purpose::Answers {
            let why = format!("{} is attached for answers alone", self.name());
            let attach = Remedy::from("run ") + Verb::attach(&self.name()) + " first";
            return Err(failure(Exit::Conflict, (why, attach)));
        }
        self.serve_rules(pins, lock, policy)
    }

    /// Gives it a policy, and has rules take packets there from now on.
    pub(super) fn serve_rules(&self, pins: &Pins, lock: &Lock, policy: &Policy) -> Result<()> {
        require_no_loop(pins, policy, &[(self.ifindex, &self.name())])?;
        open_device(pins, lock, policy)?;
        map(pins, self.ifindex)?.put(&0, &encode(policy, Purpose::Rules))
    }

    /// Whether a change may have left it without a rule that needs it. That is asked of one that serves
    /// answers alone.
    pub(super) fn is_unsettled(&self, pins: &Pins) -> Result<bool> {
        Ok(has(&stored(pins, self.ifindex)?, abi::POLICY_UNSETTLED))
    }

    /// Notes whether that is so.
    pub(super) fn set_unsettled(&self, pins: &Pins, unsettled: bool) -> Result<()> {
        let before = stored(pins, self.ifindex)?;
        let others = before.flags & !(abi::POLICY_UNSETTLED as u16);
        let flags = match unsettled {
            true => others | abi::POLICY_UNSETTLED as u16,
            false => others,
        };
        map(pins, self.ifindex)?.put(&0, &abi::policy { flags, ..before })
    }
}

/// What an interface is attached for.
pub(super) fn purpose(pins: &Pins, ifindex: u32) -> Result<Purpose> {
    Ok(
        match has(&stored(pins, ifindex)?, abi::POLICY_ANSWERS_ONLY) {
            true => Purpose::Answers,
            false => Purpose::Rules,
        },
    )
}

fn stored(pins: &Pins, ifindex: u32) -> Result<abi::policy> {
    let policy = map(pins, ifindex)?.get(&0)?;
    policy.context("an interface without a policy")
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

/// Lets frames be redirected to the device of a policy.
pub(super) fn open_device(pins: &Pins, lock: &Lock, policy: &Policy) -> Result<()> {
    match policy.device() {
        Some(ifindex) => RuleStore::open(pins)?.open_device(lock, ifindex),
        None => Ok(()),
    }
}

/// Exit 2 where what a policy of these interfaces forwards comes back to where it arrived: it would be
/// forwarded again, without an end.
pub(super) fn require_no_loop(
    pins: &Pins,
    policy: &Policy,
    interfaces: &[(u32, &str)],
) -> Result<()> {
    let Some(leaves_by) = policy.device() else {
        return Ok(());
    };
    let mut forwards: HashMap<u32, u32> = forwarding(pins)?.collect::<Result<_>>()?;
    forwards.extend(interfaces.iter().map(|(ifindex, _)| (*ifindex, leaves_by)));
    let peers: HashMap<u32, u32> = device::all()?.iter().filter_map(peer).collect();
    let other_end = |ifindex| peers.get(&ifindex).copied();
    let next = |ifindex| forwards.get(&ifindex).copied();
    for &(ifindex, name) in interfaces {
        if ifindex == leaves_by {
            let message =
                format!("{name}: frames that arrive there cannot be forwarded to {name} itself");
            return Err(failure(Exit::Usage, message));
        }
        if arrives_at(ifindex, leaves_by, other_end, next) {
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

/// Into a map that is not pinned yet.
pub(super) fn put(map: &impl MapCore, policy: &Policy, purpose: Purpose) -> Result<()> {
    let value = encode(policy, purpose);
    let written = map.update(abi::bytes_of(&0u32), abi::bytes_of(&value), MapFlags::ANY);
    written.context("cannot write the policy")
}

/// The devices that the policies forward to.
pub(super) fn devices(pins: &Pins) -> Result<BTreeSet<u32>> {
    let devices = forwarding(pins)?.map(|pair| Ok(pair?.1));
    devices.collect()
}

/// The interfaces whose policies forward, each with the device.
fn forwarding(pins: &Pins) -> Result<impl Iterator<Item = Result<(u32, u32)>>> {
    let of = |interface: Interface| {
        let policy = interface.policy(pins);
        let pair = policy.map(|policy| Some((interface.ifindex, policy.device()?)));
        pair.transpose()
    };
    Ok(interfaces(pins)?.into_iter().filter_map(of))
}

/// Policies that forward to a device that is gone lose its index, before another one is opened with it:
/// frames would go out by the new one.
pub(super) fn disconnect(pins: &Pins, gone: &BTreeSet<u32>) -> Result<()> {
    for interface in interfaces(pins)? {
        let stored = stored(pins, interface.ifindex)?;
        if decode(stored)
            .device()
            .is_some_and(|device| gone.contains(&device))
        {
            let without = abi::policy {
                ifindex: 0,
                ..stored
            };
            map(pins, interface.ifindex)?.put(&0, &without)?;
        }
    }
    Ok(())
}

fn map(pins: &Pins, ifindex: u32) -> Result<Map<u32, abi::policy>> {
    Map::open(&pins.interface_map(ifindex, "policy"), "policy")
}

fn encode(policy: &Policy, purpose: Purpose) -> abi::policy {
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

fn decode(policy: abi::policy) -> Policy {
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
