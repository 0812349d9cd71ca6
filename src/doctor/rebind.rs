//! Gives backends other adjacencies: `rule refresh`, doctor's fixes and their reverting all do that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;

use crate::datapath::{Lock, RuleStore};
use crate::host::route;
use crate::model::{Adjacency, Backend, Change, ForAnswers, Match, Rule};

/// Rules that are changed under one lock: other runs wait no longer than that takes.
pub const RULES_AT_ONCE: usize = 1024;

/// A new adjacency, or why there is none.
pub type Found = Result<Adjacency, String>;

/// What becomes of the backends of a rule.
pub struct Rebind {
    pub matches: Match,
    /// The backends that change, and their new adjacencies.
    pub changes: Vec<(Backend, Adjacency)>,
    /// The backends that stay because their adjacency was not found, or has another backend's address.
    pub failed: Vec<(Backend, String)>,
}

impl Rebind {
    /// What has to be reverted.
    pub fn changes(&self) -> impl Iterator<Item = Change> {
        self.changes.iter().map(|(old, new)| Change::Backend {
            matches: self.matches,
            before: old.adjacency,
            after: *new,
        })
    }
}

/// Reads the rules again, for another run may have changed or deleted them since they were read, and
/// gives their backends the adjacencies that `adjacency` has for them. `note` hears of the changes before
/// they are made.
pub fn rebind(
    store: &RuleStore,
    lock: &Lock,
    rules: impl IntoIterator<Item = Match>,
    egress: &BTreeSet<u32>,
    adjacency: impl Fn(&Match, &Backend) -> Option<Found>,
    note: impl FnOnce(&[Rebind]) -> Result<()>,
) -> Result<(Vec<Rebind>, ForAnswers)> {
    // Before the devices are opened: a backend whose device was removed and came back still has the old index.
    let mut before = Vec::new();
    for matches in rules {
        before.extend(store.get(&matches)?);
    }
    let rules = before.iter().map(|rule| rule.matches);
    store.edit(lock, egress, rules, |rules| {
        let pairs = rules.iter_mut().zip(&before);
        let rebinds = pairs.map(|(rule, before)| rebind_one(rule, before, &adjacency));
        let rebinds: Vec<Rebind> = rebinds.collect();
        note(&rebinds)?;
        Ok(rebinds)
    })
}

/// Gives backends of a rule, which is as `before` but for devices that it has lost, other adjacencies.
pub fn rebind_one(
    rule: &mut Rule,
    before: &Rule,
    adjacency: impl Fn(&Match, &Backend) -> Option<Found>,
) -> Rebind {
    let old = &before.backends;
    let mut new = BTreeMap::new();
    let mut failed = Vec::new();
    for (place, backend) in old.iter().enumerate() {
        let has_lost_device = rule.backends[place].ifindex != backend.ifindex;
        match adjacency(&rule.matches, backend) {
            Some(Ok(now)) if now != backend.adjacency || has_lost_device => {
                new.insert(place, now);
            }
            Some(Err(why)) => failed.push((backend.clone(), why)),
            _ => {}
        }
    }
    while let Some(place) = conflict(old, &new) {
        if let Some(new) = new.remove(&place) {
            let why = format!("its new address {} is another backend's", new.server);
            failed.push((old[place].clone(), why));
        }
    }
    let backends = std::mem::take(&mut rule.backends);
    for (place, mut backend) in backends.into_iter().enumerate() {
        if let Some(new) = new.get(&place) {
            backend.own_source = own_source(&backend, new);
            backend.adjacency = *new;
        }
        rule.put(backend);
    }
    let changes = new
        .into_iter()
        .map(|(place, new)| (old[place].clone(), new));
    Rebind {
        matches: rule.matches,
        changes: changes.collect(),
        failed,
    }
}

/// By which address this host reaches a server that has moved, where its rule gives that to packets.
fn own_source(backend: &Backend, new: &Adjacency) -> Option<IpAddr> {
    let before = backend.own_source?;
    let stays = new.server == backend.server;
    let now = || route::source_to(new.server).ok().flatten();
    Some(before).filter(|_| stays).or_else(now).or(Some(before))
}

/// A backend whose new address another one of the rule has, or is to have.
fn conflict(old: &[Backend], new: &BTreeMap<usize, Adjacency>) -> Option<usize> {
    let server = |place: usize| new.get(&place).unwrap_or(&old[place]).server;
    let others = |place| (0..old.len()).filter(move |&other| other != place);
    let moved = |place: &usize| server(*place) != old[*place].server;
    new.keys()
        .copied()
        .filter(moved)
        .find(|&place| others(place).any(|other| server(other) == server(place)))
}
