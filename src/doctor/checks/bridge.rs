//! Bridges, which the program doesn't see into.

use crate::doctor::facts::{DeviceFacts, Facts, InterfaceFacts};
use crate::model::{Finding, Related, Remedy, Verb};

/// Where a server is behind one of its ports, so can be its clients; unless all others are attached.
pub fn check(facts: &Facts, _: &InterfaceFacts, bridge: &DeviceFacts) -> Option<Finding> {
    if !bridge.is("bridge") || bridge.promiscuous {
        return None;
    }
    let ports = bridge.features.ports.iter();
    let (servers, clients): (Vec<&Related>, Vec<&Related>) =
        ports.partition(|port| facts.is_egress(port.ifindex));
    let is_unseen = |port: &&Related| !facts.attached.contains(&port.ifindex);
    let (name, port) = (bridge.name(), &servers.first()?.ifname);
    let client = &clients.into_iter().find(is_unseen)?.ifname;
    let detach = Remedy::from(Verb::Detach(vec![name.into()]));
    Some(
        Finding::warning("bridge", name)
            .consequence("what its ports send to one another is not redirected")
            .evidence(format!(
                "it hands up only what is sent to itself; {port}, which leads to a server, is one of its ports, and {client}, another one, is not attached"
            ))
            .remedy(detach + ", then attach to the clients' own ports"),
    )
}
