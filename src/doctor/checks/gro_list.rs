//! Peers whose GRO could hand datagrams over in lists, which costs their sockets less.

use super::remedies;
use crate::doctor::facts::{DeviceFacts, Facts, PeerFacts};
use crate::model::{Finding, Proto, Rule, Tool};

pub fn check(facts: &Facts, device: &DeviceFacts) -> Option<Finding> {
    let remote = device.peer().filter(|_| device.is("veth"))?;
    let is_wanted = takes_datagrams(facts, device) && facts.native().next().is_some();
    if !is_wanted || !joins_none(device, device.peer_facts.as_ref()?) {
        return None;
    }
    let switch = |name: &str| Tool::new("ethtool -K").arg(name).words("rx-gro-list on");
    Some(
        Finding::hint("gro-list", device.name())
            .consequence("UDP sockets behind it could take more in the same time")
            .evidence(format!(
                "GRO is on at its peer {remote}, but rx-gro-list, which joins datagrams, is off"
            ))
            .remedy(remedies::at_device(remote, switch)),
    )
}

/// GRO is of use only where it is on and no program runs, for which the kernel goes without.
fn joins_none(device: &DeviceFacts, there: &PeerFacts) -> bool {
    let peer = device.features.peer.as_ref();
    let has_gro = peer.is_some_and(|p| p.gro == Some(true) && p.native_program == Some(false));
    has_gro && there.gro_lists == Some(false) && !there.is_port
}

fn takes_datagrams(facts: &Facts, device: &DeviceFacts) -> bool {
    let ifindex = device.features.ifindex;
    let leads_there = |rule: &&Rule| rule.backends.iter().any(|b| b.ifindex == ifindex);
    let mut rules = facts.rules.iter().filter(leads_there);
    rules.any(|rule| rule.matches.proto == Proto::Udp)
}
