//! Packets of connections, hot: what it costs to remember them.

use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};

use crate::Setup;
use crate::bed::{Bed, Hook};
use crate::hot::{PASS, REPEAT, RUNS_PER_ROUND, XDP_PASS, XDP_REDIRECT};
use crate::product::{Backend, Ledger, Product};
use crate::report::{Goal, Line};
use crate::spread::Spread;
use crate::subject::Programs;
use crate::traffic::{PORT, SERVICE, Traffic};

const NONE: &str = "--reply none";
const NAT: &str = "--reply nat";
const ANSWERS: &str = "answers";

/// A power of two, and room for them: where half of it is free, hardly any has to make room for another.
const MANY: u32 = 1 << 20;
const ROOM_FOR_MANY: &str = "2097152";

struct Case {
    name: &'static str,
    requests: Traffic,
    /// None where they are not measured.
    answers: Option<Traffic>,
    goal: Option<f64>,
    /// Packets before the first that is measured.
    begin: u32,
    /// How often it is measured at most: the table becomes full.
    runs: u32,
    /// With a larger table than that of the others.
    in_large_table: bool,
}

/// In an order in which the table is full at the end.
const CASES: [Case; 5] = [
    Case {
        name: "1 connection",
        requests: Traffic::flows(1),
        answers: Some(Traffic::answers(1)),
        goal: Some(8.0),
        begin: 1,
        runs: u32::MAX,
        in_large_table: false,
    },
    Case {
        name: "1,000 connections",
        requests: Traffic::flows(1000),
        answers: Some(Traffic::answers(1000)),
        goal: Some(8.0),
        begin: 1000,
        runs: u32::MAX,
        in_large_table: false,
    },
    Case {
        name: "each packet begins one",
        requests: Traffic::clients(0),
        answers: None,
        goal: None,
        begin: 0,
        runs: 4,
        in_large_table: false,
    },
    Case {
        name: "each begins one and ends one",
        requests: Traffic::clients(0),
        answers: None,
        goal: None,
        begin: 1 << 19,
        runs: u32::MAX,
        in_large_table: false,
    },
    Case {
        name: "a million connections at random",
        requests: Traffic::clients(MANY),
        answers: None,
        goal: None,
        begin: MANY,
        runs: u32::MAX,
        in_large_table: true,
    },
];

/// The programs where requests and where answers arrive.
struct Subjects {
    pass: Programs,
    none: Programs,
    nat: Programs,
    answers: Programs,
    /// As `nat`, with a large table.
    large: Programs,
}

pub fn lines(setup: &Setup) -> Result<Vec<Line>> {
    let mut storage = MaybeUninit::uninit();
    let mut bed = Bed::new(&mut storage, setup.cpu)?.with_sink()?;
    // So that answers can be redirected there, too.
    bed.attach_sink("generator")?;
    let [none, _] = programs(&bed, "none", &[])?;
    let [nat, answers] = programs(&bed, "nat", &[])?;
    let [large, _] = programs(&bed, "nat", &["--connections", ROOM_FOR_MANY])?;
    let pass = Programs::new(&bed.skel.progs.pass)?;
    let subjects = Subjects {
        pass,
        none,
        nat,
        answers,
        large,
    };
    bed.attach(bed.skel.progs.call_subject.as_fd(), Hook::Native)?;
    let mut lines = Vec::new();
    for case in &CASES {
        lines.extend(case.lines(&mut bed, &subjects, setup).context(case.name)?);
    }
    Ok(lines)
}

fn programs(bed: &Bed, reply: &str, attach: &[&str]) -> Result<[Programs; 2]> {
    let name = format!("conversation-{reply}{}", attach.concat());
    let product = Product::at(&name, &["dut0", "dut1"]);
    let [to, port] = [SERVICE.to_string(), PORT.to_string()];
    let options = ["--dst", &to, "--port", &port, "--reply", reply];
    product.attach_with("native", attach)?;
    product.add_conversation(&options, &Backend::first(bed))?;
    product.detach()?;
    let all = product.all_programs("native", Ledger::Off)?;
    Ok(all.try_into().ok().expect("one for each device"))
}

impl Case {
    fn lines(&self, bed: &mut Bed, subjects: &Subjects, setup: &Setup) -> Result<Vec<Line>> {
        let Subjects {
            pass,
            none,
            answers,
            ..
        } = subjects;
        let nat = match self.in_large_table {
            true => &subjects.large,
            false => &subjects.nat,
        };
        let length = self.requests.frame.length;
        let ns_per_call = |bed: &Bed, name, programs: &Programs, expected| {
            bed.ns_per_call(programs.as_fd(), length, expected)
                .context(name)
        };
        bed.set_traffic(&self.requests)?;
        for _ in 0..self.begin.div_ceil(REPEAT) {
            ns_per_call(bed, NAT, nat, XDP_REDIRECT)?;
        }
        let runs = self.runs.min(setup.rounds * RUNS_PER_ROUND);
        let requests = [
            (PASS, pass, XDP_PASS),
            (NONE, none, XDP_REDIRECT),
            (NAT, nat, XDP_REDIRECT),
        ];
        let mut ns = [const { Vec::new() }; 4];
        for _ in 0..runs {
            for ((name, programs, expected), ns) in requests.iter().zip(&mut ns) {
                ns.push(ns_per_call(bed, name, programs, *expected)?);
            }
        }
        if let Some(traffic) = &self.answers {
            bed.set_traffic(traffic)?;
            for _ in 0..runs {
                ns[3].push(ns_per_call(bed, ANSWERS, answers, XDP_REDIRECT)?);
            }
        }
        Ok(self.judge(&ns))
    }

    fn judge(&self, [pass, none, nat, answers]: &[Vec<f64>; 4]) -> Vec<Line> {
        let line = |subject, value, unit| Line::new(self.name, subject, value, unit);
        let over_pass = |subject, ns| line(subject, Spread::above(ns, pass), "ns over pass");
        let mut lines = vec![over_pass(NONE, none), over_pass(NAT, nat)];
        let over_none = line(NAT, Spread::above(nat, none), "ns over none");
        lines.push(match self.goal {
            Some(goal) => over_none.goal(Goal::AtMost(goal)),
            None => over_none,
        });
        if self.requests.addresses == 0 && self.requests.clients {
            let rate = Spread::derived([nat, pass], |[nat, pass]| 1e3 / (nat - pass));
            lines.push(line(NAT, rate, "M connections/s"));
        }
        if self.answers.is_some() {
            lines.push(over_pass(ANSWERS, answers));
            let over_requests = line(ANSWERS, Spread::above(answers, nat), "ns over requests");
            lines.push(over_requests.goal(Goal::AtMost(0.0)));
        }
        lines
    }
}
