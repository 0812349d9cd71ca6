//! The interfaces that are wanted, beside those that there are.

use anyhow::Result;
use serde_json::Value;

use super::live::{Live, LiveInterface};
use crate::control::policy::{resolve, set_policy};
use crate::control::wanted::{Missing, Place, Sources, Wanted};
use crate::control::{AttachReport, AttachRequest, DetachReport, DetachRequest, attach, detach};
use crate::datapath::Pins;
use crate::error::{Exit, exit_code, failure};
use crate::host::device;
use crate::model::difference::Change;
use crate::model::{InterfaceEntry, ModeEntry, PolicySpec, Remedy, SourcePorts, TableSize, Verb};

/// How interfaces differ, and what is the namespace's as a whole.
#[derive(Debug, Default)]
pub struct Difference {
    attach: Vec<InterfaceEntry>,
    policies: Vec<(String, PolicySpec)>,
    detach: Vec<String>,
    group: Option<String>,
    connections: Option<TableSize>,
    snat_ports: Option<SourcePorts>,
    /// Those that are attached.
    attached: Vec<String>,
    pub changes: Vec<Change>,
}

/// Compares what there is with what is wanted. What can't be found is added to what is missing.
pub fn compare(
    sources: &Sources,
    wanted: &mut Wanted,
    live: &Live,
    keep_others: bool,
) -> Result<Difference> {
    let mut difference = Difference {
        attached: live
            .interfaces
            .iter()
            .map(|i| i.entry.name.clone())
            .collect(),
        ..Difference::default()
    };
    difference.compare_whole(wanted, live);
    let Some(entries) = wanted.interfaces.take() else {
        return Ok(difference);
    };
    let mut stay = Vec::new();
    let mut seen: Vec<(u32, Place)> = Vec::new();
    for (place, entry) in entries {
        let found = device::by_name(&entry.name).and_then(|device| {
            device.require_ethernet_header()?;
            Ok((device.ifindex, resolve(&entry.policy)?))
        });
        let (ifindex, policy) = match found {
            Ok(found) => found,
            Err(error) if exit_code(&error) == Exit::NotFound => {
                // What is attached there stays as it is.
                stay.push(entry.name.clone());
                wanted.missing.push(Missing {
                    place,
                    what: format!("interface {}", entry.name),
                    error,
                    backend: None,
                });
                continue;
            }
            Err(error) => return Err(sources.fault(place, error)),
        };
        if let Some((_, first)) = seen.iter().find(|(known, _)| *known == ifindex) {
            return Err(sources.twice(place, *first, &format!("interface {}", entry.name)));
        }
        seen.push((ifindex, place));
        let known = live
            .interfaces
            .iter()
            .find(|known| known.ifindex == ifindex);
        let Some(known) = known else {
            difference.add(entry);
            continue;
        };
        stay.push(known.entry.name.clone());
        require_alike(&known.entry, &entry).map_err(|error| sources.fault(place, error))?;
        if known.policy != policy {
            difference.change(known, entry.policy);
        }
    }
    let gone = |known: &&LiveInterface| !keep_others && !stay.contains(&known.entry.name);
    for known in live.interfaces.iter().filter(gone) {
        difference.detach.push(known.entry.name.clone());
        difference.changes.push(Change::Interface {
            old: Some(known.entry.clone()),
            new: None,
        });
    }
    Ok(difference)
}

/// Where and how a program runs is chosen as it is attached.
fn require_alike(known: &InterfaceEntry, wanted: &InterfaceEntry) -> Result<()> {
    let name = &known.name;
    let is_other = wanted.mode != ModeEntry::Auto && wanted.mode != known.mode;
    let differs = if is_other {
        let mode = known.mode.mode().map(|mode| mode.to_string());
        format!("in {} mode", mode.unwrap_or_default())
    } else if known.ledger != wanted.ledger {
        let how = if known.ledger { "with" } else { "without" };
        format!("{how} a ledger")
    } else {
        return Ok(());
    };
    let why = format!("{name} is attached {differs}");
    let detach = Remedy::from("to change it, ") + Verb::Detach(vec![name.clone()]) + " first";
    Err(failure(Exit::Conflict, (why, detach)))
}

impl Difference {
    fn compare_whole(&mut self, wanted: &mut Wanted, live: &Live) {
        let mut differs = |key, old: Option<Value>, new: Value| {
            let is_other = old.as_ref() != Some(&new);
            if is_other {
                self.changes.push(Change::Key { key, old, new });
            }
            is_other
        };
        let text = |value: &dyn ToString| Value::from(value.to_string());
        self.group = wanted.group.take().map(|(_, group)| group);
        self.group = self.group.take().filter(|group| {
            differs(
                "group",
                live.group.as_deref().map(Value::from),
                group.as_str().into(),
            )
        });
        let number = |size: TableSize| Value::from(size.connections());
        let size = wanted.connections.map(|(_, size)| size);
        self.connections =
            size.filter(|size| differs("connections", live.connections.map(number), number(*size)));
        let ports = wanted.snat_ports.map(|(_, ports)| ports);
        self.snat_ports = ports.filter(|ports| {
            let old = live.snat_ports.map(|ports| text(&ports));
            differs("snat_ports", old, text(ports))
        });
    }

    fn add(&mut self, entry: InterfaceEntry) {
        self.changes.push(Change::Interface {
            old: None,
            new: Some(entry.clone()),
        });
        self.attach.push(entry);
    }

    fn change(&mut self, known: &LiveInterface, policy: PolicySpec) {
        let name = known.entry.name.clone();
        self.changes.push(Change::Interface {
            old: Some(known.entry.clone()),
            new: Some(InterfaceEntry {
                policy: policy.clone(),
                ..known.entry.clone()
            }),
        });
        self.policies.push((name, policy));
    }

    /// Whether nothing is attached then.
    pub fn leaves_none(&self) -> bool {
        self.attach.is_empty() && self.attached.iter().all(|name| self.detach.contains(name))
    }

    /// Whether all are to be detached, and none attached.
    pub fn detaches_all(&self) -> bool {
        self.leaves_none() && !self.detach.is_empty()
    }

    /// What has to be before the rules change.
    pub fn begin(&self, pins: &Pins) -> Result<Vec<AttachReport>> {
        let mut reports = Vec::new();
        let whole = self.group.is_some() || self.connections.is_some() || self.snat_ports.is_some();
        let request = |entry: &InterfaceEntry| AttachRequest {
            interfaces: vec![entry.name.clone()],
            mode: entry.mode.mode(),
            group: self.group.clone(),
            ledger: entry.ledger,
            policy: Some(entry.policy.clone()),
            connections: self.connections,
            source_ports: self.snat_ports,
            ..AttachRequest::default()
        };
        for entry in &self.attach {
            reports.push(attach(pins, &request(entry))?);
        }
        if whole && self.attach.is_empty() && !self.attached.is_empty() {
            let whole = AttachRequest {
                interfaces: self.attached.clone(),
                group: self.group.clone(),
                ledger: true,
                connections: self.connections,
                source_ports: self.snat_ports,
                ..AttachRequest::default()
            };
            attach(pins, &whole)?;
        }
        Ok(reports)
    }

    /// What is left to do once the rules have changed.
    pub fn end(&self, pins: &Pins) -> Result<Option<DetachReport>> {
        for (name, policy) in &self.policies {
            set_policy(pins, name, policy)?;
        }
        let request = DetachRequest {
            interfaces: Some(self.detach.clone()),
            keep_rules: false,
            if_exists: false,
        };
        match self.detach.is_empty() {
            true => Ok(None),
            false => detach(pins, &request).map(Some),
        }
    }
}
