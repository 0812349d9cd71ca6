//! Mends what can be put back. What it is about to change is written down first, so that a run that
//! is killed at any instant can be undone.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::net::IpAddr;

use anyhow::{Context, Result, bail};

use crate::datapath::{Mends, Pins, RuleStore};
use crate::host::device::{self, Device};
use crate::host::ethtool::Ethtool;
use crate::host::origin::locate;
use crate::host::path::Ask;
use crate::host::server::Wanted;
use crate::host::{netns, peer};
use crate::model::{
    Backend, Change, Finding, Fix, Mac, Origin, Place, Refreshed, Remote, Rule, Way,
};

/// What became of the attempts.
#[derive(Default)]
pub struct Mended {
    pub changes: Vec<Change>,
    pub errors: Vec<anyhow::Error>,
}

pub fn mend(pins: &Pins, findings: &[Finding]) -> Result<Mended> {
    let _lock = pins.lock()?;
    let mends = Mends::open_or_create(pins)?;
    let mut work = Work {
        store: RuleStore::open(pins)?,
        rules: None,
        next: mends.next()?,
        mends,
        mended: Mended::default(),
    };
    let fixes = findings.iter().filter_map(|f| Some((f, f.fix.as_ref()?)));
    let mut fixes: Vec<_> = fixes.collect();
    fixes.sort_by_key(|(_, fix)| order(fix));
    for (finding, fix) in fixes {
        if let Err(error) = work.fix(fix) {
            let error = error.context(finding.subject.clone());
            work.mended.errors.push(error);
        }
    }
    Ok(work.mended)
}

/// A veth that is down when its GRO is switched on takes no redirected frames afterwards.
fn order(fix: &Fix) -> u8 {
    match fix {
        Fix::LinkUp(_) => 0,
        Fix::Gro(_) => 1,
        Fix::Refresh { .. } => 2,
    }
}

struct Work {
    store: RuleStore,
    /// Read when they are first needed.
    rules: Option<Vec<Rule>>,
    mends: Mends,
    next: u32,
    mended: Mended,
}

impl Work {
    fn fix(&mut self, fix: &Fix) -> Result<()> {
        match fix {
            Fix::Gro(remote) => self.gro(remote),
            Fix::LinkUp(remote) => self.link_up(remote),
            Fix::Refresh {
                server,
                ifindex,
                mac,
                to,
            } => self.refresh((*server, *ifindex, *mac), *to),
        }
    }

    /// Writes the change down, then makes it.
    fn change(&mut self, change: Change, make: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let number = self.next;
        self.mends.note(number, &change)?;
        self.next += 1;
        if let Err(error) = make(self) {
            self.mends.forget(number)?;
            return Err(error);
        }
        self.mended.changes.push(change);
        Ok(())
    }

    fn gro(&mut self, remote: &Remote) -> Result<()> {
        let is_off = |device: &Device| Ok(Ethtool::open()?.gro(&device.name) == Some(false));
        match place(remote, is_off)? {
            Some(place) => self.change(Change::Gro(place), |_| peer::set_gro(remote, true)),
            None => Ok(()),
        }
    }

    fn link_up(&mut self, remote: &Remote) -> Result<()> {
        let make = || device::set_enabled(remote.ifindex, true);
        match place(remote, |device| Ok(!device.enabled))? {
            Some(place) => self.change(Change::LinkUp(place), |_| peer::within(remote, make)),
            None => Ok(()),
        }
    }

    /// In all rules that have the backend as the finding has it.
    fn refresh(&mut self, (server, ifindex, mac): (IpAddr, u32, Mac), to: Refreshed) -> Result<()> {
        if self.rules.is_none() {
            self.rules = Some(self.store.list()?);
        }
        let mut rules = self.rules.take().unwrap_or_default();
        let mut ways: HashMap<Option<Origin>, Way> = HashMap::new();
        let result = rules.iter_mut().try_for_each(|rule| {
            let matches = rule.matches;
            let mut backends = rule.backends.iter_mut();
            let stale =
                backends.find(|b| b.server == server && b.ifindex == ifindex && b.mac == mac);
            let Some(backend) = stale else {
                return Ok(());
            };
            let after = match ways.entry(backend.origin.clone()) {
                Occupied(known) => *known.get(),
                Vacant(new) => *new.insert(way(backend, to)?),
            };
            if Way::of(backend) == after {
                return Ok(());
            }
            let before = Way::of(backend);
            self.store.open_egress(after.ifindex)?;
            // Again: where the device took another's index, the other backends have lost theirs.
            let Some(mut now) = self.store.get(&matches)? else {
                return Ok(());
            };
            let mut backends = now.backends.iter_mut();
            let Some(backend) = backends.find(|backend| backend.server == server) else {
                return Ok(());
            };
            after.give(backend);
            *rule = now;
            let change = Change::Backend {
                matches,
                server,
                before,
                after,
            };
            self.change(change, |work| work.store.put(rule))
        });
        self.rules = Some(rules);
        result
    }
}

/// Where a device is, if it is there and as expected.
fn place(
    remote: &Remote,
    is_so: impl FnOnce(&Device) -> Result<bool> + Send,
) -> Result<Option<Place>> {
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
        Ok(Some(Place {
            ifindex: device.ifindex,
            ifname: device.name,
            cookie: netns::cookie()?,
            netns: remote.netns.as_ref().map(|netns| netns.path.clone()),
        }))
    })
}

fn way(backend: &Backend, to: Refreshed) -> Result<Way> {
    let (device, mac) = match to {
        Refreshed::Mac(mac) => match device::by_index(backend.ifindex)? {
            Some(device) => (device, mac),
            None => bail!("its device is gone"),
        },
        Refreshed::Path => {
            let origin = backend.origin.as_ref().unwrap_or(&Origin::Route);
            let path = locate(origin, Wanted::Formerly(backend.server), Ask::Anew)?;
            if path.server != backend.server {
                bail!(
                    "its address is {} now: `xdpredir rule refresh`",
                    path.server
                );
            }
            (path.device, path.mac)
        }
    };
    Ok(Way {
        mac,
        source_mac: device.require_source_mac()?,
        ifindex: device.ifindex,
        completes_checksum: device.completes_checksum()?,
    })
}
