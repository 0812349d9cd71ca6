//! Shows and changes the policy of an interface.

use std::str::FromStr;

use anyhow::Result;

use super::detach::named;
use crate::datapath::{self, Interface, Lock, Pins, RuleStore};
use crate::doctor::{self, checks};
use crate::host::device;
use crate::model::{Finding, NamedPolicy, Policy};

/// A policy that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySpec {
    Pass,
    Drop,
    /// To the device with this name, its own or an alternative one.
    Forward(String),
}

impl FromStr for PolicySpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("forward:")) {
            ("pass", _) => Ok(PolicySpec::Pass),
            ("drop", _) => Ok(PolicySpec::Drop),
            (_, Some("")) => Err("the device is missing".into()),
            (_, Some(device)) => Ok(PolicySpec::Forward(device.into())),
            _ => Err("it is one of pass, drop and forward:DEV".into()),
        }
    }
}

impl PolicySpec {
    pub(super) fn resolve(&self) -> Result<Policy> {
        let name = match self {
            PolicySpec::Pass => return Ok(Policy::Pass),
            PolicySpec::Drop => return Ok(Policy::Drop),
            PolicySpec::Forward(name) => name,
        };
        let device = device::by_name(name)?;
        device.require_ethernet_header()?;
        Ok(Policy::Forward {
            ifindex: device.ifindex,
            completes_checksum: device.completes_checksum()?,
        })
    }
}

/// An interface's policy, as it is or has become.
#[derive(Clone, Debug)]
pub struct PolicyReport {
    pub ifname: String,
    pub ifindex: u32,
    pub policy: NamedPolicy,
    /// It was another one before.
    pub changed: bool,
}

/// The policy of an interface.
pub fn policy(pins: &Pins, interface: &str) -> Result<PolicyReport> {
    let report = datapath::read(pins, || {
        let interface = find(pins, interface)?;
        let policy = interface.policy;
        report(pins, &interface, policy, false)
    })?;
    report.ok_or_else(|| datapath::not_attached(pins))
}

/// Changes the policy of an interface, at once.
pub fn set_policy(pins: &Pins, interface: &str, wanted: &PolicySpec) -> Result<PolicyReport> {
    let lock = Lock::take(pins)?;
    let interface = find(pins, interface)?;
    let wanted = wanted.resolve()?;
    let before = interface.policy;
    interface.set_policy(pins, &lock, &wanted)?;
    report(pins, &interface, wanted, before != wanted)
}

/// What the interface would lose by its policy.
pub fn check_policy(pins: &Pins, ifindex: u32) -> Result<Vec<Finding>> {
    let facts = doctor::of_interfaces(pins, &[ifindex])?;
    Ok(checks::of_policy(&facts))
}

/// A policy with the name of its device.
pub(super) fn named_policy(store: &RuleStore, policy: Policy) -> Result<NamedPolicy> {
    let is_there = match policy.device() {
        Some(ifindex) => store.has_egress(ifindex)?,
        None => false,
    };
    let ifname = policy
        .device()
        .filter(|_| is_there)
        .and_then(device::name_of);
    Ok(NamedPolicy { policy, ifname })
}

fn report(
    pins: &Pins,
    interface: &Interface,
    policy: Policy,
    changed: bool,
) -> Result<PolicyReport> {
    Ok(PolicyReport {
        ifname: interface.name(),
        ifindex: interface.ifindex,
        policy: named_policy(&RuleStore::open(pins)?, policy)?,
        changed,
    })
}

fn find(pins: &Pins, name: &str) -> Result<Interface> {
    let found = named(datapath::interfaces(pins)?, &[name.to_string()])?;
    let found = found.into_iter().next();
    found.ok_or_else(|| datapath::not_attached(pins))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_as_it_is_typed() {
        let forward = |device: &str| Ok(PolicySpec::Forward(device.into()));
        assert_eq!("pass".parse(), Ok(PolicySpec::Pass));
        assert_eq!("drop".parse(), Ok(PolicySpec::Drop));
        assert_eq!("forward:veth0".parse(), forward("veth0"));
        assert_eq!("forward:pass".parse(), forward("pass"));
        for bad in ["", "Pass", "forward", "forward:", "forward veth0", "reject"] {
            assert!(bad.parse::<PolicySpec>().is_err(), "{bad}");
        }
    }
}
