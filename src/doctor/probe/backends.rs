//! The backends of rules, and what this host and the servers' namespaces know of them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use anyhow::Result;

use super::peer;
use super::sources::{Networks, sample};
use super::whereabouts::{Egress, LinkLayer};
use crate::doctor::facts::{
    Asked, BackendFacts, DeviceFacts, Facts, Locators, LostLocator, ReplyArrival,
};
use crate::host::discovery;
use crate::host::features::Survey;
use crate::host::route::{self, Route};
use crate::host::sysctl;
use crate::model::{Backend, Locator, Reply, Rule};

/// Of a backend's rules, how many are asked for the way back of their sources.
pub const SOURCES: usize = 16;

/// The backends of some rules, as the rules have them.
pub fn of(rules: &[Rule], networks: &Networks) -> Vec<BackendFacts> {
    let mut all = BTreeMap::new();
    let lost = lost_locators(rules);
    for rule in rules {
        for backend in &rule.backends {
            let translated = rule.reply_of(backend) == Reply::Nat;
            let facts = match all.entry(BackendFacts::identity(backend)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(BackendFacts {
                    translated,
                    ..BackendFacts::new(backend)
                }),
            };
            facts.translated &= translated;
            if translated {
                facts.asked = facts.asked.or(Some(sample(*rule.matches.dst)));
            }
            add_locator(&mut facts.locators, rule, backend, &lost);
            if facts.sources.len() < SOURCES {
                let mut sources = networks.sources(rule, backend);
                sources.retain(|source| !facts.sources.contains(source));
                facts.sources.extend(sources);
            }
        }
    }
    all.into_values().collect()
}

fn add_locator(all: &mut Locators, rule: &Rule, backend: &Backend, lost: &HashSet<&Locator>) {
    let Some(locator) = &backend.origin else {
        let (count, first) = all.by_hand;
        all.by_hand = (count + 1, first.or(Some(rule.matches)));
        return;
    };
    all.any = true;
    all.followed |= locator.is_followed();
    all.by_route |= *locator == Locator::Route;
    if !lost.contains(locator) {
        return;
    }
    match all.lost.iter_mut().find(|lost| lost.locator == *locator) {
        Some(lost) => lost.rules += 1,
        None => all.lost.push(LostLocator {
            locator: locator.clone(),
            rules: 1,
            first: rule.matches,
        }),
    }
}

/// What many rules have in common is looked up once.
fn lost_locators(rules: &[Rule]) -> HashSet<&Locator> {
    let backends = rules.iter().flat_map(|rule| &rule.backends);
    let mut lost: HashSet<&Locator> = backends.filter_map(|b| b.origin.as_ref()).collect();
    lost.retain(|locator| discovery::is_lost(locator));
    lost
}

/// By which addresses this host reaches the servers of rules that make these the source of packets.
pub fn own_sources(rules: &[Rule]) -> Result<BTreeMap<IpAddr, Option<IpAddr>>> {
    let mut sources = BTreeMap::new();
    for rule in rules {
        for backend in rule.backends.iter().filter(|b| rule.finds_snat_of(b)) {
            if let Entry::Vacant(new) = sources.entry(backend.server) {
                new.insert(route::source_to(backend.server)?);
            }
        }
    }
    Ok(sources)
}

/// What this namespace knows of the backends.
pub fn ask_host(facts: &mut Facts, survey: &Survey, links: &LinkLayer) -> Result<()> {
    let used = survey.devices().iter();
    let used = used.filter(|device| facts.devices.contains_key(&device.ifindex));
    let egress: BTreeMap<u32, Egress> = used
        .map(|device| (device.ifindex, Egress::of(device.clone())))
        .collect();
    for backend in &mut facts.backends {
        match (
            facts.devices.get(&backend.ifindex),
            egress.get(&backend.ifindex),
        ) {
            (Some(device), Some(egress)) => {
                links.locate(backend, egress)?;
                backend.answers = Some(answers(backend, device)?);
            }
            _ => {
                let route = route::lookup(backend.server, None)?;
                backend.whereabouts.is_own = matches!(route, Route::Local);
            }
        }
    }
    Ok(())
}

/// Where this host gets what the server answers.
fn answers(backend: &BackendFacts, egress: &DeviceFacts) -> Result<ReplyArrival> {
    let own = (egress.features.ifindex, egress.name());
    let master = egress.features.master.as_ref();
    let (ifindex, device) = master.map_or(own, |master| (master.ifindex, &master.ifname));
    Ok(ReplyArrival {
        device: device.to_string(),
        rp_filter: sysctl::rp_filter(device),
        forwards: sysctl::forwards(backend.server, device),
        accept_local: sysctl::accept_local(device),
        back: peer::back(None, backend.server, ifindex)?.0,
        asked: backend.asked.map(|addr| asked(addr, ifindex)).transpose()?,
    })
}

/// What this host makes of packets from an address, which arrive at a device.
fn asked(addr: IpAddr, arrival: u32) -> Result<Asked> {
    Ok(Asked {
        addr,
        is_own: matches!(route::lookup(addr, None)?, Route::Local),
        back: peer::back(None, addr, arrival)?.0,
    })
}

/// What the peers' namespaces know of the backends; each namespace is entered once.
pub fn ask_peers(facts: &mut Facts) {
    for device in facts.devices.values_mut() {
        let ifindex = device.features.ifindex;
        let backends = facts.backends.iter_mut();
        let mut backends: Vec<&mut BackendFacts> = backends
            .filter(|backend| backend.ifindex == ifindex)
            .collect();
        let peer = device.features.peer.as_ref().map(|peer| &peer.device);
        device.peer_facts = peer.and_then(|peer| peer::probe(peer, &mut backends));
    }
}
