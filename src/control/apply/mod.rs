//! Makes a network namespace what files say, all or nothing; or tells what that would change.

mod interfaces;
mod live;
mod rules;

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Result;

pub use self::live::{Live, Names};
use super::load::Host;
use super::ruleset_file::bad;
use super::wanted::{self, Sources, Wanted};
use super::{TrialRequest, announce, attach, reply, trial};
use crate::datapath::{self, Attached, Lock, Pins, RuleStore, Transaction};
use crate::doctor::{self, Reverted, Sample, checks};
use crate::error::{Exit, exit_code, failure, one_line};
use crate::host::discovery::{AddressHint, Probe, Resolved, locate};
use crate::host::process;
use crate::model::difference::Change;
use crate::model::{Adjacency, Finding, ForAnswers, Plan, Prefix, Reply, Rule, Unfound};

/// So many changes of rules are told of what was done.
const TOLD: usize = 1000;

/// So many missing things are told with line and column.
const PLACES: usize = 64;

/// What is to be.
#[derive(Clone, Debug, Default)]
pub struct ApplyRequest {
    /// Files, directories, and `-` for standard input.
    pub files: Vec<PathBuf>,
    /// The source address of the demo's rows, which have none.
    pub src: Option<Prefix>,
    /// What can't be found does not stop the rest.
    pub partial: bool,
    /// Rules and interfaces that are in no file stay.
    pub keep_others: bool,
}

/// What was done.
pub struct ApplyReport {
    /// It ends unless somebody confirms it.
    pub on_trial: bool,
    /// Its first changes, or all.
    pub changes: Vec<Change>,
    pub rules: RuleCounts,
    pub missing: Vec<Unfound>,
    /// The interfaces that files name.
    pub attached: Vec<Attached>,
    /// Where a bpffs was mounted, because there was none.
    pub mounted: Option<&'static str>,
    /// What fixes had changed for the sake of rules, where nothing is attached any more.
    pub reverted: Reverted,
    /// What was done so that answers are seen.
    pub for_answers: ForAnswers,
    /// Why answers are not translated, of rules that do not say how they come back.
    pub untranslated: Vec<anyhow::Error>,
    /// What keeps packets from arriving; an error where that could not be checked.
    pub warnings: Result<Vec<Finding>>,
}

impl Default for ApplyReport {
    fn default() -> Self {
        ApplyReport {
            on_trial: false,
            changes: Vec::new(),
            rules: RuleCounts::default(),
            missing: Vec::new(),
            attached: Vec::new(),
            mounted: None,
            reverted: Reverted::default(),
            for_answers: ForAnswers::default(),
            untranslated: Vec::new(),
            warnings: Ok(Vec::new()),
        }
    }
}

/// How many rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RuleCounts {
    pub added: usize,
    pub changed: usize,
    pub removed: usize,
    /// As they were.
    pub same: usize,
}

/// What would be done.
pub struct Difference {
    whole: Vec<Change>,
    rules: rules::Difference,
    pub missing: Vec<Unfound>,
}

impl Difference {
    /// Whether all is as it is to be.
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.rules.count() == 0
    }

    /// How many rules are as they are to be, and how many are not.
    pub fn counts(&self) -> RuleCounts {
        self.rules.counts()
    }

    /// All that differs.
    pub fn changes<'a>(&'a self, names: &'a mut Names) -> impl Iterator<Item = Change> + 'a {
        self.whole.iter().cloned().chain(self.rules.changes(names))
    }
}

/// What the request wants, checked and found. `progress` hears how many rules were read.
fn understand(
    request: &ApplyRequest,
    progress: impl FnMut(usize, usize),
) -> Result<(Sources, Wanted)> {
    let sources = wanted::read(&request.files)?;
    let wanted = wanted::understand(&sources, request.src, &Host, progress)?;
    Ok((sources, wanted))
}

/// What would have to change.
pub fn diff(
    pins: &Pins,
    request: &ApplyRequest,
    progress: impl FnMut(usize, usize),
) -> Result<Difference> {
    let (sources, mut wanted) = understand(request, progress)?;
    let live = Live::read(pins)?;
    let interfaces = interfaces::compare(&sources, &mut wanted, &live, request.keep_others)?;
    let missing = missing(&sources, &wanted, request.partial)?;
    require_interface(&wanted, &interfaces)?;
    let read = datapath::read(pins, || {
        let store = RuleStore::open(pins)?;
        let mut rules = store.list_unsorted()?;
        store.forget_gone(&mut rules)?;
        Ok(rules)
    })?;
    let seen = datapath::attached(pins).unwrap_or_default();
    let mut rules = rules::compare(
        wanted,
        read.unwrap_or_default(),
        request.keep_others,
        |rule, old| guess_reply(rule, old, &seen),
    );
    rules.sort();
    Ok(Difference {
        whole: interfaces.changes,
        rules,
        missing,
    })
}

/// How answers come back where nobody says it, as far as that can be told without a change.
fn guess_reply(rule: &mut Rule, old: Option<&Rule>, attached: &[u32]) {
    let was_refused = |ifindex: u32| {
        let is_same = |old: &Rule| old.translatable_by().any(|known| known == ifindex);
        old.is_some_and(|old| old.reply == Reply::None && is_same(old))
    };
    let mut asked =
        reply::Asked::new(
            |ifindex| match !attached.contains(&ifindex) && was_refused(ifindex) {
                true => Err(bad("answers were not seen there".into())),
                false => Ok(()),
            },
        );
    asked.decide(rule);
}

/// Makes the namespace what the request wants, for good or on trial. `progress` hears how many rules were read.
pub fn apply(
    pins: &Pins,
    request: &ApplyRequest,
    on_trial: Option<&TrialRequest>,
    progress: impl FnMut(usize, usize),
) -> Result<ApplyReport> {
    let (sources, mut wanted) = understand(request, progress)?;
    let live = Live::read(pins)?;
    let interfaces = interfaces::compare(&sources, &mut wanted, &live, request.keep_others)?;
    let missing = missing(&sources, &wanted, request.partial)?;
    require_interface(&wanted, &interfaces)?;
    if interfaces.wanted.only_these && interfaces.leaves_none && on_trial.is_some() {
        let why =
            "nothing would be attached, and what would take the change back goes with the rest";
        return Err(bad(why.into()));
    }
    let on_trial = on_trial.map(|request| trial(pins, request)).transpose()?;
    let token = on_trial.as_ref().map(|trial| trial.unconfirmed.token);
    let mut report = ApplyReport {
        changes: interfaces.changes,
        missing,
        ..ApplyReport::default()
    };
    let is_attached = datapath::has_state(pins)?;
    if interfaces.leaves_none && !is_attached && wanted.rules.is_empty() {
        return Ok(report);
    }
    if interfaces.wanted.only_these && interfaces.leaves_none && is_attached {
        // What was changed for the sake of rules goes with them.
        report.reverted = doctor::undo(pins, &Lock::take(pins)?)?;
    }
    let announced = wanted.rules.iter().map(|wanted| &wanted.rule);
    let announced = announce::new_ones(pins, announced)?;
    announce::require_free(pins, &announced)?;
    let egress = rules::egress(wanted.rules.iter().map(|wanted| &wanted.rule));
    let keep_others = request.keep_others;
    let edit = |transaction: &mut Transaction| {
        if let Some(trial) = on_trial {
            transaction.try_out(trial);
        }
        change(transaction, wanted, keep_others, &mut report)
    };
    let (done, sample) = datapath::apply(pins, &interfaces.wanted, &egress, edit)?;
    (report.attached, report.mounted) = (done.attached, done.mounted);
    report.for_answers = done.for_answers;
    report.on_trial = is_on_trial(pins, token)?;
    attach::wait_for_links(&report.attached)?;
    attach::announce_at(pins, &report.attached);
    announce::tell(pins, &announced);
    report.warnings = warnings(pins, &report.attached, sample);
    Ok(report)
}

/// Whether the live revision is that which ends with this token: not where nothing has changed.
fn is_on_trial(pins: &Pins, token: Option<u64>) -> Result<bool> {
    let Some(token) = token else {
        return Ok(false);
    };
    let live = datapath::read(pins, || RuleStore::open(pins)?.unconfirmed())?;
    Ok(live.flatten().is_some_and(|live| live.token == token))
}

/// The change of the rules, and some of those that are new.
fn change(
    transaction: &mut Transaction,
    wanted: Wanted,
    keep_others: bool,
    report: &mut ApplyReport,
) -> Result<(Plan, Sample)> {
    let live = transaction.list()?;
    let mut asked = reply::Asked::new(|ifindex| transaction.translate(ifindex));
    let mut difference = rules::compare(wanted, live, keep_others, |rule, _| asked.decide(rule));
    report.untranslated = asked.refused();
    report.rules = difference.counts();
    if difference.count() <= TOLD {
        difference.sort();
    }
    let mut names = Names::default();
    let changes = difference.changes(&mut names).take(TOLD);
    report.changes.extend(changes);
    let plan = difference.plan();
    let sample = Sample::of(&plan.put);
    Ok((plan, sample))
}

/// What keeps packets of the new interfaces and rules from arriving.
fn warnings(pins: &Pins, attached: &[Attached], sample: Sample) -> Result<Vec<Finding>> {
    let mut findings = attach::check_attached(pins, attached)?;
    let facts = sample.facts(pins)?;
    findings.extend(checks::of_backend(&facts));
    Ok(findings)
}

/// Rules are where the program is.
fn require_interface(wanted: &Wanted, interfaces: &interfaces::Difference) -> Result<()> {
    if !interfaces.is_said || !interfaces.leaves_none || wanted.rules.is_empty() {
        return Ok(());
    }
    let why = "there are rules and no interface where they take packets";
    Err(bad(format!("{why}: give one, or no rules")))
}

/// What is missing, each once; an error where that stops all.
fn missing(sources: &Sources, wanted: &Wanted, partial: bool) -> Result<Vec<Unfound>> {
    let mut all: Vec<(Exit, Unfound)> = Vec::new();
    let mut known = HashMap::new();
    for missing in &wanted.missing {
        let error = one_line(&missing.error);
        let at = known.entry((&missing.what, error.clone()));
        let at = *at.or_insert(all.len());
        if at < all.len() {
            all[at].1.times += 1;
            continue;
        }
        let unfound = Unfound {
            place: match all.len() {
                // Each is looked for in the text of its file.
                ..PLACES => sources.position_of(missing.place),
                _ => sources.name_of(missing.place).into(),
            },
            what: missing.what.clone(),
            error,
            times: 1,
        };
        all.push((exit_code(&missing.error), unfound));
    }
    all.sort_by_cached_key(|(_, unfound)| unfound.order());
    let Some((code, first)) = all.first().filter(|_| !partial) else {
        return Ok(all.into_iter().map(|(_, unfound)| unfound).collect());
    };
    let more = match all.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more can't be found"),
    };
    Err(failure(*code, format!("{first}{more}")))
}

impl wanted::Host for Host {
    fn find(&self, sought: &wanted::Sought) -> Result<Adjacency> {
        let hint = match sought.server {
            Some(server) => AddressHint::Previous(server),
            None => AddressHint::Unique { ipv6: sought.ipv6 },
        };
        let path = match (&sought.locator, sought.server) {
            (Some(locator), _) => locate(locator, hint, Probe::Always)?,
            (None, Some(server)) => Resolved::find(server, None, sought.mac, Probe::Always)?,
            (None, None) => return Err(bad("a backend without an address".into())),
        };
        doctor::by_device(path.server, path.mac, &path.device)
    }

    fn started(&self, pid: u32) -> Result<u64> {
        process::started(pid)
    }
}
