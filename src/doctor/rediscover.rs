//! The adjacencies of backends as the host finds them now.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::slice::Chunks;
use std::sync::Mutex;
use std::thread;

use anyhow::Result;

use super::rebind::{Found, RULES_AT_ONCE, Rebind, rebind};
use crate::datapath::{Lock, RuleStore};
use crate::error::one_line;
use crate::host::device::Device;
use crate::host::discovery::{AddressHint, Probe, locate};
use crate::model::{Adjacency, Backend, ForAnswers, Locator, Mac, Match, Rule};

/// How many backends are looked for at a time, for a server that is silent takes seconds.
const WORKERS: usize = 16;

/// Where the new adjacency of a backend comes from.
pub enum Source {
    /// The host, which looks for the backend by this locator.
    Host(Locator),
    /// The caller.
    Caller(Found),
}

/// How a backend was found, and its address then.
pub type Sought = (Locator, IpAddr);

/// New adjacencies for the backends of some rules.
pub struct Rediscovery<F> {
    source: F,
    rules: Vec<Match>,
    /// By what was sought: a backend that many rules have is looked for once.
    found: HashMap<Sought, Found>,
    egress: BTreeSet<u32>,
}

impl<F: Fn(&Backend) -> Option<Source>> Rediscovery<F> {
    /// Looks for the backends that have a source. The caller does not hold the lock, or other runs would
    /// wait for silent servers.
    pub fn of(rules: &[Rule], source: F) -> Self {
        let (mut sought, mut egress) = (HashSet::new(), BTreeSet::new());
        let mut changing = Vec::new();
        for rule in rules {
            let sources = rule.backends.iter().filter_map(|b| Some((b, source(b)?)));
            let mut is_changing = false;
            for (backend, source) in sources {
                is_changing = true;
                match source {
                    Source::Host(locator) => drop(sought.insert((locator, backend.server))),
                    Source::Caller(found) => egress.extend(found.map(|new| new.ifindex)),
                }
            }
            changing.extend(is_changing.then_some(rule.matches));
        }
        let found = find_all(sought, |(locator, server)| find(locator, *server));
        egress.extend(found.values().flatten().map(|new| new.ifindex));
        Rediscovery {
            source,
            rules: changing,
            found,
            egress,
        }
    }

    /// The rules that have such backends, as many at a time as may be changed under one lock.
    pub fn batches(&self) -> Chunks<'_, Match> {
        self.rules.chunks(RULES_AT_ONCE)
    }

    /// Gives the backends of these rules what was found. `note` hears of the changes before they are made.
    pub fn rebind(
        &self,
        store: &RuleStore,
        lock: &Lock,
        rules: &[Match],
        note: impl FnOnce(&[Rebind]) -> Result<()>,
    ) -> Result<(Vec<Rebind>, ForAnswers)> {
        let found = |_: &Match, backend: &Backend| match (self.source)(backend)? {
            Source::Host(locator) => self.found.get(&(locator, backend.server)).cloned(),
            Source::Caller(found) => Some(found),
        };
        rebind(
            store,
            lock,
            rules.iter().copied(),
            &self.egress,
            found,
            note,
        )
    }
}

/// Looks for each of these, many at a time. Why one was not found is text, for it may be told of many rules.
pub fn find_all<S: Eq + Hash + Send>(
    sought: HashSet<S>,
    find: impl Fn(&S) -> Result<Adjacency> + Sync,
) -> HashMap<S, Found> {
    let workers = sought.len().min(WORKERS);
    let queue = Mutex::new(sought.into_iter());
    let found = Mutex::new(HashMap::new());
    let next = || queue.lock().expect("no worker panics").next();
    let work = || {
        while let Some(sought) = next() {
            let adjacency = find(&sought).map_err(|error| one_line(&error));
            let mut found = found.lock().expect("no worker panics");
            found.insert(sought, adjacency);
        }
    };
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    found.into_inner().expect("no worker panics")
}

/// Where a backend is now, by its locator.
pub fn find(locator: &Locator, server: IpAddr) -> Result<Adjacency> {
    let path = locate(locator, AddressHint::Previous(server), Probe::Always)?;
    by_device(path.server, path.mac, &path.device)
}

/// The adjacency by a device, as that is now.
pub fn by_device(server: IpAddr, mac: Mac, device: &Device) -> Result<Adjacency> {
    Ok(Adjacency {
        server,
        mac,
        source_mac: device.require_source_mac()?,
        ifindex: device.ifindex,
        completes_checksum: device.completes_checksum()?,
    })
}
