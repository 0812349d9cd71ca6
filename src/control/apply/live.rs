//! What a network namespace has, as files have it.

use std::collections::HashMap;

use anyhow::Result;
use nix::unistd::Group;

use crate::control::policy::named_policy;
use crate::datapath::{self, Interface, Pins, RuleStore};
use crate::host::device;
use crate::model::difference::Change;
use crate::model::{
    InterfaceEntry, LedgerState, LinkState, Policy, PolicySpec, Purpose, Rule, RuleEntry,
    SourcePorts, TableSize,
};

/// What a network namespace has but its rules.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// The group whose members may change rules.
    pub group: Option<String>,
    /// How many connections there is room for; None: nobody has said it, and none is remembered.
    pub connections: Option<TableSize>,
    pub snat_ports: Option<SourcePorts>,
    pub interfaces: Vec<LiveInterface>,
}

/// An interface that rules are for.
#[derive(Clone, Debug)]
pub struct LiveInterface {
    pub ifindex: u32,
    pub policy: Policy,
    pub entry: InterfaceEntry,
}

impl Live {
    /// Nothing, where nothing is attached.
    pub fn read(pins: &Pins) -> Result<Self> {
        let read = datapath::read(pins, || {
            let store = RuleStore::open(pins)?;
            let mut interfaces = datapath::interfaces(pins)?;
            interfaces.retain(|interface| serves_rules(pins, interface));
            let interfaces = interfaces.iter();
            let interfaces = interfaces.map(|interface| of_interface(&store, interface));
            let in_use = datapath::connections_in_use(pins)?;
            Ok(Live {
                group: group(pins),
                connections: in_use.and_then(|in_use| TableSize::for_connections(in_use.most)),
                snat_ports: Some(datapath::source_ports(pins)?),
                interfaces: interfaces.collect::<Result<_>>()?,
            })
        })?;
        Ok(read.unwrap_or_default())
    }
}

/// Whether rules take packets there, as far as this process may ask.
fn serves_rules(pins: &Pins, interface: &Interface) -> bool {
    let ids = interface.ids(pins);
    let is_attached = ids.map_or(true, |ids| ids.state == LinkState::Attached);
    interface.purpose == Purpose::Rules && is_attached
}

/// The name of the group; its number, where it has none.
fn group(pins: &Pins) -> Option<String> {
    let gid = datapath::group(pins)?;
    let known = Group::from_gid(gid).ok().flatten();
    Some(known.map_or_else(|| gid.to_string(), |group| group.name))
}

fn of_interface(store: &RuleStore, interface: &Interface) -> Result<LiveInterface> {
    let policy = interface.policy;
    let named = named_policy(store, policy)?;
    Ok(LiveInterface {
        ifindex: interface.ifindex,
        policy,
        entry: InterfaceEntry {
            name: interface.name(),
            mode: interface.mode.into(),
            policy: match policy {
                Policy::Pass => PolicySpec::Pass,
                Policy::Drop => PolicySpec::Drop,
                Policy::Forward { ifindex, .. } => {
                    PolicySpec::Forward(named.ifname.unwrap_or_else(|| ifindex.to_string()))
                }
            },
            ledger: interface.ledger != LedgerState::Unwanted,
        },
    })
}

/// The names of devices, each asked once.
#[derive(Default)]
pub struct Names(HashMap<u32, Option<String>>);

impl Names {
    /// A rule as files have it.
    pub fn entry(&mut self, rule: &Rule) -> RuleEntry {
        RuleEntry::of(rule, |ifindex| self.of(ifindex))
    }

    /// The change from one rule to another.
    pub fn change(&mut self, old: Option<&Rule>, new: Option<&Rule>) -> Change {
        let matches = old.or(new).map(|rule| rule.matches);
        let matches = matches.map(|matches| {
            let interface = matches.ingress.map(|ifindex| {
                let name = self.of(ifindex);
                name.unwrap_or_else(|| format!("{ifindex} (gone)"))
            });
            matches.named(interface.as_deref()).to_string()
        });
        let mut entry = |rule: Option<&Rule>| rule.map(|rule| Box::new(self.entry(rule)));
        Change::Rule {
            matches: matches.unwrap_or_default(),
            old: entry(old),
            new: entry(new),
        }
    }

    fn of(&mut self, ifindex: u32) -> Option<String> {
        let name = self.0.entry(ifindex);
        name.or_insert_with(|| device::name_of(ifindex)).clone()
    }
}
