//! The backends that findings name, and where their new ways come from.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use anyhow::{Context, Result};

use super::rediscover::{self, Resolutions};
use crate::datapath::{self, Pins, RuleStore};
use crate::error::one_line;
use crate::host::device;
use crate::model::{Adjacency, Backend, Finding, Fix, Locator, Mac, Refreshed, Rule};

/// By server, device and MAC address as the rules have them.
pub struct BackendFixes(HashMap<(IpAddr, u32, Mac), To>);

enum To {
    /// From the finding.
    Told(Result<Adjacency, String>),
    /// From the host, as the backend was found before.
    Found,
}

impl BackendFixes {
    pub fn of(findings: &[Finding]) -> Self {
        let mut stale = HashMap::new();
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
                    stale.insert(key, To::Found);
                }
                Refreshed::Mac(now) => {
                    let told = || To::Told(told(server, ifindex, now).map_err(|e| one_line(&e)));
                    stale.entry(key).or_insert_with(told);
                }
            }
        }
        BackendFixes(stale)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The new way to a backend; None where no finding names it.
    pub fn way<'a>(
        &'a self,
        found: &'a Resolutions,
        backend: &Backend,
    ) -> Option<&'a Result<Adjacency, String>> {
        match self.to(backend)? {
            To::Told(way) => Some(way),
            To::Found => found.get(origin(backend), backend.server),
        }
    }

    fn to(&self, backend: &Backend) -> Option<&To> {
        self.0.get(&(backend.server, backend.ifindex, backend.mac))
    }

    /// The rules that have such backends.
    pub fn rules(&self, pins: &Pins) -> Result<Vec<Rule>> {
        let rules = datapath::read(pins, || RuleStore::open(pins)?.list())?;
        let mut rules = rules.unwrap_or_default();
        rules.retain(|rule| rule.backends.iter().any(|b| self.to(b).is_some()));
        Ok(rules)
    }

    /// What is to be looked for.
    pub fn sought(&self, rules: &[Rule]) -> HashSet<(Locator, IpAddr)> {
        let backends = rules.iter().flat_map(|rule| &rule.backends);
        let sought = backends.filter(|b| matches!(self.to(b), Some(To::Found)));
        sought.map(|b| (origin(b).clone(), b.server)).collect()
    }
}

/// One told by hand is looked for by its route.
fn origin(backend: &Backend) -> &Locator {
    backend.origin.as_ref().unwrap_or(&Locator::Route)
}

fn told(server: IpAddr, ifindex: u32, mac: Mac) -> Result<Adjacency> {
    let device = device::by_index(ifindex)?.context("its device is gone")?;
    rediscover::by_device(server, mac, &device)
}
