//! JournalMap what can be put back. What it is about to change is written down first, so that a run that
//! is killed at any instant can be undone.

use std::collections::BTreeSet;

use anyhow::{Context, Error, Result, bail};

use super::fix_backends::BackendFixes;
use super::journal::Journal;
use super::rebind::{AT_ONCE, Rebind, carry_out};
use super::rediscover::Resolutions;
use crate::datapath::{Lock, Pins, RuleStore};
use crate::host::device::{self, Device};
use crate::host::ethtool::Ethtool;
use crate::host::{netns, peer};
use crate::model::{Adjacency, Backend, Change, DeviceRef, Finding, Fix, Remote, Rule};

/// What became of the attempts.
#[derive(Default)]
pub struct Fixed {
    pub changes: Vec<Change>,
    pub errors: Vec<anyhow::Error>,
}

/// The devices first: over a link that is down, nobody is found.
pub fn fix(pins: &Pins, findings: &[Finding]) -> Result<Fixed> {
    let mut mended = Fixed::default();
    mend_devices(pins, findings, &mut mended)?;
    let stale = BackendFixes::of(findings);
    if !stale.is_empty() {
        mend_backends(pins, &stale, &mut mended)?;
    }
    Ok(mended)
}

fn mend_devices(pins: &Pins, findings: &[Finding], mended: &mut Fixed) -> Result<()> {
    let _lock = Lock::take(pins)?;
    let mut notes = Journal::open(pins)?;
    let mut fixes: Vec<_> = findings
        .iter()
        .filter_map(|finding| Some((finding, finding.fix.as_ref()?)))
        .collect();
    // A veth that is down when its GRO is switched on takes no redirected frames afterwards.
    fixes.sort_by_key(|(_, fix)| !matches!(fix, Fix::LinkUp(_)));
    for (finding, fix) in fixes {
        let made = match fix {
            Fix::LinkUp(remote) => link_up(&mut notes, remote),
            Fix::Gro(remote) => gro(&mut notes, remote),
            Fix::Refresh { .. } => Ok(Vec::new()),
        };
        match made {
            Ok(change) => mended.changes.extend(change),
            Err(error) => mended.errors.push(error.context(finding.subject.clone())),
        }
    }
    Ok(())
}

fn gro(notes: &mut Journal, remote: &Remote) -> Result<Vec<Change>> {
    let is_off = |device: &Device| Ok(Ethtool::open()?.gro(&device.name) == Some(false));
    let change = place(remote, is_off)?.map(Change::Gro);
    notes.made(change.into_iter().collect(), || peer::set_gro(remote, true))
}

fn link_up(notes: &mut Journal, remote: &Remote) -> Result<Vec<Change>> {
    let change = place(remote, |device| Ok(!device.enabled))?.map(Change::LinkUp);
    let make = || device::set_enabled(remote.ifindex, true);
    notes.made(change.into_iter().collect(), || peer::within(remote, make))
}

fn mend_backends(pins: &Pins, stale: &BackendFixes, mended: &mut Fixed) -> Result<()> {
    let rules = stale.rules(pins)?;
    // Without the lock: who is asked may take seconds to answer.
    let found = Resolutions::find(stale.sought(&rules));
    let way = |backend: &Backend| stale.way(&found, backend);
    let mut unfound = BTreeSet::new();
    let mut renew = |some: &[Rule]| -> Result<()> {
        let _lock = Lock::take(pins)?;
        let (store, mut notes) = (RuleStore::open(pins)?, Journal::open(pins)?);
        let renewals = Rebind::plan_all(&store, some, way)?;
        let failed = renewals.iter().flat_map(|renewal| &renewal.failed);
        unfound.extend(failed.map(|(backend, why)| format!("server {}: {why}", backend.server)));
        let changes = renewals.iter().flat_map(changes).collect();
        let made = notes.made(changes, || carry_out(&store, &renewals));
        mended.changes.extend(made?);
        Ok(())
    };
    // What some meet, as a full list of mends, the others would meet.
    let stopped = rules.chunks(AT_ONCE).try_for_each(|some| {
        let from = some[0].matches;
        renew(some).with_context(|| format!("{from}: not mended, nor are those after it"))
    });
    mended.errors.extend(unfound.into_iter().map(Error::msg));
    mended.errors.extend(stopped.err());
    Ok(())
}

fn changes(renewal: &Rebind) -> Vec<Change> {
    let change = |(old, new)| Change::Backend {
        matches: renewal.rule().matches,
        before: Adjacency::of(old),
        after: Adjacency::of(new),
    };
    renewal.changes().map(change).collect()
}

/// Where a device is, if it is there and as expected.
fn place(
    remote: &Remote,
    is_so: impl FnOnce(&Device) -> Result<bool> + Send,
) -> Result<Option<DeviceRef>> {
    peer::within(remote, || {
        let device = device::by_index(remote.ifindex)?.context("the device is gone")?;
        if remote
            .ifname
            .as_ref()
            .is_some_and(|name| *name != device.name)
        {
            bail!("another device is in its place now, {}", device.name);
        }
        if !is_so(&device)? {
            return Ok(None);
        }
        Ok(Some(DeviceRef {
            ifindex: device.ifindex,
            ifname: device.name,
            cookie: netns::cookie()?,
            netns: remote.netns.as_ref().map(|netns| netns.path.clone()),
        }))
    })
}
