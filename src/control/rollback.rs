//! Makes the rules what they were after an earlier change.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::announce;
use super::history::earliest;
use super::refresh::report;
use crate::datapath::{self, Back, Draft, Pins, RuleStore};
use crate::doctor::{Regained, regain};
use crate::error::{Exit, failure};
use crate::host::device;
use crate::model::{Changes, FailedBackend, ForAnswers, RefreshReport, Remedy, Rule, Verb};

/// How often this is tried while other runs change the rules.
const ATTEMPTS: usize = 10;

/// Where the rules go back to.
#[derive(Clone, Copy, Debug)]
pub enum RollbackTo {
    /// Before the last change.
    Last,
    /// After the change with this number.
    Revision(u64),
    /// Before the change with this token, if that is the last one, and nobody has confirmed it.
    Unconfirmed(u64),
}

/// What a rollback has done.
pub struct RollbackReport {
    /// The revision after which the rules were as they are now.
    pub to: u64,
    /// The revision that is live now.
    pub revision: u64,
    pub changes: Changes,
    /// Backends that have another adjacency than then, because their device is gone, and those that have none.
    pub refresh: RefreshReport,
}

/// Makes the rules what they were. That is a change, too. None: somebody has confirmed what was to go, or it is gone.
pub fn rollback(pins: &Pins, request: RollbackTo) -> Result<Option<RollbackReport>> {
    for _ in 0..ATTEMPTS {
        if !stands(pins, request)? {
            return Ok(None);
        }
        let read = Draft::read(pins, |store| back(store, request))?;
        let (mut draft, (to, mut back)) = read.ok_or_else(|| datapath::not_attached(pins))?;
        // Looking for backends may take seconds, in which other runs must not wait.
        let regained = regain_rules(pins, &mut back.plan.put)?;
        let announced = announce::new_ones(pins, &back.plan.put)?;
        announce::require_free(pins, &announced)?;
        let (lock, store) = draft.lock()?;
        if store.revision()? != back.live || !is_meant(store, request)? {
            continue;
        }
        let egress = egress(&back.plan.put)?;
        let mut transaction = store.begin(&lock, &egress)?;
        transaction.go_back();
        let for_answers = transaction.stage(back.plan)?.publish()?;
        announce::tell(pins, &announced);
        let revision = store.revision()?;
        let last = store.past()?.into_iter().next();
        let made = last.filter(|_| revision != back.live);
        return Ok(Some(RollbackReport {
            to,
            revision,
            changes: made.map_or_else(Changes::default, |past| past.revision.changes),
            refresh: refresh_report(regained, for_answers),
        }));
    }
    bail!("the rules were changed by other runs all the time: try again")
}

/// Whether there is what is to go.
fn stands(pins: &Pins, request: RollbackTo) -> Result<bool> {
    let RollbackTo::Unconfirmed(_) = request else {
        return Ok(true);
    };
    let read = datapath::read(pins, || is_meant(&RuleStore::open(pins)?, request))?;
    Ok(read.unwrap_or(false))
}

/// Whether the live revision is the one that is to go, where it is said which one.
fn is_meant(store: &RuleStore, request: RollbackTo) -> Result<bool> {
    let RollbackTo::Unconfirmed(token) = request else {
        return Ok(true);
    };
    let unconfirmed = store.unconfirmed()?;
    Ok(unconfirmed.is_some_and(|unconfirmed| unconfirmed.token == token))
}

/// The revision that is meant, and what leads there.
fn back(store: &RuleStore, request: RollbackTo) -> Result<(u64, Back)> {
    let past = store.past()?;
    let live = store.revision()?;
    let earliest = earliest(&past).unwrap_or(live);
    let to = match request {
        RollbackTo::Revision(to) if to > live => {
            return Err(not_kept(format!("revision {to}: the last one is {live}")));
        }
        RollbackTo::Revision(to) => to,
        _ if earliest == live => {
            return Err(not_kept("there is no change to go back from".into()));
        }
        _ => live - 1,
    };
    match store.back_to(to)? {
        Some(back) if to >= earliest => Ok((to, back)),
        _ => Err(not_kept(format!(
            "revision {to}: what was then is not kept; the earliest that is kept is {earliest}"
        ))),
    }
}

fn not_kept(why: String) -> anyhow::Error {
    let remedy = Remedy::from(Verb::Plain("history")) + " shows what there is";
    failure(Exit::NotFound, (why, remedy))
}

/// A backend that the rule has now just so is no worse for coming back.
fn regain_rules(pins: &Pins, rules: &mut [Rule]) -> Result<Regained> {
    let store = datapath::read(pins, || RuleStore::open(pins))?;
    let store = store.ok_or_else(|| datapath::not_attached(pins))?;
    regain(rules, |matches, backend| {
        let now = store.get(matches)?;
        let now = now.as_ref().and_then(|rule| rule.backend(backend.server));
        Ok(now.is_some_and(|now| now.adjacency == backend.adjacency))
    })
}

/// The devices that the rules lead to, of those that are there.
fn egress(rules: &[Rule]) -> Result<BTreeSet<u32>> {
    let there: BTreeSet<u32> = device::all()?.iter().map(|device| device.ifindex).collect();
    let backends = rules.iter().flat_map(|rule| &rule.backends);
    let backends = backends.map(|backend| backend.ifindex);
    let forwards = rules.iter().filter_map(|rule| rule.action.ifindex());
    let egress = backends.chain(forwards);
    Ok(egress.filter(|ifindex| there.contains(ifindex)).collect())
}

fn refresh_report(regained: Regained, for_answers: ForAnswers) -> RefreshReport {
    let mut refresh = RefreshReport {
        for_answers,
        ..RefreshReport::default()
    };
    let rebinds = regained.rebinds.iter();
    rebinds.for_each(|rebind| report(&mut refresh, rebind));
    let gone = regained
        .gone
        .into_iter()
        .map(|(matches, ifindex)| FailedBackend {
            matches,
            ingress: matches.ingress.and_then(device::name_of),
            server: None,
            origin: None,
            error: format!("device {ifindex} is gone"),
        });
    refresh.failed.extend(gone);
    refresh
}
