//! Backends whose MAC addresses are no longer those that the rules have.

use super::{Link, Setup, Target};
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
    let (now, evidence) = match by_peer(target, link) {
        Answer::Right => return None,
        Answer::Other(mac, evidence) => (mac, evidence),
        Answer::Unknown => by_neighbour(target)?,
    };
    Some(
        finding(target, link, "mac", Refreshed::Mac(now))
            .consequence("packets reach nobody: they bear a MAC address that it has not")
            .evidence(evidence),
    )
}

enum Answer {
    Right,
    Other(Mac, String),
    Unknown,
}

/// Where it takes frames for others, it says nothing.
fn by_peer(target: &Target, link: &Link) -> Answer {
    let (Some(there), Some(peer)) = (&link.there, &link.features.peer) else {
        return Answer::Unknown;
    };
    match peer.mac {
        Some(mac) if mac == target.mac => Answer::Right,
        Some(_) if there.is_port || there.promiscuous => Answer::Unknown,
        Some(mac) => {
            let evidence = format!("the rule has {}, {} has {mac}", target.mac, peer.device);
            Answer::Other(mac, evidence)
        }
        None => Answer::Unknown,
    }
}

fn by_neighbour(target: &Target) -> Option<(Mac, String)> {
    let (mac, device) = target.neighbour.as_ref()?;
    let evidence = format!(
        "the rule has {}, the host's neighbour table {mac} on {device}",
        target.mac
    );
    Some((*mac, evidence)).filter(|(mac, _)| *mac != target.mac)
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
    .mend("`xdpredir rule refresh`, or `rule add` again what was told by hand")
    .fix(Some(target.refresh(to)))
}
