//! Attaches the program to interfaces.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::unistd::{Gid, Group};

use super::announce;
use super::error::Error;
use super::policy;
use crate::datapath::{self, Attached, Interfaces, Others, Pins, Report, RuleStore, Wanted};
use crate::doctor::{self, checks};
use crate::error::Failure;
use crate::host::device;
use crate::model::{Finding, Mode, PolicySpec, Rule, SourcePorts, TableSize};

/// How long a link may take to come back.
const LINK_WITHIN: Duration = Duration::from_secs(5);

/// Where to attach, and how.
#[derive(Clone, Debug, Default)]
pub struct AttachRequest {
    /// The names of devices, which may be alternative ones.
    pub interfaces: Vec<String>,
    /// None: the one that pays.
    pub mode: Option<Mode>,
    /// The group whose members may change rules.
    pub group: Option<String>,
    /// What becomes of another XDP program that is there.
    pub others: Others,
    /// Count the frames that the kernel loses after the redirect.
    pub ledger: bool,
    /// What becomes of the frames that no rule matches.
    pub policy: Option<PolicySpec>,
    /// How many connections are remembered.
    pub connections: Option<TableSize>,
    /// From which connections get source ports; None: as it is.
    pub source_ports: Option<SourcePorts>,
}

/// Attaches to all interfaces or to none.
pub fn attach(pins: &Pins, request: &AttachRequest) -> Result<Report> {
    let group = request.group.as_deref().map(gid).transpose()?;
    let devices = request.interfaces.iter().map(|name| device::by_name(name));
    let devices = devices.collect::<Result<Vec<_>>>()?;
    for device in &devices {
        device.require_ethernet_header()?;
    }
    let policy = request.policy.as_ref();
    let policy = policy.map(policy::resolve).transpose()?;
    let wanted = devices.into_iter().map(|device| Wanted {
        device,
        mode: request.mode,
        ledger: request.ledger,
        policy,
        others: request.others,
    });
    let interfaces = Interfaces {
        wanted: wanted.collect(),
        group,
        connections: request.connections,
        source_ports: request.source_ports,
        ..Interfaces::default()
    };
    let report = datapath::attach(pins, &interfaces)?;
    wait_for_links(&report.attached)?;
    announce_at(pins, &report.attached);
    Ok(report)
}

/// Whether rules take nothing there until now.
fn is_new(attached: &&Attached) -> bool {
    !attached.already || attached.was_for_answers
}

/// Announces what the rules that are there announce.
pub(super) fn announce_at(pins: &Pins, attached: &[Attached]) {
    let holds_there = |rule: &Rule| {
        let mut new = attached.iter().filter(is_new);
        let ingress = rule.matches.ingress;
        new.any(|new| ingress.is_none_or(|ifindex| ifindex == new.device.ifindex))
    };
    let read = || {
        let store = RuleStore::open(pins)?;
        // There may be a million that do not.
        match store.announces()? {
            true => store.list(),
            false => Ok(Vec::new()),
        }
    };
    let mut rules = datapath::read(pins, read)
        .ok()
        .flatten()
        .unwrap_or_default();
    rules.retain(|rule| rule.announce && holds_there(rule));
    announce::tell(pins, &rules);
}

/// What those that are new would lose, with the rules that are there.
pub fn check_attached(pins: &Pins, attached: &[Attached]) -> Result<Vec<Finding>> {
    let new = attached.iter().filter(is_new);
    let ifindexes: Vec<u32> = new.map(|attached| attached.device.ifindex).collect();
    if ifindexes.is_empty() {
        return Ok(Vec::new());
    }
    let facts = doctor::of_interfaces(pins, &ifindexes)?;
    Ok(checks::of_interfaces(&facts))
}

/// Drivers that reset their device for a native program (igb, ixgbe, i40e, …) take its link away for
/// a moment: what had one before is given time to have it again.
pub(super) fn wait_for_links(attached: &[Attached]) -> Result<()> {
    let deadline = Instant::now() + LINK_WITHIN;
    let reset = |new: &&Attached| !new.already && new.mode == Mode::Native && new.device.up;
    let mut reset = attached.iter().filter(reset);
    reset.try_for_each(|new| device::wait_for_link(new.device.ifindex, deadline))
}

pub(super) fn gid(name: &str) -> Result<Gid> {
    let group = Group::from_name(name)?;
    let none = || Failure::new(Error::NoGroup(name.into()));
    Ok(group.ok_or_else(none)?.gid)
}
