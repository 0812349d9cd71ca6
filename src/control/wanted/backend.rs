//! A backend of a rule.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use super::sought::{Host, Sought};
use crate::control::error::{Error, Field};
use crate::control::resolve::absolute;
use crate::control::ruleset_file::{Asked, bad};
use crate::control::validate;
use crate::error::Failure;
use crate::model::{
    Adjacency, Backend, BackendEntry, Locator, Mac, Reply, Rewrite, Rule, RuleEntry,
};

/// The MAC address of a backend that is not known: no frame goes there.
const UNKNOWN: Mac = Mac([0; 6]);

/// How a backend is reached.
pub enum Reached {
    /// As the file says.
    Given(Adjacency),
    /// That has to be found out.
    Sought(Sought),
}

/// A backend that has no adjacency yet; its address is unspecified where that is not known.
pub fn unreached(rule: &Rule, entry: &RuleEntry, backend: &BackendEntry) -> Result<Backend> {
    let rewrite = rewrite(entry, backend)?;
    validate::rewrite(rule.matches.proto, &rewrite)?;
    if rewrite.keep_ip {
        let changes =
            rewrite.to_port.is_some() || rule.snat.is_some() && entry.reply == Some(Reply::Direct);
        let why = "the packets keep their addresses and ports then: give no other port and source";
        ensure!(!changes, Error::value(Field::Reply, Reply::Direct, why));
    }
    let server = backend.server.unwrap_or(rule.matches.src.network());
    if backend.server.is_some() {
        fits(rule, &rewrite, server)?;
    }
    let unreached = Backend {
        weight: backend.weight,
        marked_down: backend.marked_down,
        rewrite,
        ..Backend::new(Adjacency {
            server: backend.server.unwrap_or(unspecified(server)),
            mac: backend.mac.unwrap_or(UNKNOWN),
            source_mac: UNKNOWN,
            ifindex: 0,
            completes_checksum: false,
        })
    };
    validate::reply(rule.matches.proto, rule.reply_of(&unreached), &rewrite)?;
    if rule.finds_snat_of(&unreached) {
        validate::found_snat(rule.reply)?;
    }
    Ok(unreached)
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    }
}

/// Whether a server's address can be one of the rule's.
pub fn fits(rule: &Rule, rewrite: &Rewrite, server: IpAddr) -> Result<()> {
    validate::server(server)?;
    let any = |len: u8| len == 0;
    let given = |prefix: crate::model::Prefix| Some(prefix).filter(|p| !any(p.prefix_len()));
    let (dst, src) = (rule.matches.dst, rule.matches.src);
    validate::same_as_server([(Field::Dst, given(dst)), (Field::Src, Some(src))], server)?;
    match rule.snat.and_then(|snat| snat.address()) {
        Some(snat) if !rewrite.keep_ip => validate::snat(snat, server),
        _ => Ok(()),
    }
}

fn rewrite(entry: &RuleEntry, backend: &BackendEntry) -> Result<Rewrite> {
    let is_direct = entry.reply == Some(Reply::Direct);
    let keep_ip = backend.keep_ip.unwrap_or(is_direct);
    let why = "keep_ip is false, and the rule's answers are direct: give one or the other";
    ensure!(
        keep_ip || !is_direct,
        Error::value(Field::Reply, Reply::Direct, why)
    );
    Ok(Rewrite {
        to_port: backend.to_port,
        keep_ip,
        push_vlan: backend.push_vlan,
        pops: backend.pop_vlans,
    })
}

/// How a backend is reached: by its locator, by the name of its device, by the device's index.
pub fn reached<H: Host>(
    backend: &BackendEntry,
    family: IpAddr,
    asked: &mut Asked<H>,
) -> Result<Reached> {
    let sought = |locator: Option<Locator>, mac| {
        Ok(Reached::Sought(Sought {
            locator,
            mac,
            server: backend.server,
            ipv6: Some(family.is_ipv6()),
        }))
    };
    if let Some((field, locator)) = locator(backend, asked)? {
        validate::locator(field, &locator)?;
        let needs = locator == Locator::Route && backend.server.is_none();
        ensure!(!needs, Failure::new(Error::WhichBackend));
        return sought(Some(locator), None);
    }
    let ifindex = match (&backend.device, backend.ifindex, backend.mac) {
        (Some(name), _, Some(_)) => Some(asked.ifindex(name)?),
        (_, ifindex, _) => ifindex,
    };
    match (backend.server, backend.mac, ifindex, &backend.device) {
        (None, Some(_), ..) | (None, _, None, None) => Err(Failure::new(Error::WhichBackend)),
        (Some(server), Some(mac), Some(ifindex), _) => {
            let egress = asked.egress(ifindex)?;
            Ok(Reached::Given(Adjacency {
                server,
                mac,
                source_mac: egress.source_mac,
                ifindex,
                completes_checksum: egress.completes_checksum,
            }))
        }
        (_, Some(mac), None, _) => sought(None, Some(mac)),
        (_, None, _, Some(name)) => sought(Some(on(name.clone())?), None),
        (_, None, Some(ifindex), None) => {
            let name = asked.egress(ifindex)?.name.clone();
            sought(Some(on(name)?), None)
        }
        (Some(_), None, None, None) => sought(Some(Locator::Route), None),
    }
}

fn on(name: String) -> Result<Locator> {
    let locator = Locator::Device(name);
    validate::locator(Field::Device, &locator)?;
    Ok(locator)
}

/// The locator that is said outright; None where there is none.
fn locator<H: Host>(backend: &BackendEntry, asked: &Asked<H>) -> Result<Option<(Field, Locator)>> {
    let ways = [
        ("container", backend.container.is_some()),
        ("netns", backend.netns.is_some()),
        ("pid", backend.pid.is_some()),
        ("route", backend.route),
    ];
    let said: Vec<&str> = ways
        .into_iter()
        .filter(|way| way.1)
        .map(|way| way.0)
        .collect();
    let one = || {
        bad(format!(
            "{}: a backend is found in one way",
            said.join(" and ")
        ))
    };
    ensure!(said.len() <= 1, one());
    let stray = backend.started.is_some() && backend.pid.is_none();
    ensure!(
        !stray,
        bad("started: of which process? pid is missing".into())
    );
    if let Some(name) = &backend.container {
        return Ok(Some((Field::Container, Locator::Container(name.clone()))));
    }
    if let Some(name) = &backend.netns {
        return Ok(Some((Field::Netns, Locator::Netns(absolute(name)?))));
    }
    if let Some(pid) = backend.pid {
        let started = match backend.started {
            Some(started) => started,
            None => asked.host().started(pid)?,
        };
        return Ok(Some((Field::Pid, Locator::Pid { pid, started })));
    }
    Ok(backend.route.then_some((Field::Server, Locator::Route)))
}
