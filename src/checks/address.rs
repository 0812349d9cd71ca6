//! Servers whose address is not where their packets go.

use super::{AtServer, Delivery, Link, Setup, Target, macs};
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
    let asked = !target.keep_ip && !target.push_vlan && !macs::has_moved(target);
    let AtServer { address, .. } = target.there.as_ref().filter(|_| asked)?;
    let (server, peer) = (target.server, link.peer()?);
    (*address == Delivery::Nowhere).then(|| {
        let finding = Finding::problem("address", format!("server {server} by {}", link.name()))
            .consequence("packets arrive where nobody takes them")
            .evidence(format!(
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
