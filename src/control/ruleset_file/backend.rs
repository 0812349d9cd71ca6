//! A record of a backend.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use super::bad;
use super::devices::{Asked, Devices, check_name};
use crate::control::error::Field;
use crate::control::validate;
use crate::model::{Action, Adjacency, Backend, MAX_BACKENDS, Reply, Rewrite, Rule, RuleRecord};

/// Adds a backend to its rule.
pub fn add_backend(
    rule: &mut Rule,
    says_reply: &mut bool,
    record: RuleRecord,
    asked: &mut Asked<impl Devices>,
) -> Result<()> {
    // The text of a rule takes longer than all that comes here: only an error has it.
    let text = || record.matches_text();
    let (Some(server), Some(mac), Some(ifindex)) = (record.server, record.mac, record.ifindex)
    else {
        return Err(bad("redirect without server, mac or ifindex".into()));
    };
    let is_new = || bad(format!("{}: this rule is in the file twice", text()));
    ensure!(rule.action == Action::Redirect, is_new());
    validate(&record, server)?;
    let egress = asked.egress(ifindex)?;
    check_name(&record, ifindex, egress)?;
    let adjacency = Adjacency {
        server,
        mac,
        source_mac: egress.source_mac,
        ifindex,
        completes_checksum: egress.completes_checksum,
    };
    let twice = || {
        bad(format!(
            "{} -> {server}: this backend is in the file twice",
            text()
        ))
    };
    ensure!(rule.backend(server).is_none(), twice());
    agree(rule, says_reply, &record)?;
    let own_source = own_source(&record, server, asked)?;
    let many = || bad(format!("{}: more than {MAX_BACKENDS} backends", text()));
    ensure!(rule.backends.len() < MAX_BACKENDS, many());
    rule.put(Backend {
        adjacency,
        weight: record.weight,
        marked_down: record.marked_down,
        rewrite: rewrite(&record)?,
        counter: None,
        origin: record.origin,
        own_source,
    });
    Ok(())
}

/// With `snat_auto`, the address of the file, or else the one that the host says.
fn own_source(
    record: &RuleRecord,
    server: IpAddr,
    asked: &mut Asked<impl Devices>,
) -> Result<Option<IpAddr>> {
    if !record.snat_auto || record.snat.is_some() {
        return Ok(record.snat.filter(|_| record.snat_auto));
    }
    asked.source(server).map(Some)
}

/// What the record says of rewriting.
pub fn rewrite(record: &RuleRecord) -> Result<Rewrite> {
    let differ = || bad("pop_vlan and pop_vlans contradict each other".into());
    Ok(Rewrite {
        to_port: record.to_port,
        keep_ip: reply(record)? == Reply::Direct,
        push_vlan: record.push_vlan,
        pops: record.pops().ok_or_else(differ)?,
    })
}

/// How answers come back; where the server has the address that clients ask, packets keep it.
fn reply(record: &RuleRecord) -> Result<Reply> {
    let differ = || bad("keep_ip and reply contradict each other".into());
    record.reply().ok_or_else(differ)
}

fn validate(record: &RuleRecord, server: IpAddr) -> Result<()> {
    let fields = [(Field::Dst, record.dst), (Field::Src, Some(record.src))];
    validate::same_as_server(fields, server)?;
    validate::server(server)?;
    if let Some(snat) = record.snat {
        validate::snat(snat, server)?;
    }
    if reply(record)? == Reply::Direct && (record.to_port.is_some() || record.snat().is_some()) {
        let why = "give the one or the other".to_string();
        return Err(bad(format!("keep_ip with to_port or snat: {why}")));
    }
    validate::rewrite(record.proto, &rewrite(record)?)?;
    validate::sticky(record.proto, record.sticky)?;
    validate::hash(record.hash, record.proto, record.sticky, reply(record)?)?;
    if record.announce {
        validate::announce(record.matches().dst)?;
    }
    let origin = record.origin.as_ref();
    origin.map_or(Ok(()), |origin| validate::locator(Field::Origin, origin))
}

/// Gives the rule what the record has of the rule as a whole, on which all of its records must agree.
fn agree(rule: &mut Rule, says_reply: &mut bool, record: &RuleRecord) -> Result<()> {
    let text = record.matches_text();
    let differ = |what| bad(format!("{text}: backends with different {what}"));
    let is_first = rule.backends.is_empty();
    ensure!(
        is_first || rule.too_long == record.too_long,
        differ("too_long")
    );
    rule.too_long = record.too_long;
    let ttl_differs = rule.decrement_ttl != record.decrement_ttl;
    ensure!(is_first || !ttl_differs, differ("decrement_ttl"));
    rule.decrement_ttl = record.decrement_ttl;
    ensure!(is_first || rule.sticky == record.sticky, differ("sticky"));
    rule.sticky = record.sticky;
    ensure!(
        is_first || rule.announce == record.announce,
        differ("announce")
    );
    rule.announce = record.announce;
    ensure!(is_first || rule.hash == record.hash, differ("hash"));
    rule.hash = record.hash;
    let reply = reply(record)?;
    if reply == Reply::Direct {
        return Ok(());
    }
    validate::reply(record.proto, reply, &rewrite(record)?)?;
    if record.snat_auto {
        validate::found_snat(reply)?;
    }
    let uses_snat = rule.backends.iter().any(|b| !b.rewrite.keep_ip);
    ensure!(!uses_snat || rule.snat == record.snat(), differ("snat"));
    rule.snat = record.snat();
    if record.reply.is_some() || record.snat_auto {
        ensure!(!*says_reply || rule.reply == reply, differ("reply"));
        (rule.reply, *says_reply) = (reply, true);
    }
    Ok(())
}
