//! Fixes what findings say of backends.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use anyhow::{Context, Error, Result};

use super::fix::Fixed;
use super::journal::Journal;
use super::rebind::{Found, Rebind};
use super::rediscover::{self, Rediscovery, Source};
use crate::datapath::{Draft, Pins, RuleStore};
use crate::error::one_line;
use crate::host::device;
use crate::model::{Adjacency, Backend, Change, Finding, Fix, Locator, Mac, Match, Refreshed};

/// The backends that findings name: by server, device and MAC address, as the rules have them. None: their
/// adjacencies are those that the host finds.
type BackendFixes = HashMap<(IpAddr, u32, Mac), Option<Found>>;

/// Gives the backends that findings name their new adjacencies.
pub fn fix_backends(pins: &Pins, findings: &[Finding], fixed: &mut Fixed) -> Result<()> {
    let fixes = backend_fixes(findings);
    if fixes.is_empty() {
        return Ok(());
    }
    let Some((mut draft, rules)) = Draft::read(pins, RuleStore::list)? else {
        return Ok(());
    };
    let rediscovery = Rediscovery::of(&rules, |backend| source(&fixes, backend));
    let mut failed = BTreeSet::new();
    // What stops the fixes of some rules, as a full journal, would stop the others.
    let stopped = rediscovery.batches().try_for_each(|rules| {
        let made = fix_rules(pins, &mut draft, &rediscovery, rules, fixed, &mut failed);
        made.with_context(|| format!("{}: not fixed, nor are those after it", rules[0]))
    });
    fixed.errors.extend(failed.into_iter().map(Error::msg));
    fixed.errors.extend(stopped.err());
    Ok(())
}

fn fix_rules(
    pins: &Pins,
    draft: &mut Draft,
    rediscovery: &Rediscovery<impl Fn(&Backend) -> Option<Source>>,
    rules: &[Match],
    fixed: &mut Fixed,
    failed: &mut BTreeSet<String>,
) -> Result<()> {
    let (lock, store) = draft.lock()?;
    let mut journal = Journal::open(pins)?;
    let mut changes: Vec<Change> = Vec::new();
    let (rebinds, for_answers) = rediscovery.rebind(store, &lock, rules, |rebinds| {
        changes.extend(rebinds.iter().flat_map(Rebind::changes));
        journal.write(&changes)
    })?;
    journal.confirm()?;
    fixed.changes.extend(changes);
    fixed.for_answers.extend(for_answers);
    let failures = rebinds.iter().flat_map(|rebind| &rebind.failed);
    failed.extend(failures.map(|(backend, why)| format!("server {}: {why}", backend.server)));
    Ok(())
}

fn backend_fixes(findings: &[Finding]) -> BackendFixes {
    let mut fixes = HashMap::new();
    for fix in findings.iter().filter_map(|finding| finding.fix.as_ref()) {
        let Fix::Refresh {
            server,
            ifindex,
            mac,
            to,
        } = *fix
        else {
            continue;
        };
        let key = (server, ifindex, mac);
        match to {
            Refreshed::Path => drop(fixes.insert(key, None)),
            Refreshed::Mac(now) => {
                let adjacency = || given(server, ifindex, now).map_err(|e| one_line(&e));
                fixes.entry(key).or_insert_with(|| Some(adjacency()));
            }
        }
    }
    fixes
}

/// A backend that the user gave by its MAC address is found by its route.
fn source(fixes: &BackendFixes, backend: &Backend) -> Option<Source> {
    let given = fixes.get(&(backend.server, backend.ifindex, backend.mac))?;
    let locator = || backend.origin.clone().unwrap_or(Locator::Route);
    let host = || Source::Host(locator());
    Some(given.clone().map_or_else(host, Source::Caller))
}

fn given(server: IpAddr, ifindex: u32, mac: Mac) -> Result<Adjacency> {
    let device = device::by_index(ifindex)?.context("its device is gone")?;
    rediscover::by_device(server, mac, &device)
}
