//! Who answers for the addresses that clients ask.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;

use crate::doctor::announce::{self, addresses};
use crate::doctor::facts::{DestinationFacts, Facts};
use crate::host::features::Survey;
use crate::host::link_address::Link;
use crate::host::{address, neighbour, route};
use crate::model::{Action, Policy, Rule};

/// The most addresses that hosts are asked for, of all rules.
const MOST: usize = 1024;

/// Of rules that redirect what is sent to a few addresses: those that are announced, and those of the networks
/// that the interfaces lead to. Who has them is asked at one time.
pub fn of(facts: &Facts, rules: &[Rule], survey: &Survey) -> Result<Vec<DestinationFacts>> {
    let mut found = Vec::new();
    let mut questions = Vec::new();
    let mut left = MOST;
    let mut context = None;
    for rule in rules.iter().filter(|rule| rule.action == Action::Redirect) {
        let addrs = addresses(&rule.matches);
        if addrs.is_empty() || addrs.len() > left {
            continue;
        }
        for (interface, device) in facts.ingress() {
            let (ifindex, mac) = (interface.ifindex, device.features.mac);
            let is_there = rule.matches.ingress.is_none_or(|only| only == ifindex);
            let on_link = is_on_link(rule, &networks(ifindex, survey)?);
            let Some(mac) = mac.filter(|_| is_there && (on_link || rule.announce)) else {
                continue;
            };
            let Context { local, proxied } = match &mut context {
                Some(context) => context,
                None => context.insert(Context::read()?),
            };
            let is_local = |addr: &&IpAddr| local.iter().any(|net| net.contains(*addr));
            let own = addrs.iter().find(is_local).copied();
            let asked = interface.policy == Policy::Pass && own.is_none();
            if asked {
                left = left.saturating_sub(addrs.len());
                let link = announce::link(&rule.matches, ifindex, mac);
                questions.push((link, addrs.clone()));
            }
            found.push(DestinationFacts {
                rule: rule.clone(),
                ifindex,
                on_link,
                own,
                proxied: addrs.iter().any(|addr| proxied.contains(&(ifindex, *addr))),
                asked,
                owner: None,
            });
        }
    }
    ask(&mut found, &questions);
    Ok(found)
}

/// What is read once, where a rule needs it.
struct Context {
    local: Vec<IpNet>,
    proxied: BTreeSet<(u32, IpAddr)>,
}

impl Context {
    fn read() -> Result<Self> {
        Ok(Context {
            local: route::local()?,
            proxied: neighbour::proxied()?,
        })
    }
}

/// The networks that an interface leads to; of a bridge's port, those of the bridge.
fn networks(ifindex: u32, survey: &Survey) -> Result<Vec<IpNet>> {
    let mut devices = survey.devices().iter();
    let device = devices.find(|device| device.ifindex == ifindex);
    let master = device.and_then(|device| device.master);
    let mut networks = Vec::new();
    for ifindex in [Some(ifindex), master].into_iter().flatten() {
        let all = address::of(ifindex, None)?.into_iter();
        networks.extend(all.filter(|addr| !addr.stands_alone()).map(|addr| addr.net));
    }
    Ok(networks)
}

/// The addresses of an interface are those of its untagged frames.
fn is_on_link(rule: &Rule, networks: &[IpNet]) -> bool {
    let dst = rule.matches.dst;
    rule.matches.vlan.is_none() && networks.iter().any(|net| net.contains(&*dst))
}

/// Who may not ask knows nothing.
fn ask(found: &mut [DestinationFacts], questions: &[(Link, Vec<IpAddr>)]) {
    let owners = announce::owners(questions);
    for destination in found {
        let Ok(owners) = &owners else {
            destination.asked = false;
            continue;
        };
        let dst = destination.rule.matches.dst;
        let mut owners = owners.iter().filter(|_| destination.asked);
        let owner =
            owners.find(|owner| owner.ifindex == destination.ifindex && dst.contains(&owner.addr));
        destination.owner = owner.map(|owner| (owner.addr, owner.mac));
    }
}
