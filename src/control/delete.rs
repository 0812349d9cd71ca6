//! Deletes backends and rules.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;

use super::error::{Error, Field};
use super::selector::text;
use super::{MatchSpec, validate};
use crate::datapath::{self, Lock, Pins, RuleStore};
use crate::error::Failure;
use crate::model::{Action, ForAnswers, Match, Plan, Rule};

/// What is deleted.
#[derive(Clone, Debug)]
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
#[derive(Default)]
pub struct DeleteReport {
    pub backends: usize,
    /// Rules whose action has no backends.
    pub others: usize,
    /// The rules, or those that the backends were of, or would have been; not named where all rules were
    /// deleted.
    pub rules: Vec<Match>,
    /// What was done where no rule needs it for answers any more.
    pub for_answers: ForAnswers,
}

impl DeleteReport {
    /// How many backends and rules without backends.
    pub fn deleted(&self) -> usize {
        self.backends + self.others
    }

    fn add(&mut self, rule: &Rule, backends: usize) {
        match rule.action {
            Action::Redirect => self.backends += backends,
            _ => self.others += 1,
        }
    }
}

/// Deletes what is asked for. Nothing to delete is an error unless it is `if_exists`.
pub fn delete(pins: &Pins, request: &DeleteRequest, if_exists: bool) -> Result<DeleteReport> {
    let candidates = request.candidates()?;
    let nothing = DeleteReport {
        rules: candidates.iter().take(1).copied().collect(),
        ..DeleteReport::default()
    };
    if if_exists && !datapath::has_state(pins)? {
        return Ok(nothing);
    }
    let lock = Lock::take(pins)?;
    let store = RuleStore::open(pins)?;
    let report = match request {
        DeleteRequest::All => delete_all(&store, &lock)?,
        DeleteRequest::Rule { server, .. } => {
            let (none, candidates) = (BTreeSet::new(), candidates.iter().copied());
            let (report, for_answers) =
                store.edit(&lock, &none, candidates, |rules| Ok(remove(rules, *server)))?;
            DeleteReport {
                for_answers,
                ..report
            }
        }
    };
    match report.deleted() {
        0 if if_exists => Ok(nothing),
        0 => Err(Failure::new(Error::NoRule(request.not_found(&candidates)))),
        _ => Ok(report),
    }
}

impl DeleteRequest {
    /// The matches that may be meant.
    fn candidates(&self) -> Result<Vec<Match>> {
        let DeleteRequest::Rule { matches, server } = self else {
            return Ok(Vec::new());
        };
        if let Some(server) = *server {
            validate::server(server)?;
            let fields = [(Field::Dst, matches.dst), (Field::Src, matches.src)];
            validate::same_as_server(fields, server)?;
        }
        matches.candidates(*server)
    }

    fn not_found(&self, candidates: &[Match]) -> String {
        match (self, candidates.first()) {
            (DeleteRequest::Rule { server, .. }, Some(rule)) => match server {
                Some(server) => format!("no backend {server} in the rule {}", text(rule)),
                None => format!("no rule {}", text(rule)),
            },
            _ => "there are no rules".into(),
        }
    }
}

fn delete_all(store: &RuleStore, lock: &Lock) -> Result<DeleteReport> {
    let all = store.list()?;
    let transaction = store.begin(lock, &BTreeSet::new())?;
    let mut report = DeleteReport {
        for_answers: transaction.stage(Plan::delete(&all))?.publish()?,
        ..DeleteReport::default()
    };
    all.iter()
        .for_each(|rule| report.add(rule, rule.backends.len().max(1)));
    Ok(report)
}

/// Removes one backend of each rule, or all; a rule without backends goes, too.
fn remove(rules: &mut Vec<Rule>, server: Option<IpAddr>) -> DeleteReport {
    let mut report = DeleteReport::default();
    rules.retain_mut(|rule| {
        let count = match server {
            Some(server) => usize::from(rule.remove(server).is_some()),
            None => std::mem::take(&mut rule.backends).len().max(1),
        };
        if count == 0 {
            return true;
        }
        report.add(rule, count);
        report.rules.push(rule.matches);
        !rule.backends.is_empty()
    });
    report
}
