//! What the receiving side does with the sources of packets: filters by them, and answers them.

use std::net::IpAddr;

use super::mac;
use crate::doctor::facts::{
    BackendFacts, Certainty, DeviceFacts, Facts, Reply, ReplyArrival, ReturnRoute, ServerFacts,
};
use crate::model::Finding;

pub fn check(setup: &Facts) -> Vec<Finding> {
    let of = |(target, link)| first(target, link, BackendFacts::there(target)?);
    // Its end is another one by now.
    let stay = setup.served().filter(|(target, _)| !mac::has_moved(target));
    stay.filter_map(of).collect()
}

/// One of a server's sources stands for all.
fn first(target: &BackendFacts, link: &DeviceFacts, there: &ServerFacts) -> Option<Finding> {
    filtered(target, link, there).or_else(|| {
        let mut replies = there.replies.iter();
        replies.find_map(|reply| eaten(target, link, reply))
    })
}

fn subject(target: &BackendFacts, link: &DeviceFacts) -> String {
    format!("server {} by {}", target.server, link.name())
}

/// IPv4 only.
fn filtered(target: &BackendFacts, link: &DeviceFacts, there: &ServerFacts) -> Option<Finding> {
    let (mode, peer) = (link.there.as_ref()?.rp_filter, link.peer()?);
    let is_lost = |reply: &&Reply| reply.source.net.addr().is_ipv4() && reply.back.is_refused(mode);
    let lost: Vec<&Reply> = there.replies.iter().filter(is_lost).collect();
    let named = lost
        .iter()
        .find(|reply| reply.source.known == Certainty::Named);
    let Reply { source, back, .. } = named.or(lost.first())?;
    let surely = match source.known {
        Certainty::Named => true,
        Certainty::Near => lost.len() == there.replies.len(),
        Certainty::Guessed => false,
    };
    let (finding, are): (fn(_, _) -> _, _) = if surely {
        (Finding::problem, "are")
    } else {
        (Finding::warning, "may be")
    };
    let (source, device) = (source.to_string(), peer.name());
    Some(
        finding("rp-filter", subject(target, link))
            .consequence(format!(
                "packets from {source} {are} dropped where they arrive"
            ))
            .evidence(format!(
                "rp_filter is {mode} at {peer}, and the route back to {source} is {back}"
            ))
            .mend(format!(
                "a route to {source} by {device} there, or {}",
                peer.command(&unfiltered(&device))
            )),
    )
}

fn unfiltered(device: &str) -> String {
    format!("sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{device}.rp_filter=0")
}

fn eaten(target: &BackendFacts, link: &DeviceFacts, reply: &Reply) -> Option<Finding> {
    let (source, peer) = (reply.source, link.peer()?);
    let finding = Finding::warning("replies", subject(target, link));
    // Who may be anybody may be a neighbour, too.
    if reply.back == ReturnRoute::Missing && source.known != Certainty::Guessed {
        return Some(
            finding
                .consequence(format!("what it answers to {source} goes nowhere"))
                .evidence(format!(
                    "there is no route to {source} in the network namespace of {peer}"
                ))
                .mend("add one there, if it is to answer"),
        );
    }
    let here = target.answers.as_ref().filter(|_| reply.via_us)?;
    let (evidence, mend) = dropped(target, here)?;
    Some(
        finding
            .consequence(format!(
                "what it answers to {source} is dropped by this host"
            ))
            .evidence(evidence)
            .mend(mend),
    )
}

/// Where this host doesn't forward what the server answers. With --keep-ip that doesn't bear the
/// server's address.
fn dropped(target: &BackendFacts, here: &ReplyArrival) -> Option<(String, String)> {
    let (server, device) = (target.server, &here.device);
    if !here.forwards {
        let mend = match server {
            IpAddr::V4(_) => {
                format!("`sysctl -w net.ipv4.ip_forward=1 net.ipv4.conf.{device}.forwarding=1`")
            }
            IpAddr::V6(_) => "`sysctl -w net.ipv6.conf.all.forwarding=1`".into(),
        };
        let evidence = format!("its way back leads here by {device}, where forwarding is off");
        return Some((evidence, mend));
    }
    let mode = here.rp_filter;
    let refused = server.is_ipv4() && !target.keep_ip && here.back.is_refused(mode);
    refused.then(|| {
        let evidence = format!(
            "its way back leads here by {device}, where rp_filter is {mode}, and the route to {server} is {}",
            here.back
        );
        let mend = format!(
            "a route to {server} by {device}, or `{}`",
            unfiltered(device)
        );
        (evidence, mend)
    })
}
