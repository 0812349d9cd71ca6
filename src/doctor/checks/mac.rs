//! Servers whose MAC address is no longer the one that the rules have.

use super::remedies;
use crate::doctor::facts::{BackendFacts, DeviceFacts, Moved};
use crate::model::{Finding, Refreshed};

pub fn check(backend: &BackendFacts, device: &DeviceFacts) -> Option<Finding> {
    let (evidence, to) = match backend.moved()? {
        Moved::Peer(mac) => (
            format!("{mac} is that of {}", device.peer()?),
            Refreshed::Mac(mac),
        ),
        Moved::Neighbour(now) => {
            let evidence = format!(
                "the host's neighbour table has {} on {}",
                now.mac, now.device
            );
            match &now.behind {
                Some(port) => (format!("{evidence}, behind {port}"), Refreshed::Path),
                None => (evidence, Refreshed::Mac(now.mac)),
            }
        }
        Moved::Device(_) | Moved::Port(_) => return None,
    };
    Some(
        stale(backend, device, "mac", to)
            .consequence("packets are sent to a MAC address that the server does not have, so nobody takes them")
            .evidence(format!("the rule has {}, {evidence}", backend.mac)),
    )
}

/// A finding about rules that have something outdated about a server, which a refresh replaces.
pub fn stale(
    backend: &BackendFacts,
    device: &DeviceFacts,
    check: &'static str,
    to: Refreshed,
) -> Finding {
    Finding::problem(check, subject(backend, device))
        .remedy(remedies::renew(backend))
        .fix(Some(backend.refresh(to)))
}

/// A server and its egress device.
pub fn subject(backend: &BackendFacts, device: &DeviceFacts) -> String {
    format!("server {} by {}", backend.server, device.name())
}
