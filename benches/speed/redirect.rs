//! The shipped program beside a bare `bpf_redirect_map`, over the same devices and to the same sink,
//! and what the verifier says of it.

use std::mem::MaybeUninit;

use anyhow::{Context as _, Result};

use crate::Setup;
use crate::arrivals::Check;
use crate::bed::Bed;
use crate::cases::{CASES, Case};
use crate::host::kernel_release;
use crate::product::stack_depth;
use crate::report::{Goal, Line, Section};
use crate::rule_sets::{RuleSet, Rules};
use crate::spread::Spread;
use crate::subject::{Programs, Subject, take_turns_live};

pub const BARE: &str = "bare redirect_map";
pub const REFERENCE: &str = "as xdp-bench";
pub const XDPREDIR: &str = "xdpredir";
pub const WITHOUT: &str = "without ledger";

/// Nothing but the generator: what it sends is dropped where it arrives.
const GENERATOR: &str = "generator alone";
/// The same while the ledger's tracing programs run. They run for what the generator sends, too, which
/// no packet of a real network does.
const GENERATOR_TRACED: &str = "generator, traced";

pub fn measure(setup: &Setup) -> Result<Section> {
    let mut storage = MaybeUninit::uninit();
    let mut bed = Bed::new(&mut storage, setup.cpu)?.with_sink()?;
    let rule_sets = RuleSet::load(&bed, "redirect")?;
    let mut lines = Vec::new();
    for case in &CASES {
        let rules = find(&rule_sets, case.rules);
        lines.extend(case_lines(&mut bed, case, rules, setup).context(case.name)?);
    }
    lines.extend(verifier_lines(&rule_sets[0].with_ledger)?);
    Ok(Section {
        name: "redirect",
        about: "native mode, live: from veth to veth, dropped by XDP where it arrives",
        lines,
    })
}

pub fn find(rule_sets: &[RuleSet], rules: Rules) -> &RuleSet {
    let found = rule_sets.iter().find(|set| set.rules == rules);
    found.expect("all are loaded")
}

fn case_lines(bed: &mut Bed, case: &Case, rules: &RuleSet, setup: &Setup) -> Result<Vec<Line>> {
    let subjects = subjects(bed, case, rules)?;
    let ns = take_turns_live(bed, &case.traffic, &subjects, setup.rounds)?;
    let times = Times {
        case,
        names: subjects.iter().map(|subject| subject.name).collect(),
        ns,
    };
    let mut lines = times.rates();
    if case.in_full {
        lines.extend(times.ledger_lines());
    }
    lines.push(times.over_bare());
    Ok(lines)
}

fn subjects(bed: &Bed, case: &Case, rules: &RuleSet) -> Result<Vec<Subject>> {
    let progs = &bed.skel.progs;
    let subject = |name, programs, check| Subject {
        name,
        programs,
        check,
    };
    let rewritten = Check::Rewritten(case.rules.servers());
    let bare = bare(bed, case.rules)?;
    let without = rules.without.try_clone()?;
    let mut subjects = vec![
        subject(BARE, bare, Check::Untouched),
        subject(WITHOUT, without, rewritten),
    ];
    if case.in_full {
        let ledger = &rules.with_ledger;
        let (sink, reference) = (
            Programs::new(&progs.sink)?,
            Programs::new(&progs.reference)?,
        );
        let traced = ledger.tracing_of(&progs.sink)?;
        subjects.extend([
            subject(XDPREDIR, ledger.try_clone()?, rewritten),
            subject(REFERENCE, reference, Check::Untouched),
            subject(GENERATOR, sink, Check::Untouched),
            subject(GENERATOR_TRACED, traced, Check::Untouched),
        ]);
    }
    Ok(subjects)
}

/// The redirect alone, to as many devices as the rules have.
pub fn bare(bed: &Bed, rules: Rules) -> Result<Programs> {
    let progs = &bed.skel.progs;
    match rules {
        Rules::SixteenDevices => Programs::new(&progs.bare_in_turn),
        _ => Programs::new(&progs.bare),
    }
}

/// Nanoseconds for each packet, by subject and round.
struct Times<'a> {
    case: &'a Case,
    names: Vec<&'static str>,
    ns: Vec<Vec<f64>>,
}

impl Times<'_> {
    fn of(&self, subject: &str) -> &[f64] {
        let index = self.names.iter().position(|&name| name == subject);
        &self.ns[index.expect("it is measured in this case")]
    }

    fn line(&self, subject: &'static str, value: Spread, unit: &'static str) -> Line {
        Line::new(self.case.name, subject, value, unit)
    }

    fn rates(&self) -> Vec<Line> {
        let rate = |&name: &&'static str| self.line(name, Spread::mpps(self.of(name)), "Mpps");
        let mut lines: Vec<_> = self.names.iter().map(rate).collect();
        let (bare, without) = (self.of(BARE), self.of(WITHOUT));
        lines.push(self.line(WITHOUT, Spread::rate_ratio(without, bare), "× bare"));
        lines
    }

    /// As measured, and less what the tracing programs take for the generator.
    fn ledger_lines(&self) -> Vec<Line> {
        let (bare, ledger, without) = (self.of(BARE), self.of(XDPREDIR), self.of(WITHOUT));
        let (traced, untraced) = (self.of(GENERATOR_TRACED), self.of(GENERATOR));
        let accounted = |reference| {
            Spread::derived(
                [ledger, reference, traced, untraced],
                |[ledger, reference, traced, untraced]| reference / (ledger - (traced - untraced)),
            )
        };
        let has_goal = self.case.over_bare.is_some();
        let judged = |line: Line, goal| match has_goal {
            true => line.goal(Goal::AtLeast(goal)),
            false => line,
        };
        let line = |value, unit| self.line(XDPREDIR, value, unit);
        vec![
            line(Spread::rate_ratio(ledger, bare), "× bare, as is"),
            line(
                Spread::rate_ratio(ledger, without),
                "× without ledger, as is",
            ),
            self.line(
                GENERATOR_TRACED,
                Spread::above(traced, untraced),
                "ns over alone",
            ),
            judged(line(accounted(bare), "× bare"), 0.89),
            judged(line(accounted(without), "× without ledger"), 0.97),
        ]
    }

    fn over_bare(&self) -> Line {
        let value = Spread::above(self.of(WITHOUT), self.of(BARE));
        let line = self.line(WITHOUT, value, "ns over bare");
        match self.case.over_bare {
            Some(goal) => line.goal(Goal::AtMost(goal)),
            None => line,
        }
    }
}

fn verifier_lines(programs: &Programs) -> Result<Vec<Line>> {
    let insns = f64::from(programs.verified_insns()?);
    let stack = f64::from(stack_depth()?.iter().sum::<u32>());
    let line = |value, unit| Line::new("the verifier", XDPREDIR, Spread::of(&[value]), unit);
    // Kernels differ in what they walk.
    let goal = match kernel_release()?.starts_with("6.18.") {
        true => 60_000.0,
        false => 200_000.0,
    };
    Ok(vec![
        line(insns, "verified insns").goal(Goal::AtMost(goal)),
        line(stack, "B of stack"),
    ])
}
