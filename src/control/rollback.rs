//! Makes the rules and the interfaces what they were after an earlier change.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use super::history::earliest;
use super::refresh::report;
use super::{announce, policy};
use crate::datapath::{
    self, Back, Interfaces, Lock, Others, Pins, RuleStore, Transaction, Unconfirmed, Wanted,
};
use crate::doctor::{Regained, regain};
use crate::error::{Exit, failure, one_line};
use crate::host::device;
use crate::model::{
    Changes, FailedBackend, ForAnswers, InterfaceEntry, RefreshReport, Remedy, Rule, Verb,
};

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
    /// Interfaces that are not attached again.
    pub missing: Vec<MissingInterface>,
}

/// An interface whose device, or that of its policy, is gone.
#[derive(Debug, Serialize)]
pub struct MissingInterface {
    pub ifname: String,
    pub error: String,
}

/// Makes the rules and the interfaces what they were. That is a change, too. None: somebody has confirmed what was to
/// go, or it is gone.
pub fn rollback(pins: &Pins, request: RollbackTo) -> Result<Option<RollbackReport>> {
    for _ in 0..ATTEMPTS {
        if !stands(pins, request)? {
            return Ok(None);
        }
        let read = datapath::read(pins, || back(&RuleStore::open(pins)?, request))?;
        let (to, back) = read.ok_or_else(|| datapath::not_attached(pins))?;
        let done = go_back(pins, request, to, back);
        if !done.as_ref().is_err_and(|error| error.is::<Overtaken>()) {
            return done.map(Some);
        }
    }
    bail!("other runs change the rules all the time: try again")
}

/// Another run has changed something since this one looked.
#[derive(Debug)]
struct Overtaken;

impl fmt::Display for Overtaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another run has changed the rules")
    }
}

impl std::error::Error for Overtaken {}

fn go_back(pins: &Pins, request: RollbackTo, to: u64, back: Back) -> Result<RollbackReport> {
    let Back {
        live,
        mut plan,
        interfaces,
    } = back;
    let (interfaces, missing) = wanted(interfaces, request)?;
    // Looking for backends may take seconds, in which other runs must not wait.
    let regained = regain_rules(pins, &mut plan.put)?;
    let announced = announce::new_ones(pins, &plan.put)?;
    announce::require_free(pins, &announced)?;
    let egress = egress(&plan.put)?;
    let edit = |transaction: &mut Transaction| {
        let is_meant = is_it(transaction.unconfirmed()?, request);
        ensure!(transaction.revision()? == live && is_meant, Overtaken);
        transaction.go_back();
        Ok((plan, ()))
    };
    let for_answers = match interfaces {
        Some(interfaces) => {
            datapath::apply(pins, &interfaces, &egress, edit)?
                .0
                .for_answers
        }
        // Members of a group may do that.
        None => {
            let lock = Lock::take(pins)?;
            let store = RuleStore::open(pins)?;
            let mut transaction = store.begin(&lock, &egress)?;
            let (plan, ()) = edit(&mut transaction)?;
            transaction.stage(plan)?.publish()?
        }
    };
    announce::tell(pins, &announced);
    let look = || {
        let store = RuleStore::open(pins)?;
        Ok((store.revision()?, store.past()?.into_iter().next()))
    };
    let (revision, last) = datapath::read(pins, look)?.unwrap_or_default();
    let made = last.filter(|past| revision > live && past.revision.revision == revision);
    Ok(RollbackReport {
        to,
        revision,
        changes: made.map_or_else(Changes::default, |past| past.revision.changes),
        refresh: refresh_report(regained, for_answers),
        missing,
    })
}

/// The interfaces as they were, where they have changed, and those whose device is gone.
fn wanted(
    entries: Option<Vec<InterfaceEntry>>,
    request: RollbackTo,
) -> Result<(Option<Interfaces>, Vec<MissingInterface>)> {
    let Some(entries) = entries else {
        return Ok((None, Vec::new()));
    };
    let has_none = entries.is_empty();
    // With the last interface the history goes, too: nobody could go back from there.
    if has_none && !matches!(request, RollbackTo::Unconfirmed(_)) {
        let why = "nothing was attached then";
        let detach = Remedy::from(Verb::Plain("detach --all")) + " makes it so again";
        return Err(failure(Exit::Conflict, (why, detach)));
    }
    let (mut wanted, mut missing) = (Vec::new(), Vec::new());
    for entry in entries {
        let found = device::by_name(&entry.name)
            .and_then(|device| Ok((device, policy::resolve(&entry.policy)?)));
        match found {
            Ok((device, policy)) => wanted.push(Wanted {
                device,
                mode: entry.mode.mode(),
                ledger: entry.ledger,
                policy: Some(policy),
                others: Others::default(),
            }),
            Err(error) => missing.push(MissingInterface {
                ifname: entry.name,
                error: one_line(&error),
            }),
        }
    }
    let interfaces = Interfaces {
        // Where none of them is there, those that are stay.
        only_these: has_none || !wanted.is_empty(),
        change_attached: true,
        wanted,
        ..Interfaces::default()
    };
    Ok((Some(interfaces), missing))
}

/// Whether there is what is to go.
fn stands(pins: &Pins, request: RollbackTo) -> Result<bool> {
    if !matches!(request, RollbackTo::Unconfirmed(_)) {
        return Ok(true);
    }
    let read = datapath::read(pins, || RuleStore::open(pins)?.unconfirmed())?;
    Ok(is_it(read.flatten(), request))
}

/// Whether that is the one that is to go, where it is said which one.
fn is_it(live: Option<Unconfirmed>, request: RollbackTo) -> bool {
    match request {
        RollbackTo::Unconfirmed(token) => live.is_some_and(|live| live.token == token),
        RollbackTo::Last | RollbackTo::Revision(_) => true,
    }
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
