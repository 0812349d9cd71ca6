//! What many rules cost: packet rate, memory, and the time to add one and to load all. Half of them
//! are IPv4, half IPv6, with eight prefix lengths of each.

use std::fs::File;
use std::io::{BufWriter, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::net::Ipv6Addr;
use std::time::Instant;

use anyhow::Result;

use crate::Setup;
use crate::arrivals::Check;
use crate::bed::{self, Bed, SINK_MAC};
use crate::host::kernel_memory;
use crate::prefixes;
use crate::product::{Backend, Ledger, Product};
use crate::report::{Goal, Line, Section};
use crate::rounds::take_turns;
use crate::shapes;
use crate::spread::Spread;
use crate::subject::{Subject, take_turns_live};
use crate::traffic::{PORT, Traffic};

const LOADS: u32 = 3;
const FEW: u32 = 10;
const ONE: &str = "one rule";
const MANY: &str = "a million rules";
const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

struct Rates {
    name: &'static str,
    traffic: Traffic,
    goal: f64,
}

struct Loaded {
    seconds: f64,
    bytes_per_rule: f64,
}

pub fn measure(setup: &Setup) -> Result<Section> {
    let mut storage = MaybeUninit::uninit();
    let mut bed = Bed::new(&mut storage, setup.cpu)?.with_sink()?;
    let [one, few, many] = ["one", "few", "many"].map(Product::new);
    let add = |product: &Product, source: &str| {
        let rule = ["--src", source, "--port", &PORT.to_string()];
        product.add_rule(&rule, &Backend::first(&bed))
    };
    one.prepare(|one| add(one, "0.0.0.0/0"))?;
    few.prepare(|few| (0..FEW).try_for_each(|number| add(few, &format!("192.0.2.{number}"))))?;

    let mut lines = load_lines(&bed, &many, setup.rules)?;
    lines.extend(add_lines(&bed, &few, &many, setup)?);
    let subjects = [(ONE, &one), (MANY, &many)].map(|(name, product)| {
        Ok(Subject {
            name,
            programs: product.programs("native", Ledger::On)?,
            check: Check::Rewritten(1),
        })
    });
    let subjects = subjects.into_iter().collect::<Result<Vec<_>>>()?;
    let v4 = setup.rules / 2;
    let cases = [
        Rates {
            name: "64 flows",
            traffic: Traffic::drawn(v4, 64),
            goal: 0.85,
        },
        Rates {
            name: "random sources",
            traffic: Traffic::drawn(v4, 0),
            goal: 0.50,
        },
    ];
    for case in &cases {
        lines.extend(rate_lines(&mut bed, case, &subjects, setup.rounds)?);
    }
    lines.extend(shapes::lines(&mut bed, setup)?);
    Ok(Section {
        name: "rules",
        about: "one rule, and a million of mixed prefix lengths, half of them IPv6; rules of several shapes; \
                native mode, with the ledger",
        lines,
    })
}

/// Loads the rules several times, and keeps those of the last time.
fn load_lines(bed: &Bed, many: &Product, rules: u32) -> Result<Vec<Line>> {
    let mut loads = Vec::new();
    for load in 0..LOADS {
        loads.push(measure_load(bed, many, rules)?);
        if load + 1 == LOADS {
            many.detach()?;
        } else {
            many.run(&["detach", "dut0"])?;
        }
    }
    let spread =
        |value: fn(&Loaded) -> f64| Spread::of(&loads.iter().map(value).collect::<Vec<_>>());
    let seconds = spread(|load| load.seconds);
    let bytes = spread(|load| load.bytes_per_rule);
    Ok(vec![
        Line::new("rule load", "xdpredir", seconds, "s").goal(Goal::AtMost(2.0)),
        Line::new("memory", "xdpredir", bytes, "B per rule").goal(Goal::AtMost(64.0)),
    ])
}

fn measure_load(bed: &Bed, many: &Product, rules: u32) -> Result<Loaded> {
    let file = rule_file(bed, rules)?;
    let memory = kernel_memory()?;
    many.attach("native")?;
    let start = Instant::now();
    many.load(file)?;
    let seconds = start.elapsed().as_secs_f64();
    let bytes = kernel_memory()?.saturating_sub(memory);
    Ok(Loaded {
        seconds,
        bytes_per_rule: bytes as f64 / f64::from(rules),
    })
}

/// A file without a name, so that the kernel removes it.
fn rule_file(bed: &Bed, rules: u32) -> Result<File> {
    let mut file = BufWriter::new(tempfile::tempfile()?);
    let backend = |server: &str| {
        let ifindex = bed.dut1;
        format!(
            r#""server":"{server}","mac":"{SINK_MAC}","ifindex":{ifindex},"weight":1,"reply":"none""#
        )
    };
    let v4 = backend(&bed::server(0).to_string());
    let v6 = backend(&SERVER_V6.to_string());
    for rule in 0..rules {
        let number = rule / 2;
        let (source, backend) = match rule % 2 {
            0 => (prefixes::v4(number).to_string(), &v4),
            _ => (prefixes::v6(number).to_string(), &v6),
        };
        writeln!(
            file,
            r#"{{"src":"{source}","proto":"udp","port":{PORT},{backend}}}"#
        )?;
    }
    let mut file = file.into_inner()?;
    file.rewind()?;
    Ok(file)
}

fn add_lines(bed: &Bed, few: &Product, many: &Product, setup: &Setup) -> Result<Vec<Line>> {
    let rule = ["--src", "198.51.100.1", "--port", &PORT.to_string()];
    let milliseconds = take_turns(setup.rounds, &[few, many], |product| {
        let start = Instant::now();
        product.add_rule(&rule, &Backend::first(bed))?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        product.run(&[&["rule", "del"], &rule[..]].concat())?;
        Ok(milliseconds)
    })?;
    let [to_few, to_many] = [&milliseconds[0], &milliseconds[1]];
    let beside = Spread::derived([to_many, to_few], |[many, few]| many / few);
    let line = |subject, value, unit| Line::new("rule add", subject, value, unit);
    Ok(vec![
        line("to ten", Spread::of(to_few), "ms"),
        line("to a million", Spread::of(to_many), "ms"),
        line("to a million", beside, "× to ten").goal(Goal::AtMost(2.0)),
    ])
}

fn rate_lines(
    bed: &mut Bed,
    rates: &Rates,
    subjects: &[Subject],
    rounds: u32,
) -> Result<Vec<Line>> {
    let ns = take_turns_live(bed, &rates.traffic, subjects, rounds)?;
    let [one, many] = [&ns[0], &ns[1]];
    let line = |subject, value, unit| Line::new(rates.name, subject, value, unit);
    Ok(vec![
        line(ONE, Spread::mpps(one), "Mpps"),
        line(MANY, Spread::mpps(many), "Mpps"),
        line(MANY, Spread::rate_ratio(many, one), "× one").goal(Goal::AtLeast(rates.goal)),
    ])
}
