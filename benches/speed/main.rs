//! The shipped program beside others that do the same, or a part of it: every claim of speed, each
//! with what it is measured against in the same run.

mod arrivals;
mod bed;
mod capture;
mod cases;
mod chain;
mod conversation;
mod cost;
mod echo;
mod ends;
mod established;
mod frame;
mod generator;
mod host;
mod hot;
mod iperf;
mod means;
mod peers;
mod prefixes;
mod product;
mod receiver;
mod redirect;
mod relays;
mod report;
mod rounds;
mod rule_sets;
mod rules;
mod shapes;
mod spread;
mod stack;
mod subject;
mod sys;
mod tc;
mod tc_hook;
mod traffic;
mod window;

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

use report::{Report, Section};

/// Packets that the program before has let through have passed.
const SETTLE: Duration = Duration::from_millis(5);
const WINDOW: Duration = Duration::from_millis(30);

/// Measure the shipped program beside others that do the same, or a part of it
#[derive(Parser)]
struct Args {
    /// Only these sections
    sections: Vec<Name>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Rounds for each case
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,

    /// Rules where there are many
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1000..))]
    rules: u32,

    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Name {
    Redirect,
    Hot,
    Stack,
    Rules,
    Cost,
    Conversation,
    Tc,
    Capture,
    Chain,
}

/// What is the same for all sections.
struct Setup {
    cpu: usize,
    /// Where this thread and its children run.
    other_cpus: Vec<usize>,
    rounds: u32,
    rules: u32,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (cpu, other_cpus) = host::reserve_cpu()?;
    let setup = Setup {
        cpu,
        other_cpus,
        rounds: args.rounds,
        rules: args.rules,
    };
    sys::catch_interrupts()?;
    host::mount_bpffs()?;

    let chosen = |name| args.sections.is_empty() || args.sections.contains(name);
    let sections = Name::value_variants()
        .iter()
        .filter(|name| chosen(name))
        .map(|name| name.measure(&setup))
        .collect::<Result<_>>()?;
    let report = Report::new(args.rounds, WINDOW, sections)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}

impl Name {
    fn measure(self, setup: &Setup) -> Result<Section> {
        let (name, measure): (_, fn(&Setup) -> Result<Section>) = match self {
            Self::Redirect => ("redirect", redirect::measure),
            Self::Hot => ("hot", hot::measure),
            Self::Stack => ("stack", stack::measure),
            Self::Rules => ("rules", rules::measure),
            Self::Cost => ("cost", cost::measure),
            Self::Conversation => ("conversation", conversation::measure),
            Self::Tc => ("tc", tc_hook::measure),
            Self::Capture => ("capture", capture::measure),
            Self::Chain => ("chain", chain::measure),
        };
        eprintln!("measuring {name}");
        measure(setup).context(name)
    }
}
