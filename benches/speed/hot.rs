//! The programs alone, without devices: a test run of a program that writes the frame and calls the
//! program under test, over and over on one CPU. What a frame costs live comes on top of it.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libbpf_rs::{MapCore as _, MapFlags, ProgramInput};
use nix::time::{ClockId, clock_gettime};

use crate::Setup;
use crate::bed::{Bed, Hook};
use crate::cases::{CASES, Case};
use crate::host::run_on;
use crate::redirect::{BARE, REFERENCE, WITHOUT, XDPREDIR, bare, find};
use crate::report::{Goal, Line, Section};
use crate::rule_sets::RuleSet;
use crate::spread::Spread;
use crate::subject::Programs;
use crate::sys;

/// More than there are flows.
pub const REPEAT: u32 = 40_000;
/// Test runs for each window of the live sections, since they take a tenth of its time.
pub const RUNS_PER_ROUND: u32 = 2;

pub const PASS: &str = "pass";

// As in vmlinux.h.
pub const XDP_PASS: u32 = 2;
pub const XDP_REDIRECT: u32 = 4;

struct HotCase<'a> {
    case: &'a Case,
    subjects: Vec<(&'static str, Programs)>,
    /// By subject and round.
    ns: Vec<Vec<f64>>,
}

pub fn measure(setup: &Setup) -> Result<Section> {
    let mut storage = MaybeUninit::uninit();
    let mut bed = Bed::new(&mut storage, setup.cpu)?.with_sink()?;
    let rule_sets = RuleSet::load(&bed, "hot")?;
    // The kernel takes frames as dut0's once a program is there. If it is the one that runs, the kernel
    // need not wait for all CPUs before and after each run.
    bed.attach(bed.skel.progs.call_subject.as_fd(), Hook::Native)?;
    let mut cases = CASES
        .iter()
        .map(|case| HotCase::new(&bed, case, &rule_sets))
        .collect::<Result<Vec<_>>>()?;
    for _ in 0..setup.rounds * RUNS_PER_ROUND {
        for case in &mut cases {
            case.run(&mut bed).context(case.case.name)?;
        }
    }
    Ok(Section {
        name: "hot",
        about: "native mode, test runs: the program alone, with a frame that was just written; \
                ns over a program that only passes",
        lines: cases.iter().flat_map(|case| case.lines(&cases)).collect(),
    })
}

impl<'a> HotCase<'a> {
    fn new(bed: &Bed, case: &'a Case, rule_sets: &[RuleSet]) -> Result<Self> {
        let progs = &bed.skel.progs;
        let rules = find(rule_sets, case.rules);
        let mut subjects = vec![
            (PASS, Programs::new(&progs.pass)?),
            (BARE, bare(bed, case.rules)?),
            (WITHOUT, rules.without.try_clone()?),
        ];
        if case.in_full {
            subjects.push((REFERENCE, Programs::new(&progs.reference)?));
            subjects.push((XDPREDIR, rules.with_ledger.try_clone()?));
        }
        let ns = subjects.iter().map(|_| Vec::new()).collect();
        Ok(Self { case, subjects, ns })
    }

    fn run(&mut self, bed: &mut Bed) -> Result<()> {
        bed.set_traffic(&self.case.traffic)?;
        for ((name, programs), ns) in self.subjects.iter().zip(&mut self.ns) {
            let expected = match *name == PASS {
                true => XDP_PASS,
                false => XDP_REDIRECT,
            };
            let length = self.case.traffic.frame.length;
            ns.push(
                bed.ns_per_call(programs.as_fd(), length, expected)
                    .context(*name)?,
            );
        }
        Ok(())
    }

    fn of(&self, subject: &str) -> &[f64] {
        let index = self.subjects.iter().position(|(name, _)| *name == subject);
        &self.ns[index.expect("it is measured in this case")]
    }

    fn lines(&self, all: &[HotCase]) -> Vec<Line> {
        let line = |subject, value, unit| Line::new(self.case.name, subject, value, unit);
        let above_pass = |(name, _): &(&'static str, Programs)| {
            let value = Spread::above(self.of(name), self.of(PASS));
            (*name != PASS).then(|| line(name, value, "ns over pass"))
        };
        let mut lines: Vec<_> = self.subjects.iter().filter_map(above_pass).collect();
        let above_bare = Spread::above(self.of(WITHOUT), self.of(BARE));
        let above_bare = line(WITHOUT, above_bare, "ns over bare");
        lines.push(match self.case.over_bare {
            Some(goal) => above_bare.goal(Goal::AtMost(goal)),
            None => above_bare,
        });
        if let Some(beside) = &self.case.beside {
            let other = all.iter().find(|other| other.case.name == beside.case);
            let other = other.expect("a case of the table");
            let times = [self, other].map(|case| [case.of(WITHOUT), case.of(PASS)]);
            let value = Spread::derived(
                [times[0][0], times[0][1], times[1][0], times[1][1]],
                |[time, pass, other, other_pass]| (time - pass) - (other - other_pass),
            );
            lines.push(line(WITHOUT, value, beside.unit).goal(Goal::AtMost(beside.goal)));
        }
        lines
    }
}

/// What this thread has run, without the time in which others did.
fn cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

impl Bed<'_> {
    /// Nanoseconds for each call of the program, with writing the frame.
    pub fn ns_per_call(
        &self,
        program: BorrowedFd<'_>,
        length: usize,
        expected: u32,
    ) -> Result<f64> {
        let fd = program.as_raw_fd().to_ne_bytes();
        let map = &self.skel.maps.subject;
        map.update(&0u32.to_ne_bytes(), &fd, MapFlags::ANY)?;
        // Of struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let mut context = [0, length as u32, 0, self.dut0 as u32, 0, 0].map(u32::to_ne_bytes);
        let frame = vec![0; length];
        let run = || {
            let input = ProgramInput {
                context_in: Some(context.as_flattened_mut()),
                data_in: Some(&frame),
                repeat: REPEAT,
                ..Default::default()
            };
            let output = self.skel.progs.call_subject.test_run(input)?;
            Ok(output.return_value)
        };
        test_runs(self.cpu, expected, run)
    }
}

/// Nanoseconds for each of the runs, which must return that.
pub fn test_runs(
    cpu: usize,
    expected: u32,
    run: impl FnOnce() -> libbpf_rs::Result<u32> + Send,
) -> Result<f64> {
    let timed = || -> Result<f64> {
        run_on(&[cpu])?;
        sys::take_precedence()?;
        let start = cpu_time()?;
        let verdict = run()?;
        let elapsed = cpu_time()? - start;
        ensure!(
            verdict == expected,
            "the verdict is {verdict}, not {expected}"
        );
        Ok(elapsed.as_nanos() as f64 / f64::from(REPEAT))
    };
    thread::scope(|scope| scope.spawn(timed).join().expect("no panic in a test run"))
}
