//! The addresses by which this host reaches servers: what packets get as their source with `Snat::Auto`.

use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::Result;

use super::RuleSelector;
use super::error::{Error, Field};
use crate::error::one_line;
use crate::host::route::{self, Route};
use crate::model::{Backend, Match, Rule, Snat};

/// The address by which this host reaches a server.
pub fn of(server: IpAddr) -> Result<IpAddr> {
    let refused = |why: String| Error::value(Field::Snat, Snat::Auto, why);
    let hop = match route::lookup(server, None)? {
        Route::Hop(hop) => hop,
        Route::Local => return Err(refused(format!("{server} is an address of this host"))),
        Route::None => {
            let why = format!("this host has no route to {server}: add one, or give the address");
            return Err(refused(why));
        }
    };
    let usable = hop.source.filter(|source| !is_link_local(*source));
    let none = || format!("this host has no address to reach {server} from but link-local ones");
    usable.ok_or_else(|| refused(none()))
}

/// Packets from and to these are no connection's.
fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V4(addr) if addr.is_link_local()) || route::is_link_local(addr)
}

/// Finds the sources that a rule's packets get: that to a server that was just added, and those that are missing.
pub fn find(rule: &mut Rule, added: IpAddr) -> Result<()> {
    if rule.snat != Some(Snat::Auto) {
        return Ok(());
    }
    for backend in &mut rule.backends {
        let is_known = backend.own_source.is_some() && backend.server != added;
        if !is_known && !backend.rewrite.keep_ip {
            backend.own_source = Some(of(backend.server)?);
        }
    }
    Ok(())
}

/// The sources of packets to some backends, found again.
pub struct Sources<'a> {
    selector: &'a RuleSelector,
    /// The rules that have such backends.
    pub rules: Vec<Match>,
    /// By the server's address: many rules share few.
    found: HashMap<IpAddr, Result<IpAddr, String>>,
}

/// A backend whose packets get another source, or whose source was not found.
pub struct Renewed {
    pub matches: Match,
    pub before: Backend,
    pub now: Result<IpAddr, String>,
}

impl<'a> Sources<'a> {
    /// Of the selected backends.
    pub fn of(rules: &[Rule], selector: &'a RuleSelector) -> Self {
        let mut sources = Sources {
            selector,
            rules: Vec::new(),
            found: HashMap::new(),
        };
        for rule in rules {
            let meant = |backend: &&Backend| rule.finds_snat_of(backend) && sources.means(backend);
            let backends = rule.backends.iter().filter(meant);
            let servers: Vec<IpAddr> = backends.map(|backend| backend.server).collect();
            sources
                .rules
                .extend((!servers.is_empty()).then_some(rule.matches));
            for server in servers {
                let find = || of(server).map_err(|error| one_line(&error));
                sources.found.entry(server).or_insert_with(find);
            }
        }
        sources
    }

    fn means(&self, backend: &Backend) -> bool {
        self.selector.matches_backend(backend)
    }

    /// Gives the selected backends of a rule what was found.
    pub fn renew(&self, rule: &mut Rule) -> Vec<Renewed> {
        let mut renewed = Vec::new();
        let is_wanted = rule.snat == Some(Snat::Auto);
        for backend in rule.backends.iter_mut().filter(|_| is_wanted) {
            let meant = self.means(backend) && !backend.rewrite.keep_ip;
            let found = self.found.get(&backend.server).filter(|_| meant);
            let Some(now) = found.filter(|now| now.as_ref().ok() != backend.own_source.as_ref())
            else {
                continue;
            };
            renewed.push(Renewed {
                matches: rule.matches,
                before: backend.clone(),
                now: now.clone(),
            });
            backend.own_source = now.clone().ok().or(backend.own_source);
        }
        renewed
    }
}
