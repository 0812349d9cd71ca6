//! The interfaces that are wanted, beside those that there are.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value;

use super::live::{Live, LiveInterface};
use crate::control::attach::gid;
use crate::control::policy::resolve;
use crate::control::wanted::{Missing, Place, Sources, Wanted};
use crate::datapath::{self, Interfaces, Others};
use crate::error::{Exit, exit_code, failure};
use crate::host::device::{self, Device};
use crate::model::difference::Change;
use crate::model::{InterfaceEntry, ModeEntry, Policy, Remedy, Verb};

/// How interfaces differ, and what is the namespace's as a whole.
#[derive(Debug, Default)]
pub struct Difference {
    pub changes: Vec<Change>,
    /// What is to be.
    pub wanted: Interfaces,
    /// Files say which interfaces there are.
    pub is_said: bool,
    /// Nothing is attached then.
    pub leaves_none: bool,
}

/// Compares what there is with what is wanted. What can't be found comes first of what is missing.
pub fn compare(
    sources: &Sources,
    wanted: &mut Wanted,
    live: &Live,
    keep_others: bool,
) -> Result<Difference> {
    let mut difference = Difference::default();
    difference.compare_whole(sources, wanted, live)?;
    let Some(entries) = wanted.interfaces.take() else {
        difference.leaves_none = live.interfaces.is_empty();
        return Ok(difference);
    };
    difference.is_said = true;
    difference.wanted.only_these = !keep_others;
    difference.wanted.change_attached = true;
    let (mut stay, mut missing) = (BTreeSet::new(), Vec::new());
    let mut seen: Vec<(u32, Place)> = Vec::new();
    for (place, entry) in entries {
        let (device, policy) = match find(&entry) {
            Ok(found) => found,
            Err(error) if exit_code(&error) == Exit::NotFound => {
                // What is attached there stays as it is.
                let named = live
                    .interfaces
                    .iter()
                    .filter(|i| i.entry.name == entry.name);
                difference.wanted.spared.extend(named.map(|i| i.ifindex));
                missing.push(Missing {
                    place,
                    what: format!("interface {}", entry.name),
                    error,
                    backend: None,
                });
                continue;
            }
            Err(error) => return Err(sources.fault(place, error)),
        };
        let ifindex = device.ifindex;
        if let Some((_, first)) = seen.iter().find(|(known, _)| *known == ifindex) {
            return Err(sources.twice(place, *first, &format!("interface {}", entry.name)));
        }
        seen.push((ifindex, place));
        let mut all = live.interfaces.iter();
        let known = all.find(|known| known.ifindex == ifindex);
        require_mode(known, &entry).map_err(|error| sources.fault(place, error))?;
        stay.insert(ifindex);
        difference.add(known, &entry, policy);
        difference.wanted.wanted.push(datapath::Wanted {
            device,
            mode: entry.mode.mode(),
            ledger: entry.ledger,
            policy: Some(policy),
            others: Others::default(),
        });
    }
    wanted.missing.splice(0..0, missing);
    stay.extend(&difference.wanted.spared);
    let is_gone = |known: &&LiveInterface| !keep_others && !stay.contains(&known.ifindex);
    let gone = live.interfaces.iter().filter(is_gone);
    difference
        .changes
        .extend(gone.map(|known| Change::Interface {
            old: Some(known.entry.clone()),
            new: None,
        }));
    difference.leaves_none = stay.is_empty() && (!keep_others || live.interfaces.is_empty());
    Ok(difference)
}

/// The device of an interface, and its policy.
fn find(entry: &InterfaceEntry) -> Result<(Device, Policy)> {
    let device = device::by_name(&entry.name)?;
    device.require_ethernet_header()?;
    Ok((device, resolve(&entry.policy)?))
}

/// Where a program runs is chosen as it is attached.
fn require_mode(known: Option<&LiveInterface>, wanted: &InterfaceEntry) -> Result<()> {
    let Some(known) = known.map(|known| &known.entry) else {
        return Ok(());
    };
    let Some(mode) = known
        .mode
        .mode()
        .filter(|_| wanted.mode != ModeEntry::Auto && wanted.mode != known.mode)
    else {
        return Ok(());
    };
    let name = &known.name;
    let why = format!("{name} is attached in {mode} mode");
    let detach = Remedy::from("to change it, ") + Verb::Detach(vec![name.clone()]) + " first";
    Err(failure(Exit::Conflict, (why, detach)))
}

impl Difference {
    /// What is the namespace's as a whole.
    fn compare_whole(&mut self, sources: &Sources, wanted: &mut Wanted, live: &Live) -> Result<()> {
        if let Some((place, group)) = wanted.group.take() {
            let old = live.group.as_deref().map(Value::from);
            if self.differs("group", old, group.as_str().into()) {
                let gid = gid(&group).map_err(|error| sources.fault(place, error))?;
                self.wanted.group = Some(gid);
            }
        }
        if let Some((_, size)) = wanted.connections {
            let old = live.connections.map(|size| size.connections().into());
            if self.differs("connections", old, size.connections().into()) {
                self.wanted.connections = Some(size);
            }
        }
        if let Some((_, ports)) = wanted.snat_ports {
            let old = live.snat_ports.map(|ports| ports.to_string().into());
            if self.differs("snat_ports", old, ports.to_string().into()) {
                self.wanted.source_ports = Some(ports);
            }
        }
        Ok(())
    }

    fn differs(&mut self, key: &'static str, old: Option<Value>, new: Value) -> bool {
        let is_other = old.as_ref() != Some(&new);
        if is_other {
            self.changes.push(Change::Key { key, old, new });
        }
        is_other
    }

    fn add(&mut self, known: Option<&LiveInterface>, entry: &InterfaceEntry, policy: Policy) {
        let Some(known) = known else {
            self.changes.push(Change::Interface {
                old: None,
                new: Some(entry.clone()),
            });
            return;
        };
        let is_same = known.policy == policy && known.entry.ledger == entry.ledger;
        if !is_same {
            self.changes.push(Change::Interface {
                old: Some(known.entry.clone()),
                new: Some(InterfaceEntry {
                    policy: entry.policy.clone(),
                    ledger: entry.ledger,
                    ..known.entry.clone()
                }),
            });
        }
    }
}
