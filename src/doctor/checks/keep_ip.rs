//! Backends that keep the destination: their packets have the address that clients ask.

use super::{mac, remedies};
use crate::doctor::facts::{BackendFacts, Delivery, DeviceFacts, Facts, ServerFacts};
use crate::model::{Finding, Remedy, Tool};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let asked = |(backend, _): &(&BackendFacts, &DeviceFacts)| {
        backend.keep_ip && !backend.push_vlan && !backend.has_left()
    };
    let of = |(backend, device): (&BackendFacts, &DeviceFacts)| {
        let namespace = backend.namespace.as_ref()?;
        unknown(backend, device, namespace).or_else(|| martian(backend, device, namespace))
    };
    facts.served().filter(asked).filter_map(of).collect()
}

fn finding(backend: &BackendFacts, device: &DeviceFacts) -> Finding {
    Finding::warning("keep-ip", mac::subject(backend, device))
}

/// The server has no address that is there for clients to ask.
fn unknown(
    backend: &BackendFacts,
    device: &DeviceFacts,
    namespace: &ServerFacts,
) -> Option<Finding> {
    let (server, peer) = (backend.server, device.peer()?);
    let others = &namespace.others;
    (others.local.is_empty() && !others.sends_on).then(|| {
        let has = match (others.near, namespace.address) {
            (true, _) => "addresses of networks that it is in alone".into(),
            (false, Delivery::Here) => format!("{server} alone"),
            (false, _) => "no address".into(),
        };
        let add = remedies::add_address_of_clients(server).beside(peer);
        finding(backend, device)
            .consequence("packets to any address but its own arrive where nobody takes them")
            .evidence(format!(
                "the rule leaves them the address that clients ask, and the network namespace of {peer} has {has}"
            ))
            .remedy(add + " with the address that clients ask as ADDR")
    })
}

/// Linux, fib_validate_source: IPv4 alone refuses its own addresses as the source of what arrives.
fn martian(
    backend: &BackendFacts,
    device: &DeviceFacts,
    namespace: &ServerFacts,
) -> Option<Finding> {
    let addr = namespace.others.shared.filter(|addr| addr.is_ipv4())?;
    let here = backend.answers.as_ref().filter(|here| !here.accept_local)?;
    let arrival = &here.device;
    let accept = remedies::of_device(arrival, "accept_local=1");
    namespace.replies.iter().any(|reply| reply.via_us).then(|| {
        finding(backend, device)
            .consequence(format!("what it answers from {addr} is dropped by this host"))
            .evidence(format!(
                "this host has {addr}, too, and takes it for no other's on {arrival}, where accept_local is off"
            ))
            .remedy(
                Remedy::from(Tool::new("sysctl -w").arg(accept))
                    + format!(", or remove {addr} from this host"),
            )
    })
}
