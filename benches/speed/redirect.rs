//! The shipped program beside a bare `bpf_redirect_map`: packet rate, run time per call, and what the
//! verifier says of it, over the same devices and the same sink.

use std::mem::MaybeUninit;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions, ProgramInfo};

use crate::bed::{self, Arrivals, Bed, Traffic};
use crate::product::{Product, stack_depth};
use crate::report::{Goal, Line, Section, Spread};
use crate::rounds::take_turns;
use crate::{Setup, WARM_UP, WINDOW, sys};

const RUN_TIME_WINDOW: Duration = Duration::from_millis(200);

struct Case {
    name: &'static str,
    flows: u32,
    backends: usize,
}

const CASES: [Case; 2] = [
    Case {
        name: "1 flow, 1 backend",
        flows: 1,
        backends: 1,
    },
    Case {
        name: "1,000 flows, 16 backends",
        flows: 1000,
        backends: bed::SERVERS,
    },
];

#[derive(Clone, Copy, PartialEq)]
enum Subject {
    /// Does nothing: its run time is what taking the time costs.
    Pass,
    Bare,
    Xdpredir,
    /// The same with `attach --no-ledger`.
    NoLedger,
}

struct Sample {
    mpps: f64,
    ns: f64,
    verified_insns: u32,
}

pub fn measure(setup: &Setup) -> Result<Section> {
    let mut storage = MaybeUninit::uninit();
    let mut bed = Bed::new(&mut storage, setup.cpu)?.with_sink()?;
    let mut lines = Vec::new();
    for (index, case) in CASES.iter().enumerate() {
        let product = Product::new(&format!("redirect{index}"));
        lines.extend(measure_case(&mut bed, case, &product, setup.rounds).context(case.name)?);
    }
    Ok(Section {
        name: "redirect",
        about: "native mode, from veth to veth, dropped by XDP where it arrives",
        lines,
    })
}

fn measure_case(bed: &mut Bed, case: &Case, product: &Product, rounds: u32) -> Result<Vec<Line>> {
    product.prepare(|product| {
        (0..case.backends)
            .try_for_each(|index| product.add_rule(bed, &bed::CLIENT.to_string(), index))
    })?;
    let subjects = [
        Subject::Pass,
        Subject::Bare,
        Subject::Xdpredir,
        Subject::NoLedger,
    ];
    let samples = take_turns(rounds, &subjects, |subject| {
        measure_one(bed, case, product, subject)
    })?;
    let [pass, bare, xdpredir, no_ledger] = &samples[..] else {
        unreachable!("as many as there are subjects")
    };

    let mpps = |sample: &Sample| sample.mpps;
    let above_pass = |(sample, pass): (&Sample, &Sample)| sample.ns - pass.ns;
    let ns = |samples: &[Sample]| Spread::new(samples.iter().zip(pass).map(above_pass));
    let insns = xdpredir
        .iter()
        .map(|sample| f64::from(sample.verified_insns));
    let stack = f64::from(stack_depth()?.iter().sum::<u32>());
    let line = |subject, value, unit| Line::new(case.name, subject, value, unit);
    Ok(vec![
        line("bare redirect_map", Spread::of(bare, mpps), "Mpps"),
        line("xdpredir", Spread::of(xdpredir, mpps), "Mpps"),
        line("xdpredir", Spread::ratio(xdpredir, bare, mpps), "× bare").goal(Goal::AtLeast(0.89)),
        line("without ledger", Spread::of(no_ledger, mpps), "Mpps"),
        line(
            "xdpredir",
            Spread::ratio(xdpredir, no_ledger, mpps),
            "× without ledger",
        )
        .goal(Goal::AtLeast(0.97)),
        line("bare redirect_map", ns(bare), "ns over pass"),
        line("xdpredir", ns(xdpredir), "ns over pass").goal(Goal::AtMost(22.0)),
        line("without ledger", ns(no_ledger), "ns over pass"),
        line("xdpredir", Spread::new(insns), "verified insns"),
        line("xdpredir", Spread::new([stack]), "B of stack"),
    ])
}

fn measure_one(bed: &mut Bed, case: &Case, product: &Product, subject: Subject) -> Result<Sample> {
    match subject {
        Subject::Pass => bed.attach(bed.pass())?,
        Subject::Bare => bed.attach(bed.bare())?,
        Subject::Xdpredir => product.attach("native")?,
        Subject::NoLedger => product.attach_without_ledger()?,
    }
    let id = bed.program_id()?;
    let sample = bed.transmitting(Traffic::flows(case.flows), |bed| {
        sleep(WARM_UP);
        let mpps = match subject {
            Subject::Pass => 0.0,
            Subject::Bare => packet_rate(bed, check_untouched)?,
            Subject::Xdpredir | Subject::NoLedger => {
                packet_rate(bed, |seen| check_rewritten(seen, case.backends))?
            }
        };
        Ok(Sample {
            mpps,
            ns: run_time(id)?,
            verified_insns: info(id)?.verified_insns,
        })
    })?;
    match subject {
        Subject::Pass => bed.detach(bed.pass())?,
        Subject::Bare => bed.detach(bed.bare())?,
        Subject::Xdpredir | Subject::NoLedger => product.detach()?,
    }
    Ok(sample)
}

/// Millions of packets per second that reach the sink.
pub fn packet_rate(bed: &Bed, check: impl FnOnce(&Arrivals) -> Result<()>) -> Result<f64> {
    let (before, start) = (bed.arrivals()?, Instant::now());
    sleep(WINDOW);
    let (after, elapsed) = (bed.arrivals()?, start.elapsed());
    let arrivals = after.since(&before);
    check_core(&arrivals)?;
    check(&arrivals)?;
    Ok(arrivals.total() as f64 / elapsed.as_secs_f64() / 1e6)
}

fn check_core(arrivals: &Arrivals) -> Result<()> {
    let total = arrivals.total();
    ensure!(total > 0, "no packet reached the sink");
    ensure!(
        arrivals.off_core <= total / 100,
        "{} of {total} packets arrived on another core than the generator's",
        arrivals.off_core
    );
    Ok(())
}

fn check_untouched(arrivals: &Arrivals) -> Result<()> {
    let rewritten = arrivals.total() - arrivals.others;
    ensure!(rewritten == 0, "{rewritten} packets were rewritten");
    Ok(())
}

pub fn check_rewritten(arrivals: &Arrivals, backends: usize) -> Result<()> {
    ensure!(
        arrivals.others == 0,
        "{} of {} packets reached the sink with another address than a server's",
        arrivals.others,
        arrivals.total()
    );
    for (index, &packets) in arrivals.by_server.iter().enumerate() {
        let server = bed::server(index);
        ensure!(
            (packets > 0) == (index < backends),
            "{packets} packets reached the sink for {server}"
        );
    }
    Ok(())
}

/// Nanoseconds per call, including what taking the time costs.
fn run_time(id: u32) -> Result<f64> {
    let _enabled = sys::enable_run_time_stats()?;
    let before = info(id)?;
    sleep(RUN_TIME_WINDOW);
    let after = info(id)?;
    let calls = after.run_cnt - before.run_cnt;
    ensure!(calls > 0, "the program under test does not run");
    Ok((after.run_time_ns - before.run_time_ns) as f64 / calls as f64)
}

fn info(id: u32) -> Result<ProgramInfo> {
    ProgInfoIter::with_query_opts(ProgInfoQueryOptions::default())
        .find(|program| program.id == id)
        .context("the program under test is gone")
}
