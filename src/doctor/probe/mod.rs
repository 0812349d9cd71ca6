//! Asks the kernel, the host and the peers' namespaces for the facts that the checks look at.

pub mod backends;
mod destinations;
mod host;
mod interfaces;
mod peer;
pub mod sources;
pub mod whereabouts;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::datapath::{self, Interface, Pins, RuleStore};
use crate::doctor::facts::{Facts, StalePins};
use crate::host::features::Survey;
use crate::host::sysctl;
use crate::model::{Backend, Failures, Outcomes, Rule};
use sources::Networks;
use whereabouts::LinkLayer;

/// Everything in this network namespace.
pub fn whole(pins: &Pins) -> Result<Facts> {
    let survey = Survey::take()?;
    let mut host = host::host(pins, &survey);
    let stale_pins = host::stale_pins(pins, &host)?;
    let is_ours = |stale: &StalePins| matches!(stale, StalePins::OtherVersion { .. });
    let mut found = Facts::default();
    // Another version's pins can't be read.
    if !stale_pins.iter().any(is_ours) {
        let read = || {
            let store = RuleStore::open(pins)?;
            let interfaces = datapath::interfaces(pins)?;
            let rules = store.list()?;
            let losses = losses(&store, &rules)?;
            let mut found = live(pins, &store, &survey, &interfaces, rules)?;
            found.losses = losses;
            found.outcomes = outcomes(pins, &interfaces)?;
            Ok((found, interfaces))
        };
        let read = datapath::read(pins, read)?;
        host.may_change_rules = read.is_some();
        let interfaces;
        (found, interfaces) = read.unwrap_or_default();
        let is_live = |interface: &&Interface| found.live().any(|l| l.ifindex == interface.ifindex);
        let running: Vec<&Interface> = interfaces.iter().filter(is_live).collect();
        host::try_programs(&mut host, &running);
    }
    found.host = host;
    found.stale_pins = stale_pins;
    Ok(found)
}

/// What concerns one backend of a rule.
pub fn of_backend(pins: &Pins, store: &RuleStore, rule: &Rule, backend: &Backend) -> Result<Facts> {
    let rules = vec![rule.with(vec![backend.clone()])];
    let interfaces = datapath::interfaces(pins)?;
    live(pins, store, &Survey::take()?, &interfaces, rules)
}

/// What concerns some rules.
pub fn of_rules(pins: &Pins, rules: &[Rule]) -> Result<Facts> {
    let facts = datapath::read(pins, || {
        let (store, interfaces) = (RuleStore::open(pins)?, datapath::interfaces(pins)?);
        live(pins, &store, &Survey::take()?, &interfaces, rules.to_vec())
    })?;
    Ok(facts.unwrap_or_default())
}

/// What concerns some interfaces.
pub fn of_interfaces(pins: &Pins, ifindexes: &[u32]) -> Result<Facts> {
    let facts = datapath::read(pins, || {
        let store = RuleStore::open(pins)?;
        let mut interfaces = datapath::interfaces(pins)?;
        interfaces.retain(|interface| ifindexes.contains(&interface.ifindex));
        live(pins, &store, &Survey::take()?, &interfaces, store.list()?)
    })?;
    Ok(facts.unwrap_or_default())
}

/// Interfaces, backends, and the devices of both.
fn live(
    pins: &Pins,
    store: &RuleStore,
    survey: &Survey,
    interfaces: &[Interface],
    rules: Vec<Rule>,
) -> Result<Facts> {
    let mut facts = Facts {
        attached: datapath::attached(pins)?,
        interfaces: interfaces
            .iter()
            .map(|interface| interfaces::interface(interface, pins, survey))
            .collect::<Result<_>>()?,
        ephemeral_ports: sysctl::ephemeral_ports(),
        source_ports: Some(datapath::source_ports(pins)?),
        own_sources: backends::own_sources(&rules)?,
        ..Facts::default()
    };
    let networks = Networks::behind(&interfaces::leading(&facts, survey))?;
    facts.backends = backends::of(&rules, &networks);
    let used = facts.interfaces.iter().map(|i| i.ifindex);
    let used: BTreeSet<u32> = used
        .chain(facts.backends.iter().map(|b| b.ifindex))
        .chain(rules.iter().filter_map(|rule| rule.action.ifindex()))
        .chain(rules.iter().filter_map(|rule| rule.matches.ingress))
        .chain(facts.interfaces.iter().filter_map(|i| i.policy.device()))
        .collect();
    let devices = survey.devices().iter();
    for device in devices.filter(|device| used.contains(&device.ifindex)) {
        let mut found = interfaces::device(device, store, survey)?;
        if facts.live().any(|i| i.ifindex == device.ifindex) {
            found.foreign_below = interfaces::foreign_below(&found);
        }
        facts.devices.insert(device.ifindex, found);
    }
    facts.below = interfaces::below(&facts, survey);
    let links = LinkLayer::read()?;
    backends::ask_host(&mut facts, survey, &links)?;
    facts.bridge_entries = interfaces::bridge_entries(&facts, &rules, &links);
    facts.destinations = destinations::of(&facts, &rules, survey)?;
    facts.rules = rules;
    backends::ask_peers(&mut facts);
    Ok(facts)
}

fn losses(store: &RuleStore, rules: &[Rule]) -> Result<BTreeMap<u32, Failures>> {
    let mut losses: BTreeMap<u32, Failures> = BTreeMap::new();
    let by_counter = store.failures()?.unwrap_or_default();
    let backends = rules.iter().flat_map(|rule| &rule.backends);
    let backends = backends.map(|backend| (backend.ifindex, backend.counter));
    let forward = |rule: &Rule| Some((rule.action.ifindex()?, rule.counter));
    for (ifindex, counter) in backends.chain(rules.iter().filter_map(forward)) {
        let lost = counter.and_then(|counter| by_counter.get(&counter));
        if let Some(failures) = lost {
            *losses.entry(ifindex).or_default() += failures;
        }
    }
    Ok(losses)
}

fn outcomes(pins: &Pins, interfaces: &[Interface]) -> Result<BTreeMap<u32, Outcomes>> {
    let of = |interface: &Interface| Ok((interface.ifindex, interface.outcomes(pins)?.1));
    interfaces.iter().map(of).collect()
}
