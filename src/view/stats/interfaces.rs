//! What became of the packets that arrived at interfaces.

use super::{Earlier, Speed, bytes, cpu, packets, with_rates};
use crate::model::{Actions, Counter, CpuStats, InterfaceStats, Outcome, Outcomes, Rate, Snapshot};
use crate::view::columns::Columns;
use crate::view::trends::{Key, Trends};

/// An action of an interface, or an outcome that led to it.
pub struct Line<'a> {
    interface: &'a InterfaceStats,
    action: &'static str,
    outcome: Option<&'static str>,
    counter: Counter,
    rate: Rate,
    cpus: Vec<(u32, Counter, Rate)>,
}

impl Line<'_> {
    pub fn key(&self) -> Key {
        Key::Interface(self.interface.ifindex, self.action, self.outcome)
    }

    /// What is dropped counts as lost.
    pub fn speed(&self) -> Speed {
        let is_lost = ["drop", "aborted"].contains(&self.action);
        Speed {
            rate: self.rate,
            losing: if is_lost { self.rate.packets } else { 0.0 },
        }
    }

    /// All that it is called.
    pub fn words(&self) -> String {
        let outcome = self.outcome.unwrap_or_default();
        let interface = self.interface;
        format!(
            "{} {} {} {outcome}",
            interface.ifname, interface.mode, self.action
        )
    }
}

/// A line for each action, and one for each outcome that packets had, but for the one that all redirected packets
/// have.
pub fn lines<'a>(snapshot: &'a Snapshot, earlier: Option<&Earlier>) -> Vec<Line<'a>> {
    let all = snapshot.interfaces.iter();
    all.flat_map(|interface| lines_of(interface, earlier))
        .collect()
}

fn lines_of<'a>(interface: &'a InterfaceStats, earlier: Option<&Earlier>) -> Vec<Line<'a>> {
    let shown = |of: &Outcome| of.name != "redirected" && of.counter.packets > 0;
    let mut lines = Vec::new();
    for (action, _) in by_name(&interface.actions) {
        lines.push(line(interface, action, None, earlier));
        let outcomes = interface.outcomes.0.iter();
        let outcomes = outcomes.filter(|of| of.action == action && shown(of));
        lines.extend(outcomes.map(|of| line(interface, action, Some(of.name), earlier)));
    }
    lines
}

fn line<'a>(
    interface: &'a InterfaceStats,
    action: &'static str,
    outcome: Option<&'static str>,
    earlier: Option<&Earlier>,
) -> Line<'a> {
    let before = earlier.and_then(|earlier| earlier.interface(interface));
    let of = |all: &InterfaceStats| counter(&all.actions, &all.outcomes, action, outcome);
    let of_cpu = |cpu: &CpuStats| counter(&cpu.actions, &cpu.outcomes, action, outcome);
    let rate = |now, then: Option<Counter>| {
        let both = earlier.zip(then);
        both.map_or(Rate::default(), |(earlier, then)| earlier.rate(now, then))
    };
    let cpu = |cpu: &CpuStats| {
        let then = before.map(|before| {
            let mut cpus = before.cpus.iter().flatten();
            let same = cpus.find(|other| other.cpu == cpu.cpu);
            same.map_or(Counter::default(), of_cpu)
        });
        let now = of_cpu(cpu);
        (cpu.cpu, now, rate(now, then))
    };
    let cpus = interface.cpus.iter().flatten().map(cpu);
    Line {
        interface,
        action,
        outcome,
        counter: of(interface),
        rate: rate(of(interface), before.map(of)),
        cpus: cpus.filter(|(_, now, _)| now.packets > 0).collect(),
    }
}

/// What was counted of an action, or of an outcome that led to it.
fn counter(actions: &Actions, outcomes: &Outcomes, action: &str, outcome: Option<&str>) -> Counter {
    let found = match outcome {
        Some(name) => {
            let found = outcomes.0.iter().find(|outcome| outcome.name == name);
            found.map(|outcome| outcome.counter)
        }
        None => {
            let mut all = by_name(actions).into_iter();
            let found = all.find(|(name, _)| *name == action);
            found.map(|(_, counter)| counter)
        }
    };
    found.unwrap_or_default()
}

fn by_name(actions: &Actions) -> [(&'static str, Counter); 5] {
    [
        ("redirect", actions.redirect),
        ("pass", actions.pass),
        ("drop", actions.drop),
        ("tx", actions.tx),
        ("aborted", actions.aborted),
    ]
}

/// A line of the table: of all CPUs, or of one.
struct Shown {
    name: String,
    mode: String,
    action: String,
    cpu: Option<u32>,
    counter: Counter,
    rate: Rate,
    key: Option<Key>,
}

/// An interface's name and mode stand in the first of its lines.
pub fn table(lines: &[&Line], has_rates: bool, trends: Option<&Trends>) -> String {
    let mut rows: Vec<Shown> = Vec::new();
    let mut last = None;
    for line in lines {
        let is_first = last.replace(line.interface.ifindex) != Some(line.interface.ifindex);
        rows.extend(shown(line, is_first));
    }
    let has_cpus = lines.iter().any(|line| line.interface.cpus.is_some());
    Columns::of(&rows)
        .text("interface", |row| row.name.clone())
        .text("mode", |row| row.mode.clone())
        .text("action", |row| row.action.clone())
        .when(has_cpus, |table| table.number("cpu", |row| cpu(row.cpu)))
        .number("packets", |row| packets(row.counter))
        .number("bytes", |row| bytes(row.counter))
        .when(has_rates, |table| with_rates(table, |row| row.rate))
        .with_trends(trends, |row| row.key.clone())
        .lines(&["mode", "bytes", "bytes/s"])
}

fn shown(line: &Line, is_first: bool) -> impl Iterator<Item = Shown> {
    let title = |text: String| if is_first { text } else { String::new() };
    let outcome = |name: &str| format!("- {}", name.replace('_', " "));
    let all = Shown {
        name: title(line.interface.ifname.clone()),
        mode: title(line.interface.mode.to_string()),
        action: line.outcome.map_or_else(|| line.action.into(), outcome),
        cpu: None,
        counter: line.counter,
        rate: line.rate,
        key: Some(line.key()),
    };
    let of_cpu = |&(cpu, counter, rate): &(u32, Counter, Rate)| Shown {
        name: String::new(),
        mode: String::new(),
        action: String::new(),
        cpu: Some(cpu),
        counter,
        rate,
        key: None,
    };
    std::iter::once(all).chain(line.cpus.iter().map(of_cpu))
}
