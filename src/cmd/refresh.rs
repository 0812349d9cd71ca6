//! `xdpredir rule refresh`

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::filter::{self, is_wanted};
use crate::cli::{Filter, Global};
use crate::datapath::{Pins, RuleStore};
use crate::error::{Exit, one_line};
use crate::host::device;
use crate::host::origin::locate;
use crate::host::path::Ask;
use crate::host::server::Wanted;
use crate::model::{Backend, Mac, Origin, Rule};
use crate::show::refresh::{Failed, Refreshed, Report};
use crate::show::{self, json};

pub fn run(global: &Global, pins: &Pins, args: &Filter) -> Result<ExitCode> {
    let rules = chosen(pins, args)?;
    // Without the lock: who is asked may take seconds to answer.
    let ways = ways(&rules, args);
    let report = apply(pins, &rules, args, &ways)?;
    for failed in &report.failed {
        eprintln!("xdpredir: {failed}");
    }
    if global.json {
        json::print(&report)?;
    } else {
        show::text(&report)?;
    }
    let all = report.failed.is_empty();
    Ok(ExitCode::from(if all { 0 } else { Exit::Failed as u8 }))
}

/// The rules that have a backend that is meant; exit 3 where some are named, and there are none.
fn chosen(pins: &Pins, args: &Filter) -> Result<Vec<Rule>> {
    let Some(_lock) = pins.lock_shared()? else {
        return Err(pins.not_attached());
    };
    let rules = filter::rules(&RuleStore::open(pins)?, args)?;
    filter::require(args, &rules)?;
    Ok(rules)
}

/// The way to a backend as it is now; else why it can't be found.
type Way = Result<Now, String>;

struct Now {
    server: IpAddr,
    mac: Mac,
    source_mac: Mac,
    ifindex: u32,
    completes_checksum: bool,
}

impl Now {
    fn find(origin: &Origin, server: IpAddr) -> Result<Self> {
        let path = locate(origin, Wanted::Formerly(server), Ask::Anew)?;
        Ok(Now {
            server: path.server,
            mac: path.mac,
            source_mac: path.device.require_source_mac()?,
            ifindex: path.device.ifindex,
            completes_checksum: path.device.completes_checksum()?,
        })
    }

    fn of(&self, backend: &Backend) -> Backend {
        Backend {
            server: self.server,
            mac: self.mac,
            source_mac: self.source_mac,
            ifindex: self.ifindex,
            completes_checksum: self.completes_checksum,
            ..backend.clone()
        }
    }
}

/// By origin and former address: what many rules have in common is looked for once.
type Ways = HashMap<(Origin, IpAddr), Way>;

fn ways(rules: &[Rule], args: &Filter) -> Ways {
    let mut ways = Ways::new();
    let backends = rules.iter().flat_map(|rule| &rule.backends);
    for backend in backends.filter(|b| is_wanted(args, b)) {
        let Some(origin) = &backend.origin else {
            continue;
        };
        ways.entry((origin.clone(), backend.server))
            .or_insert_with(|| Now::find(origin, backend.server).map_err(|error| one_line(&error)));
    }
    ways
}

fn apply(pins: &Pins, rules: &[Rule], args: &Filter, ways: &Ways) -> Result<Report> {
    let mut report = Report::default();
    if ways.is_empty() {
        return Ok(report);
    }
    let _lock = pins.lock()?;
    let store = RuleStore::open(pins)?;
    for rule in rules {
        // As it is by now: another run may have changed it meanwhile.
        if let Some(rule) = store.get(&rule.matches)? {
            renew(&store, &rule, args, ways, &mut report)?;
        }
    }
    Ok(report)
}

fn renew(
    store: &RuleStore,
    rule: &Rule,
    args: &Filter,
    ways: &Ways,
    report: &mut Report,
) -> Result<()> {
    let mut changes = Changes::new();
    for (place, backend) in rule.backends.iter().enumerate() {
        let way = backend.origin.as_ref().filter(|_| is_wanted(args, backend));
        let way = way.and_then(|origin| ways.get(&(origin.clone(), backend.server)));
        match way {
            Some(Ok(now)) => {
                let new = now.of(backend);
                if new != *backend || !store.has_egress(new.ifindex)? {
                    changes.insert(place, new);
                }
            }
            Some(Err(why)) => report.failed.push(Failed::new(rule, backend, why)),
            None => {}
        }
    }
    while let Some(place) = taken(rule, &changes) {
        let why = format!(
            "its new address {} is another backend's",
            changes[&place].server
        );
        changes.remove(&place);
        let failed = Failed::new(rule, &rule.backends[place], &why);
        report.failed.push(failed);
    }
    if changes.is_empty() {
        return Ok(());
    }
    for new in changes.values() {
        store
            .open_egress(new.ifindex)
            .with_context(|| format!("ifindex {}", new.ifindex))?;
    }
    // Again: where a device took another's index, the other backends have lost theirs.
    let now = store.get(&rule.matches)?;
    store.put(&changed(now.as_ref().unwrap_or(rule), &changes))?;
    for (place, new) in changes {
        let names = [rule.backends[place].ifindex, new.ifindex].map(device::name_of);
        let refreshed = Refreshed::new(rule, &rule.backends[place], &new, names);
        report.refreshed.push(refreshed);
    }
    Ok(())
}

/// The backends to be, by the places of those that were.
type Changes = BTreeMap<usize, Backend>;

/// One whose new address another backend of the rule has, or is to have.
fn taken(rule: &Rule, changes: &Changes) -> Option<usize> {
    let server = |place: usize| {
        let new = changes.get(&place);
        new.unwrap_or(&rule.backends[place]).server
    };
    let others = |place| (0..rule.backends.len()).filter(move |&other| other != place);
    let moved = |place: &usize| server(*place) != rule.backends[*place].server;
    changes
        .keys()
        .copied()
        .filter(moved)
        .find(|&place| others(place).any(|other| server(other) == server(place)))
}

fn changed(rule: &Rule, changes: &Changes) -> Rule {
    let mut new = Rule {
        matches: rule.matches,
        backends: Vec::new(),
    };
    for (place, backend) in rule.backends.iter().enumerate() {
        new.put(changes.get(&place).unwrap_or(backend).clone());
    }
    new
}
