//! Which rules and backends are meant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};

use super::error::Error;
use super::validate;
use crate::datapath::RuleStore;
use crate::error::Failure;
use crate::host::device;
use crate::model::{Action, Backend, Match, Ports, Prefix, Proto, Rule, VlanId};

/// The rules and backends that have all that is given; all of them where nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSelector {
    pub dst: Option<Prefix>,
    pub src: Option<Prefix>,
    pub proto: Option<Proto>,
    pub ports: Option<Ports>,
    pub vlan: Option<VlanId>,
    pub inner_vlan: Option<VlanId>,
    /// The interface, as `MatchSpec` has it.
    pub ingress: Option<String>,
    pub server: Option<IpAddr>,
}

impl RuleSelector {
    /// The same, of one server.
    pub fn of_server(&self, server: IpAddr) -> Self {
        RuleSelector {
            server: Some(server),
            ..self.clone()
        }
    }

    /// The rules that are selected, or have a selected backend.
    pub fn rules(&self, store: &RuleStore) -> Result<Vec<Rule>> {
        let ingress = self.ingress.as_deref().map(interface_or_index);
        let ingress = ingress.transpose()?;
        let mut rules = store.list()?;
        rules.retain(|rule| {
            self.matches_rule(&rule.matches)
                && ingress.is_none_or(|ingress| Some(ingress) == rule.matches.ingress)
                && self.matches_action(rule)
        });
        Ok(rules)
    }

    /// Fails where something is given, and nothing was found.
    pub fn require<T>(&self, found: &[T]) -> Result<()> {
        let none = || Failure::new(Error::NoRule("no such rule or backend".into()));
        ensure!(
            !found.is_empty() || *self == RuleSelector::default(),
            none()
        );
        Ok(())
    }

    /// Whether a backend of a selected rule is selected.
    pub fn matches_backend(&self, backend: &Backend) -> bool {
        self.server.is_none_or(|server| server == backend.server)
    }

    fn matches_action(&self, rule: &Rule) -> bool {
        match rule.action {
            Action::Redirect => rule.backends.iter().any(|b| self.matches_backend(b)),
            _ => self.server.is_none(),
        }
    }

    fn matches_rule(&self, matches: &Match) -> bool {
        self.dst.is_none_or(|dst| dst == matches.dst)
            && self.src.is_none_or(|src| src == matches.src)
            && self.proto.is_none_or(|proto| proto == matches.proto)
            && self.ports.is_none_or(|ports| ports == matches.ports)
            && self.vlan.is_none_or(|vlan| Some(vlan) == matches.vlan)
            && self
                .inner_vlan
                .is_none_or(|vlan| Some(vlan) == matches.inner_vlan)
    }
}

/// What a rule matches, as a request has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchSpec {
    /// None: any destination.
    pub dst: Option<Prefix>,
    /// None: any source.
    pub src: Option<Prefix>,
    pub proto: Proto,
    pub ports: Ports,
    /// The outer tag's VLAN identifier; None: the frame has no tag.
    pub vlan: Option<VlanId>,
    /// The second tag's; None: it is not compared.
    pub inner_vlan: Option<VlanId>,
    /// The interface's own name, or an alternative one. Of rules that are there, one that is gone is
    /// named by its index.
    pub ingress: Option<String>,
}

impl MatchSpec {
    /// An address of the IP version that is given; None where neither prefix is.
    pub fn family(&self) -> Option<IpAddr> {
        self.dst.or(self.src).map(|prefix| prefix.addr())
    }

    /// The match that a new rule for this IP version gets, whose interface is there.
    pub fn for_new(&self, family: IpAddr) -> Result<Match> {
        let ingress = self.ingress.as_deref().map(device::by_name).transpose()?;
        let matches = self.of_family(family, ingress.map(|device| device.ifindex));
        validate::matches(&matches)?;
        Ok(matches)
    }

    /// The matches of rules that may be meant: of both IP versions, where none is given.
    pub fn candidates(&self, server: Option<IpAddr>) -> Result<Vec<Match>> {
        let ingress = self.ingress.as_deref().map(interface_or_index);
        let ingress = ingress.transpose()?;
        let families = match server.or(self.family()) {
            Some(addr) => vec![addr],
            None => both_families(),
        };
        let of = |family| self.of_family(family, ingress);
        let candidates: Vec<Match> = families.into_iter().map(of).collect();
        candidates.iter().try_for_each(validate::matches)?;
        Ok(candidates)
    }

    fn of_family(&self, family: IpAddr, ingress: Option<u32>) -> Match {
        let any = Match::any_like(family);
        Match {
            dst: self.dst.unwrap_or(any.dst),
            src: self.src.unwrap_or(any.src),
            proto: self.proto,
            ports: self.ports,
            vlan: self.vlan,
            inner_vlan: self.inner_vlan,
            ingress,
        }
    }
}

/// An address of each IP version.
pub fn both_families() -> Vec<IpAddr> {
    vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
}

/// An interface by its name; or, where no device has that, by its index.
pub(super) fn interface_or_index(name: &str) -> Result<u32> {
    match (device::by_name(name), name.parse()) {
        (Ok(device), _) => Ok(device.ifindex),
        (Err(_), Ok(ifindex)) => Ok(ifindex),
        (Err(error), Err(_)) => Err(error),
    }
}

/// A match in words, with the name of its interface.
pub fn text(matches: &Match) -> String {
    let name = |ifindex| device::name_of(ifindex).unwrap_or_else(|| format!("{ifindex} (gone)"));
    matches
        .named(matches.ingress.map(name).as_deref())
        .to_string()
}
