//! Chains of programs.

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
    let mut rows = Vec::new();
    for interface in interfaces {
        for program in &interface.chain {
            let counts = program.counts.all().into_iter();
            let counted = counts.filter(|(name, packets)| *packets > 0 || *name == "pass");
            rows.extend(counted.map(|(verdict, packets)| {
                (&interface.ifname, program.name.clone(), verdict, packets)
            }));
        }
        let lost = interface.not_reached.filter(|packets| *packets > 0);
        rows.extend(lost.map(|packets| {
            (&interface.ifname, "xdpredir".into(), "skipped", packets)
        }));
    }
    if rows.is_empty() {
        return String::new();
    }
    Columns::of(&rows)
        .text("interface", |(interface, ..)| interface.to_string())
        .text("asked before", |(_, program, ..)| program.clone())
        .text("verdict", |(_, _, verdict, _)| verdict.to_string())
        .number("packets", |(.., packets)| units::number(*packets as f64))
        .lines(&[])
}
