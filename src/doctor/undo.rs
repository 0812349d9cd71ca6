//! Puts back what mends changed.

use anyhow::{Context, Result, bail};

use crate::datapath::{Mends, Pins, RuleStore};
use crate::host::device::{self, Device};
use crate::host::ethtool::Ethtool;
use crate::host::namespaces::Namespaces;
use crate::host::{kernel, netns};
use crate::model::{Change, Match, Place, Way};

#[derive(Default)]
pub struct Undone {
    pub changes: Vec<Change>,
    pub errors: Vec<anyhow::Error>,
}

/// Puts all back, the last change first; what could not be is still written down. The caller holds
/// the lock.
pub fn undo(pins: &Pins) -> Result<Undone> {
    let mut undone = Undone::default();
    let Some(mends) = Mends::open(pins)? else {
        return Ok(undone);
    };
    for number in mends.numbers()? {
        match undo_one(pins, &mends, number) {
            Ok(change) => undone.changes.extend(change),
            Err(error) => undone.errors.push(error),
        }
    }
    Ok(undone)
}

/// None where there was nothing to put back.
fn undo_one(pins: &Pins, mends: &Mends, number: u32) -> Result<Option<Change>> {
    let change = mends
        .get(number)
        .with_context(|| format!("change {number} of `doctor --fix`"))?;
    let was_there = put_back(pins, &change)
        .and_then(|was_there| mends.forget(number).map(|()| was_there))
        .with_context(|| format!("not put back: {change}"))?;
    Ok(Some(change).filter(|_| was_there))
}

/// False where what was changed is gone, or was changed since.
fn put_back(pins: &Pins, change: &Change) -> Result<bool> {
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
        Change::Backend {
            matches,
            before,
            after,
        } => backend(pins, matches, before, after),
    }
}

/// None where another device has its index now.
fn still_there(place: &Place) -> Result<Option<Device>> {
    let device = device::by_index(place.ifindex)?;
    Ok(device.filter(|device| device.name == place.ifname))
}

/// Does work in the namespace that the place was in, if that is still there.
fn at(place: &Place, work: impl FnOnce() -> Result<Option<()>> + Send) -> Result<bool> {
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
    kernel::missing_capabilities().contains(&"CAP_SYS_ADMIN")
}

/// Unless somebody has changed it since, or has given another the address.
fn backend(pins: &Pins, matches: &Match, before: &Way, after: &Way) -> Result<bool> {
    let store = RuleStore::open(pins)?;
    let Some(mut rule) = store.get(matches)? else {
        return Ok(false);
    };
    let now = rule.backend(after.server);
    let Some(now) = now.filter(|now| Way::of(now) == *after).cloned() else {
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
    store.put(&rule)?;
    Ok(true)
}
