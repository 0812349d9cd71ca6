//! Counters and attachments at one moment.

use std::collections::BTreeSet;
use std::time::SystemTime;

use anyhow::Result;

use super::policy::named_policy;
use super::{RuleSelector, inventory};
use crate::datapath::{self, FlowTable, Interface, Pins, RuleStore};
use crate::error::Exit;
use crate::host::device;
use crate::model::{
    EgressStats, InterfaceStats, InterfaceStatus, LinkState, Rule, RuleRecord, Snapshot, Status,
};

/// Takes snapshots, one after another: the counters of all interfaces, and of the selected backends. Rules are read
/// again only when they have changed, because there may be a million.
pub struct Sampler<'a> {
    pins: &'a Pins,
    selector: &'a RuleSelector,
    /// What each CPU has counted is wanted, too.
    by_cpu: bool,
    rules: Vec<Rule>,
    /// That of the rules; None: they were not read yet.
    version: Option<(u64, u64)>,
}

impl<'a> Sampler<'a> {
    pub fn new(pins: &'a Pins, selector: &'a RuleSelector, by_cpu: bool) -> Self {
        Sampler {
            pins,
            selector,
            by_cpu,
            rules: Vec::new(),
            version: None,
        }
    }

    /// Brings the snapshot up to date that it gets each time, which is empty at first.
    pub fn renew(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        let pins = self.pins;
        let read = datapath::read(pins, || self.read(snapshot))?;
        read.ok_or_else(|| datapath::not_attached(pins))
    }

    fn read(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        let pins = self.pins;
        let attached = datapath::interfaces(pins)?;
        let interfaces = attached.iter();
        let interfaces = interfaces.map(|interface| of_interface(pins, interface, self.by_cpu));
        snapshot.interfaces = interfaces.collect::<Result<_>>()?;
        let store = RuleStore::open(pins)?;
        self.read_rules(&store, &mut snapshot.rules)?;
        let rules = snapshot.rules.iter();
        let there = rules.filter(|record| record.ifname.is_some());
        let mut egress: BTreeSet<u32> = there.filter_map(|record| record.ifindex).collect();
        for interface in &attached {
            let policy = named_policy(&store, interface.policy)?;
            egress.extend(policy.policy.device().filter(|_| policy.ifname.is_some()));
        }
        let table = FlowTable::open(pins)?;
        snapshot.timestamp = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        snapshot.egress = stats_of(egress)?;
        snapshot.unattributed = store.unattributed()?;
        snapshot.connections = table.as_ref().map(FlowTable::stats).transpose()?;
        Ok(())
    }

    fn read_rules(&mut self, store: &RuleStore, records: &mut Vec<RuleRecord>) -> Result<()> {
        let version = Some(store.version()?);
        if version == self.version {
            return inventory::renew(store, &self.rules, self.selector, self.by_cpu, records);
        }
        // If this fails, they are read again.
        self.version = None;
        self.rules = self.selector.rules(store)?;
        *records = inventory::records(store, &self.rules, self.selector, self.by_cpu)?;
        self.version = version;
        Ok(())
    }
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
        chain: interface.chain_stats(pins, by_cpu)?,
        not_reached: interface.not_reached(pins)?,
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
        joined: interface.joined,
        priority: ids.as_ref().and_then(|ids| ids.priority),
        link_id: ids.and_then(|ids| ids.link),
        state,
        version: interface.version.clone(),
        ledger: interface.ledger,
        sees_links: interface.sees_links,
        policy: named_policy(store, interface.policy)?,
        chain: interface.chain(pins)?,
    })
}
