//! Backends whose MAC addresses are no longer those that the rules have.

use super::remedies;
use crate::doctor::facts::{BackendFacts, DeviceFacts, Facts, Neighbour};
use crate::model::{Finding, Mac, Refreshed};

pub fn check(setup: &Facts) -> Vec<Finding> {
    // Nobody else has an address of this host: there is none to compare.
    let others = setup
        .served()
        .filter(|(target, _)| !target.is_own || target.keep_ip);
    others
        .flat_map(|(target, link)| [destination(target, link), source(target, link)])
        .flatten()
        .collect()
}

fn destination(target: &BackendFacts, link: &DeviceFacts) -> Option<Finding> {
    if let Some(device) = &target.other_device {
        return Some(wrong_device(target, link, device));
    }
    if let Some(port) = &target.other_port {
        return Some(wrong_port(target, link, port));
    }
    if target.push_vlan {
        return None;
    }
    let neighbour = target.neighbour.as_ref();
    let has_address = || neighbour.is_none_or(|neighbour| neighbour.peer_has_address);
    let known = neighbour.map(|neighbour| neighbour.mac);
    let (evidence, to) = match contradiction(target.mac, end(link), known, has_address)? {
        Witness::Peer(mac) => {
            let evidence = format!("{} has {mac}", link.peer()?);
            (evidence, Refreshed::Mac(mac))
        }
        Witness::Neighbour(mac) => {
            let Neighbour { device, behind, .. } = neighbour?;
            let evidence = format!("the host's neighbour table {mac} on {device}");
            match behind {
                Some(port) => (format!("{evidence}, behind {port}"), Refreshed::Path),
                None => (evidence, Refreshed::Mac(mac)),
            }
        }
    };
    Some(
        finding(target, link, "mac", to)
            .consequence("packets reach nobody: they bear a MAC address that it has not")
            .evidence(format!("the rule has {}, {evidence}", target.mac)),
    )
}

/// Whether the server has moved to another MAC address, port or device, as the host itself has learned.
pub fn has_moved(target: &BackendFacts) -> bool {
    let neighbour = target.neighbour.as_ref();
    let other = neighbour.is_some_and(|now| now.mac != target.mac && !now.peer_has_address);
    other || target.other_port.is_some() || target.other_device.is_some()
}

/// The other end of a veth.
pub struct End {
    pub mac: Mac,
    /// It takes frames for other MAC addresses too, as a bridge's port does.
    pub takes_others: bool,
}

pub enum Witness {
    Peer(Mac),
    Neighbour(Mac),
}

/// Who says that a backend has another MAC address than the rule, and which. Where the peer's is that
/// of the rule, the server may have left it all the same: whether its namespace has the address tells.
pub fn contradiction(
    of_rule: Mac,
    end: Option<End>,
    neighbour: Option<Mac>,
    has_address: impl FnOnce() -> bool,
) -> Option<Witness> {
    let now = neighbour.filter(|mac| *mac != of_rule);
    match end {
        Some(end) if end.mac == of_rule && (now.is_none() || has_address()) => None,
        Some(end) if end.mac != of_rule && !end.takes_others => Some(Witness::Peer(end.mac)),
        _ => now.map(Witness::Neighbour),
    }
}

fn end(link: &DeviceFacts) -> Option<End> {
    let there = link.there.as_ref()?;
    Some(End {
        mac: link.features.peer.as_ref()?.mac?,
        takes_others: there.is_port || there.promiscuous,
    })
}

fn wrong_device(target: &BackendFacts, link: &DeviceFacts, device: &str) -> Finding {
    finding(target, link, "route", Refreshed::Path)
        .consequence("packets leave by a device that the host's route to it doesn't name any more")
        .evidence(format!(
            "packets leave by {}, and the host's route to {} leaves by {device}",
            link.name(),
            target.server
        ))
}

fn wrong_port(target: &BackendFacts, link: &DeviceFacts, port: &str) -> Finding {
    finding(target, link, "bridge-port", Refreshed::Path)
        .consequence("packets leave by a device behind which it is not")
        .evidence(format!(
            "the bridge has seen its MAC address {} behind {port}",
            target.mac
        ))
}

/// The egress device's own address and what it does to checksums, as the rules remember them.
fn source(target: &BackendFacts, link: &DeviceFacts) -> Option<Finding> {
    let mac = link.features.mac.filter(|mac| *mac != target.source_mac);
    Some(
        finding(target, link, "source-mac", Refreshed::Mac(target.mac))
            .consequence("packets bear a source MAC address that their sender has not")
            .evidence(format!(
                "the rule has {}, {} has {}",
                target.source_mac,
                link.name(),
                mac?
            )),
    )
}

fn finding(
    target: &BackendFacts,
    link: &DeviceFacts,
    check: &'static str,
    to: Refreshed,
) -> Finding {
    Finding::problem(
        check,
        format!("server {} by {}", target.server, link.name()),
    )
    .mend(remedies::renew(target))
    .fix(Some(target.refresh(to)))
}
