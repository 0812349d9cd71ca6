//! What scripts read. Keys are added in time, never renamed.

use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::model::{
    Actions, Backend, BackendState, Counter, Failures, LedgerState, LinkState, Locator, Mode,
    Outcomes, Port, Proto, Rule, VlanId, Weight,
};

/// A backend of a rule. The counters have the names of the demo that came before.
#[derive(Clone, Debug, Serialize)]
pub struct RuleRow {
    pub src: String,
    pub proto: Proto,
    pub port: Port,
    pub server: String,
    pub mac: String,
    pub ifindex: u32,
    /// None where the device that the rule was made for is gone.
    pub ifname: Option<String>,
    pub weight: Weight,
    pub forward_packages: u64,
    pub forward_bytes: u64,
    /// The outer tag's VLAN identifier; None: untagged.
    pub vlan: Option<VlanId>,
    pub to_port: Option<Port>,
    pub snat: Option<IpAddr>,
    pub keep_ip: bool,
    pub decrement_ttl: bool,
    pub push_vlan: Option<VlanId>,
    pub pop_vlan: bool,
    /// Of those forwarded, the frames that reached the device. None: no ledger is kept.
    pub delivered: Option<u64>,
    pub failures: Option<Failures>,
    pub state: BackendState,
    /// How it was found; None: it was told by hand.
    pub origin: Option<String>,
}

impl RuleRow {
    pub fn new(
        rule: &Rule,
        backend: &Backend,
        state: BackendState,
        ifname: Option<String>,
        counter: Counter,
        failures: Option<Failures>,
    ) -> Self {
        RuleRow {
            src: rule.matches.src.to_string(),
            proto: rule.matches.proto,
            port: rule.matches.port,
            server: backend.server.to_string(),
            mac: backend.mac.to_string(),
            ifindex: backend.ifindex,
            ifname,
            weight: backend.weight,
            forward_packages: counter.packets,
            forward_bytes: counter.bytes,
            vlan: rule.matches.vlan,
            to_port: backend.rewrite.to_port,
            snat: rule.snat_of(backend),
            keep_ip: backend.rewrite.keep_ip,
            decrement_ttl: rule.decrement_ttl,
            push_vlan: backend.rewrite.push_vlan,
            pop_vlan: backend.rewrite.pop_vlan,
            delivered: failures.map(|lost| counter.packets.saturating_sub(lost.total())),
            failures,
            state,
            origin: backend.origin.as_ref().map(Locator::to_string),
        }
    }

    /// For people: its name, or that it is gone.
    pub fn device(&self) -> String {
        let gone = || format!("{} (gone)", self.ifindex);
        self.ifname.clone().unwrap_or_else(gone)
    }

    pub fn lost(&self) -> u64 {
        self.failures.map_or(0, |failures| failures.total())
    }

    pub fn counter(&self) -> Counter {
        Counter {
            packets: self.forward_packages,
            bytes: self.forward_bytes,
        }
    }

    /// What tells it from all other backends.
    pub fn identity(&self) -> (&str, Proto, Port, Option<VlanId>, &str) {
        (&self.src, self.proto, self.port, self.vlan, &self.server)
    }
}

#[derive(Serialize)]
pub struct StatsInterface {
    pub ifname: String,
    pub ifindex: u32,
    pub mode: Mode,
    pub actions: Actions,
    pub outcomes: Outcomes,
}

/// A backend's device.
#[derive(Serialize)]
pub struct StatsEgress {
    pub ifname: String,
    pub ifindex: u32,
    /// The kernel's own count: also of what others sent, since the device was made.
    pub tx_dropped: u64,
}

#[derive(Serialize)]
pub struct Snapshot {
    /// RFC 3339, UTC.
    pub timestamp: String,
    pub interfaces: Vec<StatsInterface>,
    pub egress: Vec<StatsEgress>,
    /// Lost frames that are in no rule's failures. None: no ledger is kept.
    pub unattributed: Option<Failures>,
    pub rules: Vec<RuleRow>,
}

#[derive(Serialize)]
pub struct StatusInterface {
    pub ifname: String,
    pub ifindex: u32,
    pub mode: Mode,
    pub program_id: u32,
    pub link_id: u32,
    pub state: LinkState,
    pub ledger: LedgerState,
}

#[derive(Serialize)]
pub struct Status {
    pub pin_dir: PathBuf,
    pub interfaces: Vec<StatusInterface>,
    pub rules: usize,
}

pub fn line<T: Serialize>(value: &T) -> Result<String> {
    Ok(serde_json::to_string(value)?)
}

pub fn print<T: Serialize>(value: &T) -> Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, value)
        .map_err(std::io::Error::from)
        .and_then(|()| writeln!(out))
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}
