//! Rules that name their packets in several ways beside rules that all do so in one way. Each takes
//! one in four packets.

use std::fs::File;
use std::io::{Seek as _, Write as _};

use anyhow::Result;

use crate::Setup;
use crate::arrivals::Check;
use crate::bed::{Bed, SINK_MAC, server};
use crate::product::{Ledger, Product};
use crate::report::{Goal, Line};
use crate::spread::Spread;
use crate::subject::{Subject, take_turns_live};
use crate::traffic::{SERVICE, Traffic};

const CASE: &str = "4 rules";
const PORTS: [u16; 4] = [7999, 8001, 9500, 20_000];

pub fn lines(bed: &mut Bed, setup: &Setup) -> Result<Vec<Line>> {
    let one_shape = PORTS.map(|port| format!(r#""port":{port}"#));
    let four_shapes = [
        format!(r#""dst":"{SERVICE}","port":{}"#, PORTS[0]),
        format!(r#""port":{}"#, PORTS[1]),
        r#""port":"9000-9999""#.into(),
        r#""port":"any""#.into(),
    ];
    let subjects = [
        subject(bed, "1 shape", "one-shape", &one_shape)?,
        subject(bed, "4 shapes", "four-shapes", &four_shapes)?,
    ];
    let traffic = Traffic::flows(1).to(&PORTS);
    let ns = take_turns_live(bed, &traffic, &subjects, setup.rounds)?;
    let [one, four] = [&ns[0], &ns[1]];
    let line = |subject, value, unit| Line::new(CASE, subject, value, unit);
    Ok(vec![
        line("1 shape", Spread::mpps(one), "Mpps"),
        line("4 shapes", Spread::mpps(four), "Mpps"),
        line("4 shapes", Spread::rate_ratio(four, one), "× 1 shape").goal(Goal::AtLeast(0.90)),
    ])
}

fn subject(bed: &Bed, name: &'static str, pins: &str, matches: &[String; 4]) -> Result<Subject> {
    let product = Product::new(pins);
    product.prepare(|product| product.load(rule_file(bed, matches)?))?;
    Ok(Subject {
        name,
        programs: product.programs("native", Ledger::Off)?,
        check: Check::Rewritten(matches.len()),
    })
}

/// A rule for each match, with a server of its own.
fn rule_file(bed: &Bed, matches: &[String; 4]) -> Result<File> {
    let mut file = tempfile::tempfile()?;
    let ifindex = bed.dut1;
    for (index, rule) in matches.iter().enumerate() {
        let server = server(index);
        writeln!(
            file,
            r#"{{"src":"0.0.0.0/0","proto":"udp",{rule},"server":"{server}","mac":"{SINK_MAC}","ifindex":{ifindex},"weight":1,"reply":"none"}}"#
        )?;
    }
    file.rewind()?;
    Ok(file)
}
