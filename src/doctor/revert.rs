//! Reverts what fixes changed.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, bail};

use super::rebind::{RULES_AT_ONCE, Rebind, rebind};
use crate::datapath::{JournalMap, Lock, Pins, RuleStore, pass};
use crate::host::device::{self, Device};
use crate::host::ethtool::Ethtool;
use crate::host::namespaces::Namespaces;
use crate::host::{capability, netns};
use crate::model::{Backend, Change, DeviceRef, ForAnswers, Match};

/// What became of the changes in the journal.
#[derive(Default)]
pub struct Reverted {
    /// What is as it was before.
    pub changes: Vec<Change>,
    /// What came of that where answers arrive.
    pub for_answers: ForAnswers,
    /// Why the rest is not; that stays in the journal.
    pub errors: Vec<anyhow::Error>,
}

impl Reverted {
    fn add(&mut self, change: &Change, made: Result<Vec<Change>>) {
        match made {
            Ok(changes) => self.changes.extend(changes),
            Err(error) => {
                let context = format!("not reverted: {change}");
                self.errors.push(error.context(context));
            }
        }
    }
}

/// Reverts all changes, the last one first.
pub fn undo(pins: &Pins, lock: &Lock) -> Result<Reverted> {
    let mut reverted = Reverted::default();
    if let Some(journal) = JournalMap::open(pins)? {
        for numbers in journal.numbers()?.chunks(RULES_AT_ONCE) {
            undo_some(pins, lock, &journal, numbers, &mut reverted);
        }
    }
    Ok(reverted)
}

fn undo_some(
    pins: &Pins,
    lock: &Lock,
    journal: &JournalMap,
    numbers: &[u32],
    reverted: &mut Reverted,
) {
    let mut backends = Vec::new();
    for &number in numbers {
        let read = journal.get(number);
        match read.with_context(|| format!("change {number} in the journal")) {
            Ok(change @ Change::Backend { .. }) => backends.push((number, change)),
            Ok(change) => {
                let made = revert_device(pins, &change).and_then(|was_there| {
                    journal.forget(number)?;
                    Ok(was_there.then(|| change.clone()).into_iter().collect())
                });
                reverted.add(&change, made);
            }
            Err(error) => reverted.errors.push(error),
        }
    }
    if let Some((_, first)) = backends.first() {
        let made = revert_backends(pins, lock, &backends);
        let made = made.and_then(|(changes, for_answers)| {
            reverted.for_answers.extend(for_answers);
            let mut numbers = backends.iter().map(|(number, _)| *number);
            numbers.try_for_each(|number| journal.forget(number))?;
            Ok(changes)
        });
        reverted.add(first, made);
    }
}

/// Gives backends their former adjacencies, unless somebody has changed them since, or another backend
/// has their former address now.
fn revert_backends(
    pins: &Pins,
    lock: &Lock,
    changes: &[(u32, Change)],
) -> Result<(Vec<Change>, ForAnswers)> {
    let (mut former, mut egress, mut rules) = (HashMap::new(), BTreeSet::new(), BTreeSet::new());
    for (_, change) in changes {
        let Change::Backend {
            matches,
            before,
            after,
        } = *change
        else {
            continue;
        };
        let device = device::by_index(before.ifindex)?;
        let is_same = |device: &Device| device.mac == Some(before.source_mac);
        if before.ifindex == after.ifindex || device.as_ref().is_none_or(is_same) {
            egress.extend(device.map(|device| device.ifindex));
            rules.insert(matches);
            former.insert((matches, after), before);
        }
    }
    let adjacency = |matches: &Match, backend: &Backend| {
        let former = former.get(&(*matches, backend.adjacency));
        former.copied().map(Ok)
    };
    let store = RuleStore::open(pins)?;
    let (rebinds, for_answers) = rebind(&store, lock, rules, &egress, adjacency, |_| Ok(()))?;
    let reverted = |rebind: Rebind| {
        let change = move |(after, before): (Backend, _)| Change::Backend {
            matches: rebind.matches,
            before,
            after: after.adjacency,
        };
        rebind.changes.into_iter().map(change)
    };
    let changes = rebinds.into_iter().flat_map(reverted).collect();
    Ok((changes, for_answers))
}

/// Reverts the change of a device. False where the device is gone, or was changed since.
fn revert_device(pins: &Pins, change: &Change) -> Result<bool> {
    match change {
        Change::Gro(place) => at(place, || {
            let device = still_there(place)?;
            let ethtool = Ethtool::open()?;
            let device = device.filter(|device| ethtool.gro(&device.name) == Some(true));
            device
                .map(|device| ethtool.set_gro(&device.name, false))
                .transpose()
        }),
        Change::Pass(place) => pass::detach(pins, place),
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
    !capability::missing(capability::ENTER).is_empty()
}
