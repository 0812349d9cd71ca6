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
use crate::model::{NamedPolicy, Policy};

impl Interface {
    /// What becomes of the frames that no rule matches.
    pub fn policy(&self, pins: &Pins) -> Result<Policy> {
        let policy = map(pins, self.ifindex)?.get(&0)?;
        Ok(decode(policy.context("an interface without a policy")?))
    }

    /// Changes that, at once. What it forwards to can be redirected to from now on.
    pub fn set_policy(&self, pins: &Pins, lock: &Lock, policy: &Policy) -> Result<()> {
        require_no_loop(pins, policy, &[(self.ifindex, &self.name())])?;
        open_device(pins, lock, policy)?;
        map(pins, self.ifindex)?.put(&0, &encode(policy))
    }
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
pub(super) fn put(map: &impl MapCore, policy: &Policy) -> Result<()> {
    let value = encode(policy);
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
        let map = map(pins, interface.ifindex)?;
        let stored = map.get(&0)?.context("an interface without a policy")?;
        if decode(stored)
            .device()
            .is_some_and(|device| gone.contains(&device))
        {
            map.put(
                &0,
                &abi::policy {
                    ifindex: 0,
                    ..stored
                },
            )?;
        }
    }
    Ok(())
}

fn map(pins: &Pins, ifindex: u32) -> Result<Map<u32, abi::policy>> {
    Map::open(&pins.interface_map(ifindex, "policy"), "policy")
}

fn encode(policy: &Policy) -> abi::policy {
    let kind = match policy {
        Policy::Pass => abi::POLICY_PASS,
        Policy::Drop => abi::POLICY_DROP,
        Policy::Forward { .. } => abi::POLICY_FORWARD,
    };
    let (ifindex, flags) = match *policy {
        Policy::Forward {
            ifindex,
            completes_checksum,
        } => (
            ifindex,
            if completes_checksum {
                abi::POLICY_COMPLETES_CHECKSUM
            } else {
                0
            },
        ),
        _ => (0, 0),
    };
    abi::policy {
        kind: kind as u16,
        flags: flags as u16,
        ifindex,
    }
}

fn decode(policy: abi::policy) -> Policy {
    match policy.kind.into() {
        abi::POLICY_DROP => Policy::Drop,
        abi::POLICY_FORWARD => Policy::Forward {
            ifindex: policy.ifindex,
            completes_checksum: policy.flags & abi::POLICY_COMPLETES_CHECKSUM as u16 != 0,
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
            assert_eq!(decode(encode(&policy)), policy);
        }
    }
}
