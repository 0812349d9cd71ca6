//! Puts back what mends changed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anyhow::{Context, Error, Result, bail};

use super::AT_ONCE;
use crate::datapath::{JournalMap, Pins, RuleStore};
use crate::host::device::{self, Device};
use crate::host::ethtool::Ethtool;
use crate::host::namespaces::Namespaces;
use crate::host::{capability, netns};
use crate::model::{Adjacency, Change, DeviceRef, Match, Rule};

#[derive(Default)]
pub struct Reverted {
    pub changes: Vec<Change>,
    pub errors: Vec<anyhow::Error>,
}

/// Puts all back, the last change first; what could not be is still written down. The caller holds
/// the lock.
pub fn undo(pins: &Pins) -> Result<Reverted> {
    let mut undone = Reverted::default();
    let Some(mends) = JournalMap::open(pins)? else {
        return Ok(undone);
    };
    for numbers in mends.numbers()?.chunks(AT_ONCE) {
        undo_some(pins, &mends, numbers, &mut undone);
    }
    Ok(undone)
}

fn undo_some(pins: &Pins, mends: &JournalMap, numbers: &[u32], undone: &mut Reverted) {
    let mut of_rules = Vec::new();
    for &number in numbers {
        let read = mends.get(number);
        match read.with_context(|| format!("change {number} of `doctor --fix`")) {
            Ok(change @ Change::Backend { .. }) => of_rules.push((number, change)),
            Ok(change) => match put_back(&change).and_then(|was_there| {
                mends.forget(number)?;
                Ok(was_there)
            }) {
                Ok(was_there) => undone.changes.extend(Some(change).filter(|_| was_there)),
                Err(error) => undone.errors.push(not_put_back(error, &change)),
            },
            Err(error) => undone.errors.push(error),
        }
    }
    if let Some((_, first)) = of_rules.first() {
        let first = first.clone();
        match undo_rules(pins, mends, of_rules) {
            Ok(changes) => undone.changes.extend(changes),
            Err(error) => undone.errors.push(not_put_back(error, &first)),
        }
    }
}

fn not_put_back(error: Error, change: &Change) -> Error {
    error.context(format!("not put back: {change}"))
}

fn undo_rules(pins: &Pins, mends: &JournalMap, changes: Vec<(u32, Change)>) -> Result<Vec<Change>> {
    let store = RuleStore::open(pins)?;
    let mut rules = BTreeMap::new();
    let (mut numbers, mut undone) = (Vec::new(), Vec::new());
    for (number, change) in changes {
        if backend(&store, &mut rules, &change)? {
            undone.push(change);
        }
        numbers.push(number);
    }
    store.put_all(&rules.into_values().collect::<Vec<_>>())?;
    for number in numbers {
        mends.forget(number)?;
    }
    Ok(undone)
}

/// A device's change. False where that is gone, or was changed since.
fn put_back(change: &Change) -> Result<bool> {
    match change {
        Change::Gro(place) => at(place, || {
            let device = still_there(place)?;
            let ethtool = Ethtool::open()?;
            let device = device.filter(|device| ethtool.gro(&device.name) == Some(true));
            device
                .map(|device| ethtool.set_gro(&device.name, false))
                .transpose()
        }),
        Change::LinkUp(place) => at(place, || {
            let device = still_there(place)?.filter(|device| device.enabled);
            device
                .map(|device| device::set_enabled(device.ifindex, false))
                .transpose()
        }),
        Change::Backend { .. } => Ok(false),
    }
}

/// None where another device has its index now.
fn still_there(place: &DeviceRef) -> Result<Option<Device>> {
    let device = device::by_index(place.ifindex)?;
    Ok(device.filter(|device| device.name == place.ifname))
}

/// Does work in the namespace that the place was in, if that is still there.
fn at(place: &DeviceRef, work: impl FnOnce() -> Result<Option<()>> + Send) -> Result<bool> {
    let Some(path) = &place.netns else {
        return Ok(work()?.is_some());
    };
    let is_it = netns::within(path, netns::cookie).is_ok_and(|cookie| cookie == place.cookie);
    let path = if is_it {
        Some(path.clone())
    } else {
        Namespaces::with_cookie(place.cookie).map(|netns| netns.path)
    };
    match path {
        Some(path) => Ok(netns::within(&path, work)?.is_some()),
        None if may_not_look() => bail!("needs CAP_SYS_ADMIN to enter its network namespace"),
        None => Ok(false),
    }
}

/// What can't be entered by this run need not be gone.
fn may_not_look() -> bool {
    !capability::missing(&capability::ENTER).is_empty()
}

/// In the rules as they are to be; unless somebody has changed it since, or has given another the
/// address.
fn backend(store: &RuleStore, rules: &mut BTreeMap<Match, Rule>, change: &Change) -> Result<bool> {
    let Change::Backend {
        matches,
        before,
        after,
    } = change
    else {
        return Ok(false);
    };
    let rule = match rules.entry(*matches) {
        Entry::Occupied(read) => read.into_mut(),
        Entry::Vacant(new) => match store.get(matches)? {
            Some(rule) => new.insert(rule),
            None => return Ok(false),
        },
    };
    let now = rule.backend(after.server);
    let Some(now) = now.filter(|now| Adjacency::of(now) == *after).cloned() else {
        return Ok(false);
    };
    if before.server != after.server && rule.backend(before.server).is_some() {
        return Ok(false);
    }
    let moves_back = before.ifindex != after.ifindex;
    let is_another = |device: &Device| device.mac != Some(before.source_mac);
    if moves_back && device::by_index(before.ifindex)?.is_some_and(|d| is_another(&d)) {
        return Ok(false);
    }
    rule.remove(after.server);
    rule.put(before.given_to(&now));
    Ok(true)
}
