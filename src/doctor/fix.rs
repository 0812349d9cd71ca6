//! Fixes what can be reverted. A change is written to the journal before it is made, so that it can be
//! reverted whenever this run is killed.

use anyhow::{Context, Result, bail};

use super::fix_backends::fix_backends;
use super::journal::Journal;
use crate::datapath::{Lock, Pins, pass};
use crate::host::device::{self, Device};
use crate::host::ethtool::Ethtool;
use crate::host::{netns, peer};
use crate::model::{Change, DeviceRef, Finding, Fix, ForAnswers, Remote};

/// What became of the attempts.
#[derive(Default)]
pub struct Fixed {
    /// What was changed.
    pub changes: Vec<Change>,
    /// What came of that where answers arrive.
    pub for_answers: ForAnswers,
    /// Why the rest was not.
    pub errors: Vec<anyhow::Error>,
}

/// Fixes what can be fixed of the findings. Devices come first: over a link that is down, no backend is
/// found.
pub fn fix(pins: &Pins, findings: &[Finding]) -> Result<Fixed> {
    let mut fixed = Fixed::default();
    fix_devices(pins, findings, &mut fixed)?;
    fix_backends(pins, findings, &mut fixed)?;
    Ok(fixed)
}

fn fix_devices(pins: &Pins, findings: &[Finding], fixed: &mut Fixed) -> Result<()> {
    let _lock = Lock::take(pins)?;
    let mut journal = Journal::open(pins)?;
    let mut fixes: Vec<_> = findings
        .iter()
        .filter_map(|finding| Some((finding, finding.fix.as_ref()?)))
        .collect();
    // A veth that is down when its GRO is switched on takes no redirected frames afterwards.
    fixes.sort_by_key(|(_, fix)| !matches!(fix, Fix::LinkUp(_)));
    for (finding, fix) in fixes {
        let made = match fix {
            Fix::LinkUp(remote) => link_up(&mut journal, remote),
            Fix::Gro(remote) => gro(&mut journal, remote),
            Fix::Pass(remote) => pass(pins, &mut journal, remote),
            Fix::Refresh { .. } => Ok(None),
        };
        match made {
            Ok(change) => fixed.changes.extend(change),
            Err(error) => fixed.errors.push(error.context(finding.subject.clone())),
        }
    }
    Ok(())
}

fn gro(journal: &mut Journal, remote: &Remote) -> Result<Option<Change>> {
    let is_off = |device: &Device| Ok(Ethtool::open()?.gro(&device.name) == Some(false));
    let change = device_where(remote, is_off)?.map(Change::Gro);
    make(journal, change, || peer::set_gro(remote, true))
}

fn pass(pins: &Pins, journal: &mut Journal, remote: &Remote) -> Result<Option<Change>> {
    let there = device_where(remote, |device| Ok(!device.native_program))?;
    let change = there.clone().map(Change::Pass);
    let attach = || {
        let device = device::by_index(remote.ifindex)?;
        match (device, &there) {
            (Some(device), Some(place)) => pass::attach(pins, &device, place),
            _ => bail!("the device is gone"),
        }
    };
    make(journal, change, || peer::within(remote, attach))
}

fn link_up(journal: &mut Journal, remote: &Remote) -> Result<Option<Change>> {
    let change = device_where(remote, |device| Ok(!device.enabled))?.map(Change::LinkUp);
    let set_up = || device::set_enabled(remote.ifindex, true);
    make(journal, change, || peer::within(remote, set_up))
}

fn make(
    journal: &mut Journal,
    change: Option<Change>,
    make: impl FnOnce() -> Result<()>,
) -> Result<Option<Change>> {
    journal.write(change.as_slice())?;
    if change.is_some() {
        make().or_else(|error| journal.cancel().and(Err(error)))?;
    }
    journal.confirm()?;
    Ok(change)
}

/// The device, where it is still the one of the finding and this is so.
fn device_where(
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
