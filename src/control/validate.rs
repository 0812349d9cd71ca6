//! What a rule may say, the same for every caller.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};

use super::error::{Error, Field};
use crate::datapath;
use crate::error::Failure;
use crate::model::{
    HashOf, Locator, Match, PacketFilter, Ports, Prefix, Proto, Reply, Rewrite, Rewriting, Rule,
};

const ONE_VERSION: &str = "give both as IPv4 or both as IPv6";

/// A server is another host.
pub fn server(addr: IpAddr) -> Result<()> {
    let why = "not the unicast address of another host";
    ensure!(is_host(addr), Error::value(Field::Server, addr, why));
    Ok(())
}

/// A locator must fit into the map that keeps it.
pub fn locator(field: Field, locator: &Locator) -> Result<()> {
    let text = locator.to_string();
    let over = text.len().saturating_sub(datapath::MAX_LOCATOR);
    let why = || {
        format!("the name or path is too long to be remembered, by {over} bytes: use a shorter one")
    };
    ensure!(over == 0, Error::value(field, locator, why()));
    Ok(())
}

/// All parts of a match can be true of one packet.
pub fn matches(matches: &Match) -> Result<()> {
    let Match { dst, src, .. } = matches;
    let why = || format!("the source {src} has the other IP version: {ONE_VERSION}");
    let is_one = dst.addr().is_ipv4() == src.addr().is_ipv4();
    ensure!(is_one, Error::value(Field::Dst, dst, why()));
    let has_ports = matches.proto != Proto::Icmp || matches.ports.is_any();
    let why = "ICMP has no ports: leave it out, or say any";
    ensure!(has_ports, Error::value(Field::Port, matches.ports, why));
    if let Some(inner) = matches.inner_vlan {
        let why = "a frame with an inner tag has an outer one: give its VLAN identifier, too";
        ensure!(
            matches.vlan.is_some(),
            Error::value(Field::InnerVlan, inner, why)
        );
    }
    Ok(())
}

/// All parts of a filter can be true of one packet.
pub fn packets(filter: &PacketFilter) -> Result<()> {
    let prefix = filter.dst.or(filter.src);
    let family = prefix.map_or([0; 4].into(), |prefix| prefix.addr());
    let any = Prefix::any_like(family);
    matches(&Match {
        dst: filter.dst.unwrap_or(any),
        src: filter.src.unwrap_or(any),
        proto: filter.proto.unwrap_or(Proto::Any),
        ports: filter.ports.unwrap_or(Ports::ANY),
        vlan: filter.vlan,
        inner_vlan: filter.inner_vlan,
        ingress: None,
    })
}

/// Frames are not forwarded to the interface where they arrive.
pub fn forward(name: &str, ifindex: u32, ingress: Option<u32>) -> Result<()> {
    let why = "packets are not sent back to the interface where they arrive";
    ensure!(
        ingress != Some(ifindex),
        Error::value(Field::Forward, name, why)
    );
    Ok(())
}

/// The addresses that a rule compares are of the server's family.
pub fn same_as_server(matches: [(Field, Option<Prefix>); 2], server: IpAddr) -> Result<()> {
    let mut given = matches
        .into_iter()
        .filter_map(|(field, prefix)| Some((field, prefix?)));
    given.try_for_each(|(field, prefix)| same_family(field, prefix, prefix.addr(), server))
}

/// Only what has a checksum that can be corrected is rewritten.
pub fn rewrite(proto: Proto, rewrite: &Rewrite) -> Result<()> {
    let can = matches!(proto, Proto::Udp | Proto::Tcp) || rewrite.keep_ip;
    ensure!(can, Failure::new(Error::KeepsIp(proto)));
    Ok(())
}

/// What keeps the destination keeps its port, too, and the source.
pub fn keep_ip(new: &Rewriting) -> Result<()> {
    let changes = new.backend.to_port.is_some() || new.snat.is_some();
    let why = "the packets keep their addresses and ports then: give no other port and source";
    let agree = !(new.backend.keep_ip && changes);
    ensure!(agree, Error::value(Field::Reply, Reply::Direct, why));
    Ok(())
}

/// Only what has ports has connections that are remembered, and answers are translated where requests are. An
/// answer gets the outer tag of the request back, and no other.
pub fn reply(proto: Proto, reply: Reply, rewrite: &Rewrite) -> Result<()> {
    let wrong = |why: &str| Error::value(Field::Reply, reply, why);
    if reply == Reply::Nat {
        let can = matches!(proto, Proto::Udp | Proto::Tcp);
        ensure!(can, wrong("only answers of UDP and TCP are translated"));
        let why = "answers get one tag back at most, and two are removed from the packets";
        ensure!(rewrite.pops.get() < 2, wrong(why));
    }
    let agree = rewrite.keep_ip == (reply == Reply::Direct);
    let then = match reply {
        Reply::Nat => "its answers need no translation",
        Reply::None | Reply::Direct => "its answers are direct: give one or the other",
    };
    let why = format!("the server has the address that clients ask, so that {then}");
    ensure!(agree, wrong(&why));
    Ok(())
}

/// Only flows of UDP and TCP are remembered.
pub fn sticky(proto: Proto, sticky: bool) -> Result<()> {
    let can = matches!(proto, Proto::Udp | Proto::Tcp) || !sticky;
    let why = "only flows of UDP and TCP are remembered, so that only these can be sticky";
    ensure!(can, Error::value(Field::Proto, proto, why));
    Ok(())
}

/// What spreads packets has no flows, which could be remembered.
pub fn hash(hash: HashOf, proto: Proto, sticky: bool, reply: Reply) -> Result<()> {
    let wrong = |why: &str| Error::value(Field::Hash, hash, why);
    if hash != HashOf::Packet {
        return Ok(());
    }
    let why = "only datagrams of UDP are spread one by one: the packets of others belong together";
    ensure!(proto == Proto::Udp, wrong(why));
    let why = "no flow has a backend then that it could keep: the rule cannot be sticky";
    ensure!(!sticky, wrong(why));
    let why = "no flow has a backend then whose answers could be translated: the rule needs reply none or direct";
    ensure!(reply != Reply::Nat, wrong(why));
    Ok(())
}

/// Answers to an address of this host are translated, or of no use.
pub fn found_snat(reply: Reply) -> Result<()> {
    let why = "with snat auto the server answers to an address of this host, where nobody waits for answers \
               that are not translated";
    ensure!(reply == Reply::Nat, Error::value(Field::Reply, reply, why));
    Ok(())
}

/// How answers come back belongs to the rule: it has to be possible for each of its backends.
pub fn replies(rule: &Rule) -> Result<()> {
    if rule.backends.iter().any(|b| rule.finds_snat_of(b)) {
        found_snat(rule.reply)?;
    }
    let mut backends = rule.backends.iter();
    backends
        .try_for_each(|backend| reply(rule.matches.proto, rule.reply_of(backend), &backend.rewrite))
}
/// Only addresses that are one host's on a link can be answered for there, and not many of them.
pub fn announce(dst: Prefix) -> Result<()> {
    let wrong = |why: &str| Error::value(Field::Announce, dst, why);
    let least = if dst.addr().is_ipv4() { 24 } else { 120 };
    let why = "which addresses? Give a destination of at most 256 addresses";
    ensure!(dst.prefix_len() >= least, wrong(why));
    let is_link_local = match dst.addr() {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    };
    let why = "these are no addresses that a host of the link can have";
    ensure!(is_host(dst.addr()) && !is_link_local, wrong(why));
    Ok(())
}

/// A new source address is another host's, of the server's family.
pub fn snat(snat: IpAddr, server: IpAddr) -> Result<()> {
    let wrong = |why: &str| Error::value(Field::Snat, snat, why);
    ensure!(is_host(snat), wrong("not a host's unicast address"));
    let own = "this is the server's own address, and the server drops what comes from it";
    ensure!(snat != server, wrong(own));
    same_family(Field::Snat, snat, snat, server)
}

fn is_host(addr: IpAddr) -> bool {
    let broadcast = IpAddr::V4(Ipv4Addr::BROADCAST);
    let mapped = matches!(addr, IpAddr::V6(addr) if addr.to_ipv4_mapped().is_some());
    !(addr.is_unspecified()
        || addr.is_loopback()
        || addr.is_multicast()
        || addr == broadcast
        || mapped)
}

fn same_family(field: Field, value: impl Display, addr: IpAddr, server: IpAddr) -> Result<()> {
    let why = || format!("server {server} has the other IP version: {ONE_VERSION}");
    ensure!(
        addr.is_ipv4() == server.is_ipv4(),
        Error::value(field, value, why())
    );
    Ok(())
}
