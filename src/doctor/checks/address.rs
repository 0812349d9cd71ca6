//! Servers whose address is not where their packets go.

use super::{mac, remedies};
use crate::doctor::facts::{BackendFacts, Delivery, DeviceFacts, ServerFacts};
use crate::model::{Command, Finding, Refreshed, Remedy, Tool, Verb};

pub fn check(backend: &BackendFacts, device: &DeviceFacts) -> Option<Finding> {
    missing(backend, device).or_else(|| taken(backend, device))
}

/// The server has its address, and this host has it, too.
fn taken(backend: &BackendFacts, device: &DeviceFacts) -> Option<Finding> {
    let namespace = backend.namespace.as_ref()?;
    if !backend.whereabouts.is_own || namespace.address != Delivery::Here {
        return None;
    }
    let server = backend.server;
    let subject = mac::subject(backend, device);
    let finding = if drops_answers(backend, namespace) {
        Finding::problem("address", subject).consequence("what it answers is dropped by this host")
    } else if backend.locators.by_route {
        Finding::warning("address", subject).consequence(remedies::LOST_IF_IT_MOVES)
    } else {
        return None;
    };
    Some(
        finding
            .evidence(format!("{server} is an address of this host, too"))
            .remedy(format!("take {server} off this host")),
    )
}

/// Linux, fib_validate_source: IPv4 alone refuses its own addresses as the source of what arrives. With
/// the destination kept, answers have another source.
fn drops_answers(backend: &BackendFacts, namespace: &ServerFacts) -> bool {
    let here = backend.answers.as_ref();
    let refuses = backend.server.is_ipv4() && here.is_some_and(|here| !here.accept_local);
    refuses && !backend.keep_ip && namespace.replies.iter().any(|reply| reply.via_us)
}

/// A backend that keeps the destination has the packets' own destinations, which nobody can list. What
/// takes a tag off is a device above the peer, in whatever namespace.
fn missing(backend: &BackendFacts, device: &DeviceFacts) -> Option<Finding> {
    if backend.keep_ip || backend.push_vlan || backend.has_left() {
        return None;
    }
    let server = backend.server;
    let delivery = backend.namespace.as_ref().map(|there| there.address);
    let finding = Finding::problem("address", mac::subject(backend, device))
        .consequence("packets arrive where nobody takes them");
    if backend.whereabouts.is_own && delivery != Some(Delivery::Here) {
        return Some(
            finding
                .evidence(format!("{server} is an address of this host itself"))
                .remedy(remedies::renew(backend)),
        );
    }
    let peer = device.peer()?;
    (delivery? == Delivery::Nowhere).then(|| {
        let finding = finding.evidence(format!(
            "{server} is no address in the network namespace of {peer}"
        ));
        if backend.locators.followed {
            let refresh = Remedy::from(Verb::RuleRefresh(server));
            return finding
                .remedy(refresh + ", which follows it to its new one")
                .fix(Some(backend.refresh(Refreshed::Path)));
        }
        let add = Tool::new("ip addr add")
            .arg(server.to_string())
            .words("dev");
        finding.remedy(
            add.arg(peer.name()).beside(peer)
                + " with its prefix length, or "
                + Command::Name("rule add")
                + " the server's own address and "
                + Verb::RuleDel(None, Some(server)),
        )
    })
}
