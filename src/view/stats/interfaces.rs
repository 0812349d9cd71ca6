//! What became of the packets that arrived at interfaces.

use super::{Earlier, Speed, bytes, cpu, packets, with_rates};
use crate::model::{Actions, Counter, InterfaceStats, Outcomes, Rate, Snapshot};
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
    let before = earlier.and_then(|earlier| earlier.interface(interface));
    let rate = |now, before| earlier.map_or(Rate::default(), |earlier| earlier.rate(now, before));
    // All have the same places.
    let now = counted(&interface.actions, &interface.outcomes);
    let then = before.map(|before| counted(&before.actions, &before.outcomes));
    let by_cpu = |interface: &InterfaceStats| -> Vec<(u32, Vec<Counted>)> {
        let cpus = interface.cpus.iter().flatten();
        cpus.map(|cpu| (cpu.cpu, counted(&cpu.actions, &cpu.outcomes)))
            .collect()
    };
    let cpus = by_cpu(interface);
    let cpus_then = before.map(by_cpu);
    let of_cpus = |place: usize| {
        let counter = |(number, counted): &(u32, Vec<Counted>)| (*number, counted[place].counter);
        let some = cpus.iter().map(counter);
        some.filter(|(_, now)| now.packets > 0)
            .map(|(number, now)| {
                let before = cpus_then.as_ref().map_or(now, |then| {
                    let found = then.iter().map(counter).find(|(cpu, _)| *cpu == number);
                    found.map_or(Counter::default(), |(_, counter)| counter)
                });
                (number, now, rate(now, before))
            })
            .collect()
    };
    let line = |(place, now): (usize, &Counted)| {
        let before = then
            .as_ref()
            .map_or(now.counter, |then| then[place].counter);
        Line {
            interface,
            action: now.action,
            outcome: now.outcome,
            counter: now.counter,
            rate: rate(now.counter, before),
            cpus: of_cpus(place),
        }
    };
    let is_shown = |(_, now): &(usize, &Counted)| {
        now.outcome.is_none() || now.outcome != Some("redirected") && now.counter.packets > 0
    };
    now.iter().enumerate().filter(is_shown).map(line).collect()
}

/// The counter of an action, or of an outcome.
struct Counted {
    action: &'static str,
    outcome: Option<&'static str>,
    counter: Counter,
}

/// The actions, each followed by the outcomes that lead to it.
fn counted(actions: &Actions, outcomes: &Outcomes) -> Vec<Counted> {
    let all = [
        ("redirect", actions.redirect),
        ("pass", actions.pass),
        ("drop", actions.drop),
        ("tx", actions.tx),
        ("aborted", actions.aborted),
    ];
    let outcomes_of = |action| {
        let of = outcomes.0.iter().filter(move |of| of.action == action);
        of.map(move |of| (action, Some(of.name), of.counter))
    };
    all.into_iter()
        .flat_map(|(action, counter)| {
            std::iter::once((action, None, counter)).chain(outcomes_of(action))
        })
        .map(|(action, outcome, counter)| Counted {
            action,
            outcome,
            counter,
        })
        .collect()
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
