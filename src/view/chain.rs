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
    Columns::of(&rows)
        .text("interface", |([interface, _], ..)| interface.clone())
        .text("asked before", |([_, program], ..)| program.clone())
        .text("verdict", |(_, verdict, _)| verdict.to_string())
        .number("packets", |(.., packets)| units::number(*packets as f64))
        .lines(&[])
}

/// A line for each verdict that packets had. The first one has the interface's name and the program's, too.
fn verdicts(interface: &InterfaceStats) -> Vec<([String; 2], &'static str, u64)> {
    let mut rows = Vec::new();
    let mut ifname = interface.ifname.clone();
    for program in &interface.chain {
        let mut title = [take(&mut ifname), program.name.clone()];
        let counts = program.counts.all().into_iter();
        let seen = counts.filter(|(name, packets)| *packets > 0 || *name == "pass");
        rows.extend(seen.map(|(verdict, packets)| (take(&mut title), verdict, packets)));
    }
    let lost = interface.not_reached.filter(|packets| *packets > 0);
    rows.extend(lost.map(|packets| ([ifname, "xdpredir".into()], "skipped", packets)));
    rows
}
