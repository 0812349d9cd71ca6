//! What programs of a chain cost, that only pass, and the program that asks them.

use std::mem::MaybeUninit;
use std::thread::sleep;

use anyhow::{Context as _, Result};

use crate::arrivals::Check;
use crate::bed::Bed;
use crate::product::{Backend, Product};
use crate::report::{Line, Section};
use crate::rounds::take_turns;
use crate::spread::Spread;
use crate::traffic::{CLIENT, Traffic};
use crate::{SETTLE, Setup, host};

const CASE: &str = "1 flow, 1 backend";
/// How many programs, each.
const SUBJECTS: [(&str, usize); 3] = [("no chain", 0), ("1 program", 1), ("5 programs", 5)];

pub fn measure(setup: &Setup) -> Result<Section> {
    let mut storage = MaybeUninit::uninit();
    let mut bed = Bed::new(&mut storage, setup.cpu)?.with_sink()?;
    let pins = pin(&mut bed)?;
    let product = Product::new("chain");
    product.attach("native")?;
    product.add_rule(&["--src", &CLIENT.to_string()], &Backend::first(&bed))?;
    let ns = bed.transmitting(&Traffic::flows(1), |bed| {
        take_turns(setup.rounds, &SUBJECTS, |(name, count)| {
            let pins = &pins[..*count];
            for (priority, pin) in pins {
                product.run(&["chain", "add", "dut0", pin, "--priority", priority])?;
            }
            sleep(SETTLE);
            let ns = bed.ns_per_packet(Check::Rewritten(1)).context(*name)?;
            for (priority, _) in pins {
                product.run(&["chain", "del", "dut0", priority])?;
            }
            Ok(ns)
        })
    })?;
    let mut lines = Vec::new();
    for ((name, _), times) in SUBJECTS.iter().zip(&ns) {
        lines.push(Line::new(CASE, name, Spread::mpps(times), "Mpps"));
        let above = Spread::above(times, &ns[0]);
        lines.push(Line::new(CASE, name, above, "ns over no chain"));
    }
    Ok(Section {
        name: "chain",
        about: "native mode, live, behind programs that pass all",
        lines,
    })
}

/// A program that passes all, pinned as often as a chain may need it, with a priority for each pin.
fn pin(bed: &mut Bed<'_>) -> Result<Vec<(String, String)>> {
    let (_, most) = SUBJECTS[SUBJECTS.len() - 1];
    let pins: Vec<_> = (1..=most)
        .map(|number| (number.to_string(), format!("{}/pass{number}", host::BPFFS)))
        .collect();
    for (_, pin) in &pins {
        bed.skel.progs.pass.pin(pin)?;
    }
    Ok(pins)
}
