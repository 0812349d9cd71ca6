//! Shows and changes the policy of an interface.

use anyhow::Result;

use super::detach::named;
use crate::datapath::{self, Interface, Lock, Pins, RuleStore};
use crate::doctor::{self, checks};
use crate::host::device;
use crate::model::{Finding, ForAnswers, NamedPolicy, Policy, PolicySpec};

/// The policy that is asked for, with the device as it is now.
pub(super) fn resolve(spec: &PolicySpec) -> Result<Policy> {
    let name = match spec {
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

/// An interface's policy, as it is or has become.
#[derive(Clone, Debug)]
pub struct PolicyReport {
    pub ifname: String,
    pub ifindex: u32,
    pub policy: NamedPolicy,
    /// It was another one before.
    pub changed: bool,
    /// What rules need, where somebody had detached it.
    pub for_answers: ForAnswers,
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

/// Changes the policy of an interface, as a revision.
pub fn set_policy(pins: &Pins, interface: &str, wanted: &PolicySpec) -> Result<PolicyReport> {
    let lock = Lock::take(pins)?;
    let interface = find(pins, interface)?;
    let wanted = resolve(wanted)?;
    let before = interface.policy;
    let for_answers = interface.set_policy(pins, &lock, &wanted)?;
    let report = report(pins, &interface, wanted, before != wanted)?;
    Ok(PolicyReport {
        for_answers,
        ..report
    })
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
        for_answers: ForAnswers::default(),
    })
}

/// The interface with this name, which has to be attached.
pub(super) fn find(pins: &Pins, name: &str) -> Result<Interface> {
    let found = named(datapath::interfaces(pins)?, &[name.to_string()])?;
    let found = found.into_iter().next();
    found.ok_or_else(|| datapath::not_attached(pins))
}
