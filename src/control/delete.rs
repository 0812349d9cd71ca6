//! Deletes backends and rules.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use super::error::Error;
use super::{MatchSpec, validate};
use crate::datapath::{self, Lock, Pins, RuleStore};
use crate::error::Failure;
use crate::model::{Match, Plan, Rule};

/// What is deleted.
#[derive(Clone, Copy, Debug)]
pub enum DeleteRequest {
    All,
    /// A rule with all its backends, or one of them.
    Rule {
        /// The match, as it was added. Without a source and a server, it is that of both families.
        matches: MatchSpec,
        /// The backend; None: all of the rule.
        server: Option<IpAddr>,
    },
}

/// What was deleted.
pub struct DeleteReport {
    pub deleted: usize,
    /// The rules that they were of, or would have been; not named where all rules were deleted.
    pub rules: Vec<Match>,
}

/// Deletes what is asked for. Nothing to delete is an error unless it is `if_exists`.
pub fn delete(pins: &Pins, request: &DeleteRequest, if_exists: bool) -> Result<DeleteReport> {
    request.validate()?;
    if if_exists && !datapath::has_state(pins)? {
        return Ok(request.nothing());
    }
    let lock = Lock::take(pins)?;
    let store = RuleStore::open(pins)?;
    let report = match request {
        DeleteRequest::All => delete_all(&store, &lock)?,
        DeleteRequest::Rule { server, .. } => {
            let candidates = request.candidates();
            let none = BTreeSet::new();
            store.edit(&lock, &none, candidates, |rules| Ok(remove(rules, *server)))?
        }
    };
    match report.deleted {
        0 if if_exists => Ok(request.nothing()),
        0 => Err(Failure::new(Error::NoRule(request.not_found()))),
        _ => Ok(report),
    }
}

impl DeleteRequest {
    fn validate(&self) -> Result<()> {
        let DeleteRequest::Rule {
            matches,
            server: Some(server),
        } = *self
        else {
            return Ok(());
        };
        validate::server(server)?;
        let src = matches.src;
        src.map_or(Ok(()), |src| validate::source(src, server))
    }

    /// The matches that may be meant: of both families, where neither source nor server has one.
    fn candidates(&self) -> Vec<Match> {
        let DeleteRequest::Rule { matches, server } = *self else {
            return Vec::new();
        };
        let families = match server.or(matches.src.map(|src| src.addr())) {
            Some(addr) => vec![addr],
            None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        };
        let of = |addr| matches.for_family(addr);
        families.into_iter().map(of).collect()
    }

    fn nothing(&self) -> DeleteReport {
        DeleteReport {
            deleted: 0,
            rules: self.candidates().into_iter().take(1).collect(),
        }
    }

    fn not_found(&self) -> String {
        let DeleteRequest::Rule { server, .. } = *self else {
            return "there are no rules".into();
        };
        let rule = self.candidates()[0];
        match server {
            Some(server) => format!("no backend {server} in the rule {rule}"),
            None => format!("no rule {rule}"),
        }
    }
}

fn delete_all(store: &RuleStore, lock: &Lock) -> Result<DeleteReport> {
    let all = store.list()?;
    let transaction = store.begin(lock, &BTreeSet::new())?;
    transaction.stage(Plan::delete(&all))?.publish()?;
    Ok(DeleteReport {
        deleted: all.iter().map(|rule| rule.backends.len().max(1)).sum(),
        rules: Vec::new(),
    })
}

/// Removes one backend of each rule, or all; a rule without backends goes, too.
fn remove(rules: &mut Vec<Rule>, server: Option<IpAddr>) -> DeleteReport {
    let mut report = DeleteReport {
        deleted: 0,
        rules: Vec::new(),
    };
    rules.retain_mut(|rule| {
        let count = match server {
            Some(server) => usize::from(rule.remove(server).is_some()),
            None => std::mem::take(&mut rule.backends).len().max(1),
        };
        report.deleted += count;
        report
            .rules
            .extend(Some(rule.matches).filter(|_| count > 0));
        count == 0 || !rule.backends.is_empty()
    });
    report
}
