//! Servers whose answers get lost.

use std::net::IpAddr;

use super::rp_filter::unfiltered;
use super::{mac, remedies, rp_filter};
use crate::doctor::facts::{
    BackendFacts, Certainty, DeviceFacts, Reply, ReplyArrival, ReturnRoute,
};
use crate::model::{Finding, Remedy, Tool};

pub fn check(backend: &BackendFacts, device: &DeviceFacts) -> Option<Finding> {
    // What is translated is redirected, mostly, and does not meet this host's stack; whether it comes here,
    // the check way-back says. A packet that is dropped where it arrives is not answered.
    if backend.translated || backend.has_left() || rp_filter::check(backend, device).is_some() {
        return None;
    }
    let mut replies = backend.namespace.as_ref()?.replies.iter();
    replies.find_map(|reply| lost(backend, device, reply))
}

fn lost(backend: &BackendFacts, device: &DeviceFacts, reply: &Reply) -> Option<Finding> {
    let (source, peer) = (reply.source, device.peer()?);
    let finding = Finding::warning("replies", mac::subject(backend, device));
    // Who may be anybody may be a neighbour, too.
    if reply.back == ReturnRoute::Missing && source.known != Certainty::Guessed {
        return Some(
            finding
                .consequence(format!("what it answers to {source} goes nowhere"))
                .evidence(format!(
                    "there is no route to {source} in the network namespace of {peer}"
                ))
                .remedy("add a route there if the server should answer"),
        );
    }
    let here = backend.answers.as_ref().filter(|_| reply.via_us)?;
    let (evidence, remedy) = dropped(backend, here)?;
    Some(
        finding
            .consequence(format!(
                "what it answers to {source} is dropped by this host"
            ))
            .evidence(evidence)
            .remedy(remedy),
    )
}

/// Switches forwarding on for what arrives at a device.
pub fn forwarding(family: IpAddr, device: &str) -> Tool {
    match family {
        IpAddr::V4(_) => Tool::new("sysctl -w net.ipv4.ip_forward=1")
            .arg(remedies::of_device(device, "forwarding=1")),
        IpAddr::V6(_) => Tool::new("sysctl -w net.ipv6.conf.all.forwarding=1"),
    }
}

/// Evidence and remedy where this host doesn't forward what the server answers. Where the destination is
/// kept, answers don't have the server's address.
fn dropped(backend: &BackendFacts, here: &ReplyArrival) -> Option<(String, Remedy)> {
    let (server, device) = (backend.server, &here.device);
    let back = format!("its way back leads here by {device}, where");
    if !here.forwards {
        let switch = forwarding(server, device);
        return Some((format!("{back} forwarding is off"), switch.into()));
    }
    let mode = here.rp_filter;
    let refused = server.is_ipv4() && !backend.keep_ip && here.back.is_refused(mode);
    refused.then(|| {
        let evidence = format!(
            "{back} rp_filter is {mode}, and the route to {server} is {}",
            here.back
        );
        let route = format!("a route to {server} by {device}, or ");
        (evidence, Remedy::from(route) + unfiltered(device))
    })
}
