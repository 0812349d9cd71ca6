//! The devices that packets can be redirected to.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::codec::{inline_backend, inline_words};
use super::{RuleStore, room};
use crate::datapath::{Lock, policy};

impl RuleStore {
    /// Whether packets can be redirected to a device. The kernel forgets a device that is unregistered,
    /// even if another one gets its index.
    pub fn has_egress(&self, ifindex: u32) -> Result<bool> {
        Ok(self.egress.get(&ifindex)?.is_some())
    }

    /// Opens a device that no rule needs.
    pub fn open_device(&self, _: &Lock, ifindex: u32) -> Result<()> {
        self.open_egress(&BTreeSet::from([ifindex]))
    }

    /// Opens devices that are not open yet. Backends and policies of an unregistered device that had the same index
    /// lose it, or their packets would go out by the new one.
    pub(super) fn open_egress(&self, wanted: &BTreeSet<u32>) -> Result<()> {
        let mut closed = BTreeSet::new();
        for &ifindex in wanted.iter().filter(|&&ifindex| ifindex != 0) {
            if !self.has_egress(ifindex)? {
                closed.insert(ifindex);
            }
        }
        if closed.is_empty() {
            return Ok(());
        }
        self.require_egress_room(wanted)?;
        self.disconnect(&closed)?;
        policy::disconnect(&self.pins, &closed)?;
        for ifindex in closed {
            let opened = self.egress.put(&ifindex, &ifindex);
            opened.with_context(|| format!("ifindex {ifindex}"))?;
        }
        Ok(())
    }

    fn disconnect(&self, devices: &BTreeSet<u32>) -> Result<()> {
        let _change = self.generation.change()?;
        for (key, mut value) in self.rules.entries()? {
            let mut only = inline_backend(&value);
            if value.set == 0 && devices.contains(&only.ifindex) {
                only.ifindex = 0;
                value.inline_backend = inline_words(&only);
                self.rules.put(&key, &value)?;
            }
        }
        self.sets.disconnect(devices)
    }

    /// Closes devices that no rule and no policy leads to where the room is needed.
    fn require_egress_room(&self, wanted: &BTreeSet<u32>) -> Result<()> {
        let open = BTreeSet::from_iter(self.egress.keys()?);
        if room::EGRESS.allows(open.union(wanted).count()) {
            return Ok(());
        }
        let mut used = wanted.clone();
        for (_, value) in self.rules.entries()? {
            used.extend(Some(inline_backend(&value).ifindex).filter(|_| value.set == 0));
        }
        let members = self.sets.members()?;
        used.extend(members.iter().map(|(_, member)| member.ifindex));
        used.extend(policy::devices(&self.pins)?);
        used.remove(&0);
        room::EGRESS.require(used.len())?;
        let mut unused = open.difference(&used);
        unused.try_for_each(|ifindex| self.egress.delete(ifindex))
    }
}
