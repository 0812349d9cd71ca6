//! Which rules and backends are meant.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use super::error::Error;
use crate::datapath::RuleStore;
use crate::error::Failure;
use crate::model::{Backend, Match, Ports, Prefix, Proto, Rule, VlanId};

/// The rules and backends that have all that is given; all of them where nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleSelector {
    pub src: Option<Prefix>,
    pub proto: Option<Proto>,
    pub port: Option<Ports>,
    pub vlan: Option<VlanId>,
    pub server: Option<IpAddr>,
}

impl RuleSelector {
    /// The rules that have a selected backend.
    pub fn rules(&self, store: &RuleStore) -> Result<Vec<Rule>> {
        let mut rules = store.list()?;
        rules.retain(|rule| {
            self.matches_rule(&rule.matches)
                && rule.backends.iter().any(|b| self.matches_backend(b))
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

    fn matches_rule(&self, matches: &Match) -> bool {
        self.src.is_none_or(|src| src == matches.src)
            && self.proto.is_none_or(|proto| proto == matches.proto)
            && self.port.is_none_or(|port| port == matches.ports)
            && self.vlan.is_none_or(|vlan| Some(vlan) == matches.vlan)
    }
}

/// What a rule matches, as a request has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatchSpec {
    /// None: any source of the server's family.
    pub src: Option<Prefix>,
    pub proto: Proto,
    pub port: Ports,
    /// The outer tag's VLAN identifier; None: the frame has no tag.
    pub vlan: Option<VlanId>,
}

impl MatchSpec {
    /// The match for a server of this family.
    pub fn for_family(&self, server: IpAddr) -> Match {
        Match {
            proto: self.proto,
            ports: self.port,
            vlan: self.vlan,
            src: self.src.unwrap_or(Prefix::any_like(server)),
            ..Match::any_like(server)
        }
    }
}
