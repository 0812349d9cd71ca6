//! Rules with --keep-ip, whose packets keep the address that clients ask.

use super::mac;
use crate::doctor::facts::{BackendFacts, Delivery, DeviceFacts, Facts, ServerFacts};
use crate::model::Finding;

pub fn check(setup: &Facts) -> Vec<Finding> {
    let asked = |(target, _): &(&BackendFacts, &DeviceFacts)| {
        target.keep_ip && !target.push_vlan && !mac::has_moved(target)
    };
    let of = |(target, link)| {
        let there = BackendFacts::there(target)?;
        unknown(target, link, there).or_else(|| martian(target, link, there))
    };
    setup.served().filter(asked).filter_map(of).collect()
}

fn finding(target: &BackendFacts, link: &DeviceFacts) -> Finding {
    let subject = format!("server {} by {}", target.server, link.name());
    Finding::warning("keep-ip", subject)
}

/// The server has no address that is there for clients to ask.
fn unknown(target: &BackendFacts, link: &DeviceFacts, there: &ServerFacts) -> Option<Finding> {
    let (server, peer) = (target.server, link.peer()?);
    let others = &there.others;
    (others.local.is_empty() && !others.sends_on).then(|| {
        let length = if server.is_ipv4() { 32 } else { 128 };
        let has = match (others.near, there.address) {
            (true, _) => "addresses of networks that it is in alone".into(),
            (false, Delivery::Here) => format!("{server} alone"),
            (false, _) => "no address".into(),
        };
        let add = peer.command(&format!("ip addr add ADDR/{length} dev lo"));
        finding(target, link)
            .consequence("packets to any address but its own arrive where nobody takes them")
            .evidence(format!(
                "--keep-ip leaves them the address that clients ask, and the network namespace of {peer} has {has}"
            ))
            .mend(format!("{add} with the address that clients ask as ADDR"))
    })
}

/// Linux, fib_validate_source: IPv4 alone refuses its own addresses as the source of what arrives.
fn martian(target: &BackendFacts, link: &DeviceFacts, there: &ServerFacts) -> Option<Finding> {
    let addr = there.others.shared.filter(|addr| addr.is_ipv4())?;
    let here = target.answers.as_ref().filter(|here| !here.accept_local)?;
    let device = &here.device;
    there.replies.iter().any(|reply| reply.via_us).then(|| {
        finding(target, link)
            .consequence(format!("what it answers from {addr} is dropped by this host"))
            .evidence(format!(
                "this host has {addr}, too, and takes it for no other's on {device}, where accept_local is off"
            ))
            .mend(format!(
                "`sysctl -w net.ipv4.conf.{device}.accept_local=1`, or take {addr} off this host"
            ))
    })
}
