//! Servers whose address is not where their packets go.

use super::{Delivery, Link, Setup, Target, macs, mends};
use crate::model::{Finding, Refreshed};

pub fn check(setup: &Setup) -> Vec<Finding> {
    setup
        .served()
        .filter_map(|(target, link)| missing(target, link))
        .collect()
}

/// With --keep-ip the server has the packets' own destinations, which nobody can list. What takes a
/// tag off is a device above the peer, in whatever namespace.
fn missing(target: &Target, link: &Link) -> Option<Finding> {
    if target.keep_ip || target.push_vlan || macs::has_moved(target) {
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
                .mend(mends::renew(target)),
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
