//! Rules that come back lead to devices that may be gone since: their backends are found again.

use std::collections::{HashMap, HashSet};

use anyhow::Result;

use super::rebind::{Found, Rebind, rebind_one};
use super::rediscover::{find, find_all};
use crate::host::device;
use crate::model::{Action, Backend, Mac, Match, Rule};

/// What became of rules whose device is gone.
#[derive(Default)]
pub struct Regained {
    /// Those with backends.
    pub rebinds: Vec<Rebind>,
    /// Those that forwarded there, and by which device.
    pub gone: Vec<(Match, u32)>,
}

/// The devices of this network namespace, with their addresses.
struct Devices(HashMap<u32, Option<Mac>>);

impl Devices {
    fn all() -> Result<Self> {
        let all = device::all()?.into_iter();
        Ok(Devices(all.map(|d| (d.ifindex, d.mac)).collect()))
    }

    /// Whether a device is gone, or another one has its index.
    fn is_gone(&self, ifindex: u32, source_mac: Option<Mac>) -> bool {
        let now = self.0.get(&ifindex);
        now.is_none_or(|now| source_mac.is_some() && *now != source_mac)
    }
}

/// Gives backends whose device is gone the adjacencies that they have now; those that `stands` has stay as they
/// are. The caller does not hold the lock.
pub fn regain(
    rules: &mut [Rule],
    stands: impl Fn(&Match, &Backend) -> Result<bool>,
) -> Result<Regained> {
    let devices = Devices::all()?;
    let mut lost = HashSet::new();
    let mut sought = HashSet::new();
    for rule in rules.iter() {
        for backend in &rule.backends {
            let is_gone = devices.is_gone(backend.ifindex, Some(backend.source_mac));
            if is_gone && !stands(&rule.matches, backend)? {
                lost.insert((rule.matches, backend.server));
                sought.extend(
                    backend
                        .origin
                        .clone()
                        .map(|origin| (origin, backend.server)),
                );
            }
        }
    }
    let found = find_all(sought, |(locator, server)| find(locator, *server));
    let adjacency = |matches: &Match, backend: &Backend| -> Option<Found> {
        lost.get(&(*matches, backend.server))?;
        let no_locator =
            || Err("its device is gone, and nothing tells how to find it again".into());
        let locator = backend.origin.clone();
        Some(locator.map_or_else(no_locator, |l| found[&(l, backend.server)].clone()))
    };
    let mut regained = Regained::default();
    for rule in rules {
        regain_forward(rule, &devices, &mut regained);
        let is_lost = |backend: &Backend| lost.contains(&(rule.matches, backend.server));
        if !rule.backends.iter().any(is_lost) {
            continue;
        }
        let rebind = rebind_one(rule, &rule.clone(), adjacency);
        for (failed, _) in &rebind.failed {
            let mut backends = rule.backends.iter_mut();
            let ours = backends.find(|backend| backend.server == failed.server);
            // Another device may have the index, now or later.
            ours.into_iter().for_each(|b| b.adjacency.ifindex = 0);
        }
        regained.rebinds.push(rebind);
    }
    Ok(regained)
}

fn regain_forward(rule: &mut Rule, devices: &Devices, regained: &mut Regained) {
    if let Action::Forward { ifindex, macs, .. } = &mut rule.action
        && devices.is_gone(*ifindex, macs.map(|macs| macs.source))
    {
        let gone = std::mem::take(ifindex);
        regained.gone.push((rule.matches, gone));
    }
}
