//! Backends whose MAC addresses are no longer those that the rules have.

use super::{Link, Setup, Target, mends};
use crate::model::{Finding, Mac, Refreshed};

pub fn check(setup: &Setup) -> Vec<Finding> {
    setup
        .served()
        .flat_map(|(target, link)| [destination(target, link), source(target, link)])
        .flatten()
        .collect()
}

fn destination(target: &Target, link: &Link) -> Option<Finding> {
    if let Some(port) = &target.other_port {
        return Some(wrong_port(target, link, port));
    }
    if target.push_vlan {
        return None;
    }
    let neighbour = target.neighbour.as_ref();
    let (now, evidence) = match contradiction(target.mac, end(link), neighbour.map(|n| n.0))? {
        Witness::Peer(mac) => (mac, format!("{} has {mac}", link.peer()?)),
        Witness::Neighbour(mac) => {
            let (_, device) = neighbour?;
            (mac, format!("the host's neighbour table {mac} on {device}"))
        }
    };
    Some(
        finding(target, link, "mac", Refreshed::Mac(now))
            .consequence("packets reach nobody: they bear a MAC address that it has not")
            .evidence(format!("the rule has {}, {evidence}", target.mac)),
    )
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

/// Who says that a backend has another MAC address than the rule, and which.
pub fn contradiction(of_rule: Mac, end: Option<End>, neighbour: Option<Mac>) -> Option<Witness> {
    match end {
        Some(end) if end.mac == of_rule => None,
        Some(end) if !end.takes_others => Some(Witness::Peer(end.mac)),
        _ => neighbour
            .filter(|mac| *mac != of_rule)
            .map(Witness::Neighbour),
    }
}

fn end(link: &Link) -> Option<End> {
    let there = link.there.as_ref()?;
    Some(End {
        mac: link.features.peer.as_ref()?.mac?,
        takes_others: there.is_port || there.promiscuous,
    })
}

fn wrong_port(target: &Target, link: &Link, port: &str) -> Finding {
    finding(target, link, "bridge-port", Refreshed::Path)
        .consequence("packets leave by a device behind which it is not")
        .evidence(format!(
            "the bridge has seen its MAC address {} behind {port}",
            target.mac
        ))
}

/// The egress device's own address and what it does to checksums, as the rules remember them.
fn source(target: &Target, link: &Link) -> Option<Finding> {
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

fn finding(target: &Target, link: &Link, check: &'static str, to: Refreshed) -> Finding {
    Finding::problem(
        check,
        format!("server {} by {}", target.server, link.name()),
    )
    .mend(mends::renew(target))
    .fix(Some(target.refresh(to)))
}
