//! What the receiving side does with the sources of packets: filters by them, and answers them.

use super::{AtServer, Link, Reply, Setup, Target};
use crate::model::Finding;

pub fn check(setup: &Setup) -> Vec<Finding> {
    let of = |(target, link)| Some((target, link, Target::there(target)?));
    setup
        .served()
        .filter_map(of)
        .filter_map(|(target, link, there)| first(target, link, there))
        .collect()
}

/// One of a server's sources stands for all.
fn first(target: &Target, link: &Link, there: &AtServer) -> Option<Finding> {
    let mut replies = there.replies.iter();
    replies.find_map(|reply| filtered(target, link, reply).or_else(|| eaten(target, link, reply)))
}

fn subject(target: &Target, link: &Link) -> String {
    format!("server {} by {}", target.server, link.name())
}

/// Linux: ip-sysctl.rst: 1 wants the route back by the device of arrival, 2 any. IPv4 only.
fn filtered(target: &Target, link: &Link, reply: &Reply) -> Option<Finding> {
    let mode = link.there.as_ref()?.rp_filter;
    let drops = match mode {
        1 => !reply.by_arrival,
        2 => reply.ifindex.is_none(),
        _ => false,
    };
    let (source, peer) = (reply.source, link.peer()?);
    (drops && source.is_ipv4()).then(|| {
        let device = link.features.peer.as_ref().map_or_else(String::new, |p| p.device.name());
        Finding::problem("rp-filter", subject(target, link))
            .consequence(format!("packets from {source} are dropped where they arrive"))
            .evidence(format!(
                "rp_filter is {mode} at {peer}, and the route back to {source} is {}",
                if reply.ifindex.is_some() { "by another device" } else { "missing" }
            ))
            .mend(format!(
                "there: a route to {source} by {device}, or `sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{device}.rp_filter=0`"
            ))
    })
}

fn eaten(target: &Target, link: &Link, reply: &Reply) -> Option<Finding> {
    let (source, peer) = (reply.source, link.peer()?);
    let finding = Finding::warning("replies", subject(target, link));
    if reply.ifindex.is_none() {
        return Some(
            finding
                .consequence(format!("what it answers to {source} goes nowhere"))
                .evidence(format!(
                    "there is no route to {source} in the network namespace of {peer}"
                ))
                .mend("add one there, if it is to answer"),
        );
    }
    (reply.via_us && !target.host_forwards).then(|| {
        finding
            .consequence(format!(
                "what it answers to {source} is dropped by this host"
            ))
            .evidence("its way back leads here, where forwarding is off")
            .mend(match source {
                std::net::IpAddr::V4(_) => "`sysctl -w net.ipv4.ip_forward=1`",
                std::net::IpAddr::V6(_) => "`sysctl -w net.ipv6.conf.all.forwarding=1`",
            })
    })
}

impl Target {
    fn there(&self) -> Option<&AtServer> {
        self.there.as_ref()
    }
}
