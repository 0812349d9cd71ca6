//! Servers whose namespace drops packets by where they come from.

use super::{mac, remedies};
use crate::doctor::facts::{BackendFacts, Certainty, DeviceFacts, Reply};
use crate::model::{Command, Finding, Remedy, Tool};

/// One of a server's sources stands for all. IPv4 only.
pub fn check(backend: &BackendFacts, device: &DeviceFacts) -> Option<Finding> {
    // What the other end of the device says means nothing of a server that has left it.
    if backend.has_left() {
        return None;
    }
    let (mode, peer) = (device.peer_facts.as_ref()?.rp_filter, device.peer()?);
    let is_lost = |reply: &&Reply| reply.source.net.addr().is_ipv4() && reply.back.is_refused(mode);
    let replies = &backend.namespace.as_ref()?.replies;
    let lost: Vec<&Reply> = replies.iter().filter(is_lost).collect();
    let named = lost
        .iter()
        .find(|reply| reply.source.known == Certainty::Named);
    let Reply { source, back, .. } = named.or(lost.first())?;
    let surely = match source.known {
        Certainty::Named => true,
        Certainty::Near => lost.len() == replies.len(),
        Certainty::Guessed => false,
    };
    let (finding, are): (fn(_, _) -> _, _) = match surely {
        true => (Finding::problem, "are"),
        false => (Finding::warning, "may be"),
    };
    let (source, arrival) = (source.to_string(), peer.name());
    Some(
        finding("rp-filter", mac::subject(backend, device))
            .consequence(format!(
                "packets from {source} {are} dropped where they arrive"
            ))
            .evidence(format!(
                "rp_filter is {mode} at {peer}, and the route back to {source} is {back}"
            ))
            .remedy(
                Remedy::from(format!("a route to {source} by {arrival} there, or "))
                    + unfiltered(&arrival).beside(peer)
                    + with_own_source(backend),
            ),
    )
}

/// Answers that are translated may go to any address of this host.
fn with_own_source(backend: &BackendFacts) -> Remedy {
    match backend.translated {
        true => Remedy::from(", or ") + Command::Name("rule add") + " the server with snat auto",
        false => Remedy::default(),
    }
}

/// Takes packets whatever their source.
pub fn unfiltered(device: &str) -> Tool {
    Tool::new("sysctl -w net.ipv4.conf.all.rp_filter=0")
        .arg(remedies::of_device(device, "rp_filter=0"))
}
