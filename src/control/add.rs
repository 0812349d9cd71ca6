//! Adds a backend to a rule, or updates it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};

use super::resolve::{BackendSpec, Resolution};
use super::{MatchSpec, inventory, validate};
use crate::datapath::{self, Lock, Pins, RuleStore};
use crate::doctor::{self, checks};
use crate::error::{Exit, failure};
use crate::model::{
    Adjacency, BackendUpdate, Finding, MAX_BACKENDS, Match, Rewriting, Rule, RuleRecord, Weight,
};

/// A backend for a rule.
#[derive(Clone, Debug)]
pub struct AddRequest {
    /// Which packets the rule takes.
    pub matches: MatchSpec,
    /// How the backend is found.
    pub backend: BackendSpec,
    /// Its weight; None: 1, or as it is.
    pub weight: Option<Weight>,
    /// What else becomes of packets; None: nothing, or as it is.
    pub rewriting: Option<Rewriting>,
}

/// What was added.
pub struct AddReport {
    /// The backend as it is now.
    pub record: RuleRecord,
    /// It was there before.
    pub is_update: bool,
    /// The name of its device.
    pub device: String,
    /// What was found, and how.
    pub found: Vec<String>,
    /// Why the server was not found again, and its backend kept.
    pub not_found: Option<anyhow::Error>,
    /// What keeps packets from arriving; an error where that could not be checked.
    pub warnings: Result<Vec<Finding>>,
}

/// Adds the backend, or updates the one that the rule has for the server.
pub fn add(pins: &Pins, request: &AddRequest) -> Result<AddReport> {
    let (matches, resolution) = resolve(pins, request)?;
    let server = resolution.path.server;
    let lock = Lock::take(pins)?;
    let store = RuleStore::open(pins)?;
    let before = store.get(&matches)?.unwrap_or(Rule::new(matches));
    let is_update = before.backend(server).is_some();
    let update = update(request, &before, &resolution)?;
    let rule = put(&store, before, &update)?;
    // What follows only looks, and may take a while.
    drop(lock);
    let backend = rule.backend(server).context("the backend was just added")?;
    let facts = doctor::of_backend(pins, &store, &rule, backend);
    Ok(AddReport {
        record: inventory::record(&store, &rule, backend)?,
        is_update,
        warnings: facts.map(|facts| checks::of_backend(&facts)),
        device: resolution.path.device.name,
        found: resolution.path.found,
        not_found: resolution.not_found,
    })
}

/// Resolves the backend before the lock is taken: a server that is silent takes seconds.
fn resolve(pins: &Pins, request: &AddRequest) -> Result<(Match, Resolution)> {
    let spec = &request.backend;
    spec.server.map_or(Ok(()), validate::server)?;
    spec.require_any()?;
    let found = spec.in_namespace(request.ipv6())?;
    let server = found
        .as_ref()
        .map(|found| found.path.server)
        .or(spec.server);
    let server = server.context("a request without an address has a namespace or a device")?;
    let matches = request.valid_match(server)?;
    if let Some(found) = found {
        return Ok((matches, found));
    }
    let rule = datapath::read(pins, || RuleStore::open(pins)?.get(&matches))?;
    let rule = rule.ok_or_else(|| datapath::not_attached(pins))?;
    let known = rule.as_ref().and_then(|rule| rule.backend(server));
    let found = spec.by_address(server, known, request.is_address_only())?;
    Ok((matches, found))
}

impl AddRequest {
    /// Whether the server's address must be an IPv6 one; None: either will do.
    fn ipv6(&self) -> Option<bool> {
        let snat = self.rewriting.and_then(|rewriting| rewriting.snat);
        let source = self.matches.src.map(|src| src.addr());
        source.or(snat).map(|addr| addr.is_ipv6())
    }

    fn valid_match(&self, server: IpAddr) -> Result<Match> {
        validate::server(server)?;
        let matches = self.matches.for_family(server);
        validate::source(matches.src, server)?;
        let snat = self.rewriting.and_then(|rewriting| rewriting.snat);
        snat.map_or(Ok(()), |snat| validate::snat(snat, server))?;
        Ok(matches)
    }

    fn is_address_only(&self) -> bool {
        let spec = &self.backend;
        let adjacency = spec.device.is_some() || spec.mac.is_some();
        !adjacency && self.weight.is_none() && self.rewriting.is_none()
    }
}

fn update(request: &AddRequest, before: &Rule, found: &Resolution) -> Result<BackendUpdate> {
    let path = &found.path;
    let known = before.backend(path.server);
    let full = known.is_none() && before.backends.len() == MAX_BACKENDS;
    let matches = before.matches;
    let message = format!("{matches}: has {MAX_BACKENDS} backends already, the most of a rule");
    ensure!(!full, failure(Exit::Failed, message));
    Ok(BackendUpdate {
        adjacency: doctor::by_device(path.server, path.mac, &path.device)?,
        is_kept: found.is_kept,
        origin: found.origin.clone(),
        gives_origin: known.is_some_and(|known| request.backend.gives_locator(known)),
        mac: request.backend.mac,
        weight: request.weight,
        rewriting: request.rewriting,
    })
}

/// Checks that everything finds room before the first change.
fn put(store: &RuleStore, mut rule: Rule, update: &BackendUpdate) -> Result<Rule> {
    let Adjacency {
        ifindex, server, ..
    } = update.adjacency;
    let mut wanted = rule.clone();
    wanted.apply(update);
    store.require_room(&wanted)?;
    store.require_egress(&BTreeSet::from([ifindex]))?;
    store
        .open_egress(ifindex, &mut rule.backends)
        .with_context(|| format!("ifindex {ifindex}"))?;
    let is_new = rule.backend(server).is_none();
    rule.apply(update);
    let mut backends = rule.backends.iter_mut();
    if let Some(new) = backends.find(|b| is_new && b.server == server) {
        new.counter = store.new_counter()?;
    }
    store.put(&rule)?;
    Ok(rule)
}
