//! Servers whose address is not where their packets go.

use super::{mac, remedies};
use crate::doctor::facts::{BackendFacts, Delivery, DeviceFacts, Facts, ServerFacts};
use crate::model::{Finding, Refreshed};

pub fn check(setup: &Facts) -> Vec<Finding> {
    setup
        .served()
        .filter_map(|(target, link)| missing(target, link).or_else(|| taken(target, link)))
        .collect()
}

/// The server has its address, and this host has it, too.
fn taken(target: &BackendFacts, link: &DeviceFacts) -> Option<Finding> {
    let there = target.there()?;
    if !target.is_own || there.address != Delivery::Here {
        return None;
    }
    let server = target.server;
    let subject = format!("server {server} by {}", link.name());
    let finding = if drops_answers(target, there) {
        Finding::problem("address", subject).consequence("what it answers is dropped by this host")
    } else if target.by_route {
        Finding::warning("address", subject).consequence("once it moves, it can't be found again")
    } else {
        return None;
    };
    Some(
        finding
            .evidence(format!("{server} is an address of this host, too"))
            .mend(format!("take {server} off this host")),
    )
}

/// Linux, fib_validate_source: IPv4 alone refuses its own addresses as the source of what arrives. With
/// --keep-ip answers have another source.
fn drops_answers(target: &BackendFacts, there: &ServerFacts) -> bool {
    let here = target.answers.as_ref();
    let refuses = target.server.is_ipv4() && here.is_some_and(|here| !here.accept_local);
    refuses && !target.keep_ip && there.replies.iter().any(|reply| reply.via_us)
}

/// With --keep-ip the server has the packets' own destinations, which nobody can list. What takes a
/// tag off is a device above the peer, in whatever namespace.
fn missing(target: &BackendFacts, link: &DeviceFacts) -> Option<Finding> {
    if target.keep_ip || target.push_vlan || mac::has_moved(target) {
        return None;
    }
    let server = target.server;
    let there = target.there().map(|there| there.address);
    let finding = Finding::problem("address", format!("server {server} by {}", link.name()))
        .consequence("packets arrive where nobody takes them");
    if target.is_own && there != Some(Delivery::Here) {
        return Some(
            finding
                .evidence(format!("{server} is an address of this host itself"))
                .mend(remedies::renew(target)),
        );
    }
    let peer = link.peer()?;
    (there? == Delivery::Nowhere).then(|| {
        let finding = finding.evidence(format!(
            "{server} is no address in the network namespace of {peer}"
        ));
        if target.followed {
            return finding
                .mend("`xdpredir rule refresh`, which follows it to its new one")
                .fix(Some(target.refresh(Refreshed::Path)));
        }
        let add = format!("ip addr add {server} dev {}", peer.name());
        finding.mend(format!(
            "{} with its prefix length, or `rule add` the server's own address and `rule del --server {server}`",
            peer.command(&add)
        ))
    })
}
