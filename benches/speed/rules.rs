//! What many rules cost: packet rate, memory, and the time to add one and to load all. Half of them
//! are IPv4, half IPv6, with eight prefix lengths of each.

use std::fs::File;
use std::io::{BufWriter, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::net::Ipv6Addr;
use std::thread::sleep;
use std::time::Instant;

use anyhow::Result;

use crate::bed::{self, Bed, PORT, SINK_MAC, Traffic};
use crate::host::kernel_memory;
use crate::prefixes::{self, LENGTHS};
use crate::product::Product;
use crate::redirect::{check_rewritten, packet_rate};
use crate::report::{Goal, Line, Section, Spread};
use crate::rounds::take_turns;
use crate::{Setup, WARM_UP};

const LOADS: u32 = 3;
const FEW: u32 = 10;
const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

struct Rates {
    name: &'static str,
    traffic: Traffic,
    goal: Option<Goal>,
}

struct Loaded {
    seconds: f64,
    bytes_per_rule: f64,
}

pub fn measure(setup: &Setup) -> Result<Section> {
    let mut storage = MaybeUninit::uninit();
    let mut bed = Bed::new(&mut storage, setup.cpu)?.with_sink()?;
    let [one, few, many] = ["one", "few", "many"].map(Product::new);
    one.prepare(|one| one.add_rule(&bed, "0.0.0.0/0", 0))?;
    few.prepare(|few| {
        (0..FEW).try_for_each(|number| few.add_rule(&bed, &format!("192.0.2.{number}"), 0))
    })?;

    let mut lines = load_lines(&bed, &many, setup.rules)?;
    lines.extend(add_lines(&bed, &few, &many, setup)?);
    let v4 = setup.rules / 2;
    let cases = [
        Rates {
            name: "64 flows",
            traffic: Traffic::drawn(v4, 64),
            goal: Some(Goal::AtLeast(0.85)),
        },
        Rates {
            name: "random sources",
            traffic: Traffic::drawn(v4, 0),
            goal: None,
        },
    ];
    for case in &cases {
        lines.extend(rate_lines(&mut bed, case, [&one, &many], setup.rounds)?);
    }
    Ok(Section {
        name: "rules",
        about: "one rule, and a million of mixed prefix lengths, half of them IPv6; native mode",
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
    let seconds = Spread::of(&loads, |load| load.seconds);
    let bytes = Spread::of(&loads, |load| load.bytes_per_rule);
    Ok(vec![
        Line::new("rule load", "xdpredir", seconds, "s").goal(Goal::AtMost(5.0)),
        Line::new("memory", "xdpredir", bytes, "B per rule").goal(Goal::AtMost(256.0)),
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
        format!(r#""server":"{server}","mac":"{SINK_MAC}","ifindex":{ifindex},"weight":1"#)
    };
    let v4 = backend(&bed::server(0).to_string());
    let v6 = backend(&SERVER_V6.to_string());
    for rule in 0..rules {
        let number = rule / 2;
        let (source, backend) = match rule % 2 {
            0 => (prefixes::v4(number, &LENGTHS).to_string(), &v4),
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
    let source = "198.51.100.1";
    let samples = take_turns(setup.rounds, &[few, many], |product| {
        let start = Instant::now();
        product.add_rule(bed, source, 0)?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        product.run(&["rule", "del", "--src", source, "--port", &PORT.to_string()])?;
        Ok(milliseconds)
    })?;
    let value = |&sample: &f64| sample;
    let line = |subject, value, unit| Line::new("rule add", subject, value, unit);
    Ok(vec![
        line("to ten", Spread::of(&samples[0], value), "ms"),
        line("to a million", Spread::of(&samples[1], value), "ms"),
        line(
            "to a million",
            Spread::ratio(&samples[1], &samples[0], value),
            "× to ten",
        )
        .goal(Goal::AtMost(2.0)),
    ])
}

fn rate_lines(
    bed: &mut Bed,
    rates: &Rates,
    products: [&Product; 2],
    rounds: u32,
) -> Result<Vec<Line>> {
    let samples = take_turns(rounds, &products, |product| {
        product.attach("native")?;
        let mpps = bed.transmitting(rates.traffic, |bed| {
            sleep(WARM_UP);
            packet_rate(bed, |arrivals| check_rewritten(arrivals, 1))
        })?;
        product.detach()?;
        Ok(mpps)
    })?;
    let value = |&sample: &f64| sample;
    let line = |subject, value, unit| Line::new(rates.name, subject, value, unit);
    let ratio = line(
        "a million rules",
        Spread::ratio(&samples[1], &samples[0], value),
        "× one",
    );
    Ok(vec![
        line("one rule", Spread::of(&samples[0], value), "Mpps"),
        line("a million rules", Spread::of(&samples[1], value), "Mpps"),
        match rates.goal {
            Some(goal) => ratio.goal(goal),
            None => ratio,
        },
    ])
}
