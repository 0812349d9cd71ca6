//! Counters and attachments at one moment.

use std::collections::BTreeSet;
use std::time::SystemTime;

use anyhow::Result;

use super::policy::named_policy;
use super::{RuleSelector, inventory};
use crate::datapath::{self, FlowTable, Interface, Pins, RuleStore};
use crate::error::Exit;
use crate::host::device;
use crate::model::{EgressStats, InterfaceStats, InterfaceStatus, LinkState, Snapshot, Status};

/// The counters of all interfaces, and of the selected backends; with what each CPU has counted where that is wanted.
pub fn snapshot(pins: &Pins, selector: &RuleSelector, by_cpu: bool) -> Result<Snapshot> {
    let snapshot = datapath::read(pins, || read(pins, selector, by_cpu))?;
    snapshot.ok_or_else(|| datapath::not_attached(pins))
}

fn read(pins: &Pins, selector: &RuleSelector, by_cpu: bool) -> Result<Snapshot> {
    let attached = datapath::interfaces(pins)?;
    let interfaces = attached.iter();
    let interfaces = interfaces.map(|interface| of_interface(pins, interface, by_cpu));
    let interfaces = interfaces.collect::<Result<_>>()?;
    let store = RuleStore::open(pins)?;
    let rules = inventory::records(&store, selector, by_cpu)?;
    let there = rules.iter().filter(|record| record.ifname.is_some());
    let mut egress: BTreeSet<u32> = there.filter_map(|record| record.ifindex).collect();
    for interface in &attached {
        let policy = named_policy(&store, interface.policy)?;
        egress.extend(policy.policy.device().filter(|_| policy.ifname.is_some()));
    }
    let table = FlowTable::open(pins)?;
    Ok(Snapshot {
        timestamp: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        interfaces,
        egress: stats_of(egress)?,
        unattributed: store.unattributed()?,
        connections: table.as_ref().map(FlowTable::stats).transpose()?,
        rules,
    })
}

fn of_interface(pins: &Pins, interface: &Interface, by_cpu: bool) -> Result<InterfaceStats> {
    let (actions, outcomes, cpus) = interface.outcomes_by_cpu(pins)?;
    Ok(InterfaceStats {
        ifname: interface.name(),
        ifindex: interface.ifindex,
        mode: interface.mode,
        purpose: interface.purpose,
        actions,
        outcomes,
        cpus: by_cpu.then_some(cpus),
    })
}

fn stats_of(egress: BTreeSet<u32>) -> Result<Vec<EgressStats>> {
    let mut devices = Vec::new();
    for ifindex in egress {
        devices.extend(device::by_index(ifindex)?.map(|device| EgressStats {
            ifname: device.name,
            ifindex,
            tx_dropped: device.tx_dropped,
        }));
    }
    Ok(devices)
}

/// What is attached in this network namespace.
pub fn status(pins: &Pins) -> Result<Status> {
    let read = datapath::read(pins, || {
        let interfaces = datapath::interfaces(pins)?.into_iter();
        let store = RuleStore::open(pins)?;
        let interfaces = interfaces.map(|interface| attachment(pins, &store, &interface));
        Ok((
            interfaces.collect::<Result<_>>()?,
            store.count()?,
            datapath::connections_in_use(pins)?,
            Some(datapath::source_ports(pins)?),
        ))
    })?;
    let (interfaces, rules, connections, snat_ports) = read.unwrap_or_default();
    Ok(Status {
        pin_dir: pins.root().to_path_buf(),
        version: datapath::VERSION,
        interfaces,
        rules,
        connections,
        snat_ports,
    })
}

fn attachment(pins: &Pins, store: &RuleStore, interface: &Interface) -> Result<InterfaceStatus> {
    let ids = match interface.ids(pins) {
        // Links stay root's: members of the group cannot open them.
        Err(error) if datapath::exit_code(&error) == Exit::Permission => None,
        ids => Some(ids?),
    };
    let state = ids.as_ref().map_or(LinkState::Attached, |ids| ids.state);
    Ok(InterfaceStatus {
        ifname: interface.name(),
        ifindex: interface.ifindex,
        mode: interface.mode,
        purpose: interface.purpose,
        program_id: ids.as_ref().map(|ids| ids.program),
        link_id: ids.and_then(|ids| ids.link),
        state,
        version: interface.version.clone(),
        ledger: interface.ledger,
        sees_links: interface.sees_links,
        policy: named_policy(store, interface.policy)?,
    })
}
