//! Chains of programs.

use std::mem::take;

use super::columns::Columns;
use super::units;
use crate::model::{ChainProgram, InterfaceStats};

/// The programs of chains, with the interfaces that they are asked at.
pub fn list(rows: &[(&str, &ChainProgram)]) -> String {
    Columns::of(rows)
        .text("interface", |(interface, _)| interface.to_string())
        .number("priority", |(_, program)| program.priority.to_string())
        .text("program", |(_, program)| program.name.clone())
        .number("id", |(_, program)| {
            let number = program.program_id;
            number.map_or_else(|| "-".into(), |number| number.to_string())
        })
        .text("next on", |(_, program)| program.on.to_string())
        .text("source", |(_, program)| match program.taken_in {
            true => "was attached before".into(),
            false => program.source.clone(),
        })
        .lines(&["source", "id"])
}

/// What the programs of chains made of packets; nothing where there are none.
pub(super) fn stats(interfaces: &[InterfaceStats]) -> String {
    let rows: Vec<_> = interfaces.iter().flat_map(verdicts).collect();
    if rows.is_empty() {
        return String::new();
    }
    let has_cpus = rows.iter().any(|row| row.cpu.is_some());
    Columns::of(&rows)
        .text("interface", |row| row.interface.clone())
        .text("asked before", |row| row.program.clone())
        .text("verdict", |row| row.verdict.into())
        .when(has_cpus, |table| {
            table.number("cpu", |row| row.cpu.clone().unwrap_or_default())
        })
        .number("packets", |row| units::number(row.packets as f64))
        .lines(&[])
}

/// A line of the table: a verdict of all CPUs, or of one.
struct Row {
    interface: String,
    program: String,
    verdict: &'static str,
    /// None: nobody asked for CPUs.
    cpu: Option<String>,
    packets: u64,
}

/// A line for each verdict that packets had. The first one has the interface's name and the program's, too.
fn verdicts(interface: &InterfaceStats) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut ifname = interface.ifname.clone();
    for program in &interface.chain {
        let mut name = program.name.clone();
        let counts = program.counts.all().into_iter().enumerate();
        let seen = counts.filter(|(_, (verdict, packets))| *packets > 0 || *verdict == "pass");
        for (place, (verdict, packets)) in seen {
            rows.push(Row {
                interface: take(&mut ifname),
                program: take(&mut name),
                verdict,
                cpu: program.cpus.as_ref().map(|_| "all".into()),
                packets,
            });
            let cpus = program.cpus.iter().flatten();
            let of_cpus = cpus.map(|cpu| (cpu.cpu, cpu.counts.all()[place].1));
            let seen = of_cpus.filter(|(_, packets)| *packets > 0);
            rows.extend(seen.map(|(cpu, packets)| Row {
                interface: String::new(),
                program: String::new(),
                verdict: "",
                cpu: Some(cpu.to_string()),
                packets,
            }));
        }
    }
    let lost = interface.not_reached.filter(|packets| *packets > 0);
    rows.extend(lost.map(|packets| Row {
        interface: ifname,
        program: "xdpredir".into(),
        verdict: "skipped",
        cpu: None,
        packets,
    }));
    rows
}
