//! The shipped program beside a bare `bpf_redirect_map`: packet rate, run time per call and verified
//! instructions, over the same devices and the same sink, in one run.
//!
//! Speed drifts by more than the programs differ, so they take turns and only the ratio within a
//! round is compared.

mod bed;
mod frame;
mod host;
mod report;
mod sys;

#[allow(clippy::all)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/bench.skel.rs"));
}

use std::mem::MaybeUninit;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions, ProgramInfo};

use bed::{Arrivals, Bed};
use report::{CaseReport, Report};

const WARM_UP: Duration = Duration::from_millis(100);
const RATE_WINDOW: Duration = Duration::from_secs(1);
const RUN_TIME_WINDOW: Duration = Duration::from_millis(300);

/// Measure the shipped program beside a bare redirect
#[derive(Parser)]
struct Args {
    /// Only cases whose name contains this
    #[arg(default_value = "")]
    filter: String,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Rounds for each case
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(7..))]
    rounds: u32,

    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

struct Case {
    name: &'static str,
    flows: u32,
    backends: usize,
}

const CASES: [Case; 2] = [
    Case {
        name: "1x1",
        flows: 1,
        backends: 1,
    },
    Case {
        name: "1000x16",
        flows: 1000,
        backends: bed::SERVERS,
    },
];

#[derive(Clone, Copy, PartialEq)]
enum Subject {
    /// Does nothing: what is left of its run time is the measurement's own.
    Pass,
    Bare,
    Xdpredir,
}

#[derive(Clone, Copy)]
struct Sample {
    mpps: f64,
    ns: f64,
    verified_insns: u32,
}

struct Round {
    bare: Sample,
    xdpredir: Sample,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let cases: Vec<_> = CASES
        .iter()
        .filter(|case| case.name.contains(&args.filter))
        .collect();
    ensure!(!cases.is_empty(), "no case is named like {}", args.filter);

    let mut storage = MaybeUninit::uninit();
    let mut bed = Bed::new(&mut storage)?;
    let mut reports = Vec::new();
    for case in cases {
        eprintln!("{}: {} rounds", case.name, args.rounds);
        reports.push(run_case(&mut bed, case, args.rounds).context(case.name)?);
    }

    let report = Report::new(args.rounds, RATE_WINDOW, reports)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}

fn run_case(bed: &mut Bed, case: &Case, rounds: u32) -> Result<CaseReport> {
    add_rules(bed, case)?;
    let rounds = (0..rounds)
        .map(|round| run_round(bed, case, round))
        .collect::<Result<Vec<_>>>()?;
    Ok(CaseReport::new(case, &rounds))
}

fn run_round(bed: &mut Bed, case: &Case, round: u32) -> Result<Round> {
    let control = measure(bed, case, Subject::Pass)?;
    let (mut bare, mut xdpredir);
    if round.is_multiple_of(2) {
        bare = measure(bed, case, Subject::Bare)?;
        xdpredir = measure(bed, case, Subject::Xdpredir)?;
    } else {
        xdpredir = measure(bed, case, Subject::Xdpredir)?;
        bare = measure(bed, case, Subject::Bare)?;
    }
    bare.ns -= control.ns;
    xdpredir.ns -= control.ns;
    Ok(Round { bare, xdpredir })
}

fn measure(bed: &mut Bed, case: &Case, subject: Subject) -> Result<Sample> {
    attach(bed, case, subject)?;
    let id = bed.program_id()?;
    let sample = bed.transmitting(case.flows, |bed| {
        sleep(WARM_UP);
        let mpps = match subject {
            Subject::Pass => 0.0,
            _ => packet_rate(bed, case, subject)?,
        };
        Ok(Sample {
            mpps,
            ns: run_time(id)?,
            verified_insns: info(id)?.verified_insns,
        })
    })?;
    detach(bed, case, subject)?;
    Ok(sample)
}

/// Millions of packets per second that reach the sink.
fn packet_rate(bed: &Bed, case: &Case, subject: Subject) -> Result<f64> {
    let (before, start) = (bed.arrivals()?, Instant::now());
    sleep(RATE_WINDOW);
    let (after, elapsed) = (bed.arrivals()?, start.elapsed());
    let arrivals = after.since(&before);
    check(&arrivals, case, subject)?;
    Ok(arrivals.total() as f64 / elapsed.as_secs_f64() / 1e6)
}

/// Whether the packets are those that the subject should have made of the generator's.
fn check(arrivals: &Arrivals, case: &Case, subject: Subject) -> Result<()> {
    let total = arrivals.total();
    ensure!(total > 0, "no packet reached the sink");
    ensure!(
        arrivals.off_core <= total / 100,
        "{} of {total} packets arrived on another core than the generator's",
        arrivals.off_core
    );

    let rewritten = total - arrivals.others;
    if subject == Subject::Bare {
        ensure!(rewritten == 0, "{rewritten} packets were rewritten");
        return Ok(());
    }
    ensure!(
        arrivals.others == 0,
        "{} of {total} packets reached the sink with another address than a server's",
        arrivals.others
    );
    for (index, &packets) in arrivals.by_server.iter().enumerate() {
        let server = bed::server(index);
        ensure!(
            (packets > 0) == (index < case.backends),
            "{packets} packets reached the sink for {server}"
        );
    }
    Ok(())
}

/// Nanoseconds per call, what taking the time costs included.
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

fn attach(bed: &Bed, case: &Case, subject: Subject) -> Result<()> {
    match subject {
        Subject::Pass => bed.attach(bed.pass()),
        Subject::Bare => bed.attach(bed.bare()),
        Subject::Xdpredir => xdpredir(case, &["attach", "dut0", "--mode", "native"]),
    }
}

fn detach(bed: &Bed, case: &Case, subject: Subject) -> Result<()> {
    match subject {
        Subject::Pass => bed.detach(bed.pass()),
        Subject::Bare => bed.detach(bed.bare()),
        Subject::Xdpredir => xdpredir(case, &["detach", "dut0", "--keep-rules"]),
    }
}

fn add_rules(bed: &Bed, case: &Case) -> Result<()> {
    attach(bed, case, Subject::Xdpredir)?;
    for index in 0..case.backends {
        add_rule(bed, case, &bed::server(index).to_string())?;
    }
    detach(bed, case, Subject::Xdpredir)
}

fn add_rule(bed: &Bed, case: &Case, server: &str) -> Result<()> {
    let (client, port) = (bed::CLIENT.to_string(), bed::PORT.to_string());
    let egress = bed.dut1.to_string();
    let rule = ["rule", "add", "--src", &client, "--port", &port];
    let backend = ["--server", server, "--mac", bed::SINK_MAC];
    let args = [&rule[..], &backend, &["--ifindex", &egress]].concat();
    xdpredir(case, &args)
}

/// Runs the shipped binary with pins of the case's own, in the namespaces of this process.
fn xdpredir(case: &Case, args: &[&str]) -> Result<()> {
    let pins = format!("{}/{}", host::BPFFS, case.name);
    let global = ["--pin-dir", &pins];
    host::run(env!("CARGO_BIN_EXE_xdpredir"), &[&global, args].concat())
}
