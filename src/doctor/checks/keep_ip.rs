//! Backends that keep the destination: their packets have the address that clients ask.

use super::{mac, remedies};
use crate::doctor::facts::{BackendFacts, Delivery, DeviceFacts, ServerFacts};
use crate::model::{Finding, Remedy, Tool};

pub fn check(backend: &BackendFacts, device: &DeviceFacts) -> Option<Finding> {
    if !backend.keep_ip || backend.push_vlan || backend.has_left() {
        return None;
    }
    let there = backend.namespace.as_ref()?;
    let finding = Finding::warning("keep-ip", mac::subject(backend, device));
    if there.others.local.is_empty() && !there.others.sends_on {
        return unknown(backend, device, there, finding);
    }
    martian(backend, there, finding)
}

/// The server has no address that is there for clients to ask.
fn unknown(
    backend: &BackendFacts,
    device: &DeviceFacts,
    there: &ServerFacts,
    finding: Finding,
) -> Option<Finding> {
    let (server, peer) = (backend.server, device.peer()?);
    let has = match (there.others.near, there.address) {
        (true, _) => "addresses of networks that it is in alone".into(),
        (false, Delivery::Here) => format!("{server} alone"),
        (false, _) => "no address".into(),
    };
    let add = remedies::add_address_of_clients(server).beside(peer);
    Some(
        finding
            .consequence("packets to any address but its own arrive where nobody takes them")
            .evidence(format!(
                "the rule leaves them the address that clients ask, and the network namespace of {peer} has {has}"
            ))
            .remedy(add + " with the address that clients ask as ADDR"),
    )
}

/// Linux, fib_validate_source: IPv4 alone refuses its own addresses as the source of what arrives.
fn martian(backend: &BackendFacts, there: &ServerFacts, finding: Finding) -> Option<Finding> {
    let addr = there.others.shared.filter(|addr| addr.is_ipv4())?;
    let here = backend.answers.as_ref().filter(|here| !here.accept_local)?;
    let arrival = &here.device;
    let accept = remedies::of_device(arrival, "accept_local=1");
    let accept = Remedy::from(Tool::new("sysctl -w").arg(accept));
    there.replies.iter().any(|reply| reply.via_us).then(|| {
        finding
            .consequence(format!("what it answers from {addr} is dropped by this host"))
            .evidence(format!(
                "this host has {addr}, too, and takes it for no other's on {arrival}, where accept_local is off"
            ))
            .remedy(accept + format!(", or remove {addr} from this host"))
    })
}
