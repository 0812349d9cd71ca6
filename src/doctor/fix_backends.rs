//! Fixes what findings say of backends.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use anyhow::{Context, Error, Result};

use super::fix::Fixed;
use super::journal::Journal;
use super::rebind::{RULES_AT_ONCE, rebind};
use super::rediscover::{self, Resolutions};
use crate::datapath::{self, Lock, Pins, RuleStore};
use crate::error::one_line;
use crate::host::device;
use crate::model::{Adjacency, Backend, Change, Finding, Fix, Locator, Mac, Refreshed, Rule};

/// Where the new adjacency of a backend comes from.
enum Source {
    /// The finding.
    Finding(Result<Adjacency, String>),
    /// The host, which is asked as when the backend was found before.
    Host,
}

/// The backends that findings name: by server, device and MAC address, as the rules have them.
struct BackendFixes(HashMap<(IpAddr, u32, Mac), Source>);

/// Gives the backends that findings name their new adjacencies.
pub fn fix_backends(pins: &Pins, findings: &[Finding], fixed: &mut Fixed) -> Result<()> {
    let fixes = BackendFixes::of(findings);
    if fixes.0.is_empty() {
        return Ok(());
    }
    let rules = fixes.rules(pins)?;
    // Without the lock: a server that is silent takes seconds.
    let found = Resolutions::find(fixes.sought(&rules));
    let mut failed = BTreeSet::new();
    // What stops the fixes of some rules, as a full journal, would stop the others.
    let stopped = rules.chunks(RULES_AT_ONCE).try_for_each(|some| {
        let from = some[0].matches;
        let made = fixes.make(pins, some, &found, &mut failed);
        let context = || format!("{from}: not mended, nor are those after it");
        fixed.changes.extend(made.with_context(context)?);
        Ok(())
    });
    fixed.errors.extend(failed.into_iter().map(Error::msg));
    fixed.errors.extend(stopped.err());
    Ok(())
}

impl BackendFixes {
    fn of(findings: &[Finding]) -> Self {
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
                Refreshed::Path => {
                    fixes.insert(key, Source::Host);
                }
                Refreshed::Mac(now) => {
                    let adjacency = || given(server, ifindex, now).map_err(|e| one_line(&e));
                    let source = || Source::Finding(adjacency());
                    fixes.entry(key).or_insert_with(source);
                }
            }
        }
        BackendFixes(fixes)
    }

    fn source(&self, backend: &Backend) -> Option<&Source> {
        self.0.get(&(backend.server, backend.ifindex, backend.mac))
    }

    /// The rules that have such backends.
    fn rules(&self, pins: &Pins) -> Result<Vec<Rule>> {
        let rules = datapath::read(pins, || RuleStore::open(pins)?.list())?;
        let mut rules = rules.unwrap_or_default();
        rules.retain(|rule| rule.backends.iter().any(|b| self.source(b).is_some()));
        Ok(rules)
    }

    fn sought(&self, rules: &[Rule]) -> HashSet<(Locator, IpAddr)> {
        let backends = rules.iter().flat_map(|rule| &rule.backends);
        let sought = backends.filter(|b| matches!(self.source(b), Some(Source::Host)));
        sought.map(|b| (locator(b).clone(), b.server)).collect()
    }

    fn adjacency(
        &self,
        found: &Resolutions,
        backend: &Backend,
    ) -> Option<Result<Adjacency, String>> {
        match self.source(backend)? {
            Source::Finding(adjacency) => Some(adjacency.clone()),
            Source::Host => found.get(locator(backend), backend.server).cloned(),
        }
    }

    fn devices(&self, found: &Resolutions) -> BTreeSet<u32> {
        let given = self.0.values().filter_map(|source| match source {
            Source::Finding(Ok(adjacency)) => Some(adjacency.ifindex),
            _ => None,
        });
        given.chain(found.devices()).collect()
    }

    fn make(
        &self,
        pins: &Pins,
        rules: &[Rule],
        found: &Resolutions,
        failed: &mut BTreeSet<String>,
    ) -> Result<Vec<Change>> {
        let lock = Lock::take(pins)?;
        let mut journal = Journal::open(pins)?;
        let egress = self.devices(found);
        let rules = rules.iter().map(|rule| rule.matches);
        let adjacency = |_: &_, backend: &Backend| self.adjacency(found, backend);
        let mut changes = Vec::new();
        let rebinds = rebind(pins, &lock, rules, &egress, adjacency, |rebinds| {
            for rebind in rebinds {
                let all = rebind.changes.iter();
                changes.extend(all.map(|(old, new)| Change::backend(rebind.matches, old, new)));
            }
            journal.write(&changes)
        })?;
        journal.confirm()?;
        let failures = rebinds.iter().flat_map(|rebind| &rebind.failed);
        failed.extend(failures.map(|(backend, why)| format!("server {}: {why}", backend.server)));
        Ok(changes)
    }
}

/// A backend that the user gave by its MAC address is found by its route.
fn locator(backend: &Backend) -> &Locator {
    backend.origin.as_ref().unwrap_or(&Locator::Route)
}

fn given(server: IpAddr, ifindex: u32, mac: Mac) -> Result<Adjacency> {
    let device = device::by_index(ifindex)?.context("its device is gone")?;
    rediscover::by_device(server, mac, &device)
}
