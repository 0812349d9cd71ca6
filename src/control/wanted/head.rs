//! What a rule has but its backends.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use crate::control::error::{Error, Field};
use crate::control::ruleset_file::bad;
use crate::control::validate;
use crate::model::{ActionKind, Match, Port, Ports, Prefix, Proto, Reply, Rule, RuleEntry, Snat};

/// An address of the IP version that the rule is for; None where only its backends can tell.
pub fn family(entry: &RuleEntry) -> Option<IpAddr> {
    let prefix = entry.dst.or(entry.src).map(|prefix: Prefix| prefix.addr());
    let server = || entry.backend.iter().find_map(|backend| backend.server);
    let snat = || entry.snat.and_then(Snat::address);
    prefix.or_else(server).or_else(snat)
}

/// Which packets it takes.
pub fn matches(entry: &RuleEntry, family: IpAddr, ingress: Option<u32>) -> Result<Match> {
    let any = Match::any_like(family);
    let default = match entry.proto {
        Proto::Icmp | Proto::Any => Ports::ANY,
        _ => Port::new(super::DEMO_PORT).map_or(Ports::ANY, Into::into),
    };
    let matches = Match {
        dst: entry.dst.unwrap_or(any.dst),
        src: entry.src.unwrap_or(any.src),
        proto: entry.proto,
        ports: entry.port.unwrap_or(default),
        vlan: entry.vlan,
        inner_vlan: entry.inner_vlan,
        ingress,
    };
    validate::matches(&matches)?;
    Ok(matches)
}

/// A rule that redirects, still without backends.
pub fn redirecting(matches: Match, entry: &RuleEntry) -> Result<Rule> {
    let of_backend = entry.device.is_some() || entry.ifindex.is_some() || entry.mac.is_some();
    let why = "device, ifindex and mac stand with the backend, or with action = \"forward\"";
    ensure!(!of_backend, bad(why.into()));
    let why = "which backend? A rule has backends, or an action: forward, pass or drop";
    ensure!(!entry.backend.is_empty(), bad(why.into()));
    if entry.reply == Some(Reply::Direct) {
        let why = "the packets keep their addresses then: give no source";
        let agree = entry.snat.is_none();
        ensure!(agree, Error::value(Field::Reply, Reply::Direct, why));
    }
    validate::sticky(matches.proto, entry.sticky)?;
    if entry.announce {
        validate::announce(matches.dst)?;
    }
    let reply = match (entry.reply, entry.snat) {
        (Some(Reply::Nat), _) | (None, Some(Snat::Auto)) => Reply::Nat,
        _ => Reply::None,
    };
    validate::hash(entry.hash, matches.proto, entry.sticky, reply)?;
    Ok(Rule {
        too_long: entry.too_long,
        snat: entry.snat,
        decrement_ttl: entry.decrement_ttl,
        reply,
        sticky: entry.sticky,
        announce: entry.announce,
        hash: entry.hash,
        ..Rule::new(matches)
    })
}

/// Refuses what belongs to backends in a rule without them.
pub fn require_no_backends(entry: &RuleEntry) -> Result<()> {
    let kind = entry.action;
    let plain = RuleEntry {
        dst: entry.dst,
        src: entry.src,
        proto: entry.proto,
        port: entry.port,
        vlan: entry.vlan,
        inner_vlan: entry.inner_vlan,
        ingress: entry.ingress.clone(),
        action: kind,
        device: entry.device.clone(),
        ifindex: entry.ifindex,
        mac: entry.mac,
        too_long: entry.too_long,
        ..RuleEntry::default()
    };
    let why = format!("action {kind}: takes no backend, and nothing that is for backends");
    ensure!(*entry == plain, bad(why));
    if kind != ActionKind::Forward {
        let leaves = entry.device.is_some() || entry.ifindex.is_some() || entry.mac.is_some();
        let why = format!("action {kind}: takes no device, ifindex or mac");
        ensure!(!leaves, bad(why));
        let says_length = entry.too_long != Default::default();
        ensure!(
            !says_length,
            bad(format!("action {kind}: takes no too_long"))
        );
    }
    Ok(())
}

/// What two rows of one rule say of the rule as a whole, on which all of its rows must agree.
pub fn agree(
    rule: &mut Rule,
    is_open: &mut bool,
    row: &Rule,
    row_is_open: bool,
    row_keeps_ip: bool,
) -> Result<()> {
    let differ = |what| bad(format!("rows of one rule with different {what}"));
    ensure!(rule.action == row.action, differ("action"));
    ensure!(rule.too_long == row.too_long, differ("too_long"));
    ensure!(
        rule.decrement_ttl == row.decrement_ttl,
        differ("decrement_ttl")
    );
    ensure!(rule.sticky == row.sticky, differ("sticky"));
    ensure!(rule.announce == row.announce, differ("announce"));
    ensure!(rule.hash == row.hash, differ("hash"));
    if row_keeps_ip {
        return Ok(());
    }
    // Rows that keep addresses say nothing of these.
    let is_first = rule.backends.iter().all(|backend| backend.rewrite.keep_ip);
    ensure!(is_first || rule.snat == row.snat, differ("snat"));
    rule.snat = row.snat;
    if !row_is_open {
        ensure!(*is_open || rule.reply == row.reply, differ("reply"));
        (rule.reply, *is_open) = (row.reply, false);
    }
    Ok(())
}
