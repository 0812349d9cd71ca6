//! Medians and spreads, as a table or as JSON.

use std::fmt;
use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::{Case, Round, Sample, frame};

const LEGEND: &str = "\
ratio     packet rate over the bare redirect's in the same round: median (min to max)
ns/call   run time above that of a program that only passes
verified  instructions that the verifier walked";

#[derive(Serialize)]
pub struct Report {
    kernel: String,
    cpu: String,
    date: String,
    frame_bytes: usize,
    rounds: u32,
    seconds: f64,
    cases: Vec<CaseReport>,
}

#[derive(Serialize)]
pub struct CaseReport {
    name: &'static str,
    flows: u32,
    backends: usize,
    bare: Summary,
    xdpredir: Summary,
    /// xdpredir's packet rate over bare's of the same round.
    ratio: Spread,
}

#[derive(Serialize)]
struct Summary {
    mpps: f64,
    /// Run time per call above that of a program that only passes.
    ns: f64,
    verified_insns: u32,
}

#[derive(Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Report {
    pub fn new(rounds: u32, window: Duration, cases: Vec<CaseReport>) -> Result<Self> {
        Ok(Self {
            kernel: kernel()?,
            cpu: cpu()?,
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            frame_bytes: frame::LEN,
            rounds,
            seconds: window.as_secs_f64(),
            cases,
        })
    }
}

impl CaseReport {
    pub fn new(case: &Case, rounds: &[Round]) -> Self {
        let ratio = |round: &Round| round.xdpredir.mpps / round.bare.mpps;
        Self {
            name: case.name,
            flows: case.flows,
            backends: case.backends,
            bare: Summary::new(rounds.iter().map(|round| round.bare)),
            xdpredir: Summary::new(rounds.iter().map(|round| round.xdpredir)),
            ratio: Spread::new(rounds.iter().map(ratio)),
        }
    }
}

impl Summary {
    fn new(samples: impl Iterator<Item = Sample> + Clone) -> Self {
        let insns = samples.clone().map(|sample| sample.verified_insns);
        Self {
            mpps: Spread::new(samples.clone().map(|sample| sample.mpps)).median,
            ns: Spread::new(samples.map(|sample| sample.ns)).median,
            verified_insns: insns.max().unwrap_or_default(),
        }
    }
}

impl Spread {
    fn new(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = ((values.len() - 1) / 2, values.len() / 2);
        Self {
            median: (values[low] + values[high]) / 2.0,
            min: values[0],
            max: values[values.len() - 1],
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, rounds, seconds) = (self.frame_bytes, self.rounds, self.seconds);
        writeln!(f, "{} | {} | {}", self.kernel, self.cpu, self.date)?;
        writeln!(
            f,
            "native mode, {bytes}-byte UDP frames on one core, medians of {rounds} rounds of {seconds} s"
        )?;
        writeln!(f, "{}", self.table())?;
        write!(f, "{LEGEND}")
    }
}

impl Report {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
            "case", "flows", "backends", "program", "Mpps", "ratio", "ns/call", "verified",
        ]);
        for case in &self.cases {
            table.add_row(case.row("bare redirect_map", &case.bare, "1".into()));
            table.add_row(case.row("xdpredir", &case.xdpredir, case.ratio.to_string()));
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            if index != 0 && index != 3 {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

impl CaseReport {
    fn row(&self, program: &str, summary: &Summary, ratio: String) -> [String; 8] {
        [
            self.name.to_string(),
            self.flows.to_string(),
            self.backends.to_string(),
            program.to_string(),
            format!("{:.2}", summary.mpps),
            ratio,
            format!("{:.1}", summary.ns),
            summary.verified_insns.to_string(),
        ]
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ({:.3} to {:.3})", self.median, self.min, self.max)
    }
}

fn kernel() -> Result<String> {
    let uname = nix::sys::utsname::uname()?;
    let words = [uname.sysname(), uname.release(), uname.machine()];
    Ok(words.map(|word| word.to_string_lossy()).join(" "))
}

fn cpu() -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .and_then(|line| line.split_once(':'));
    Ok(model
        .map_or("unknown CPU", |(_, name)| name.trim())
        .to_string())
}
